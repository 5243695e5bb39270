"""From one encoded photo to the pixels the network was trained on.

The one place that knows how: the served model `preprocess` imports this package from its version folder,
and the client ships it as `resnet_client._photo` for ``preprocessing="client"``. Only numpy and Pillow
are needed, because nothing else is promised inside Triton's Python backend; what else is there makes it faster.

Photos come from strangers. On their way they are measured (`limits`), reduced to one picture without
metadata (`containers`, `tiff`), and only then decoded (`pixels`), large JPEGs at a fraction of their size. The
rest (`crop`, `resampling`) is what torchvision's ``transforms.ImageClassification`` does with a ``PIL.Image`` (resize
the short side, crop the centre), and two steps that torchvision leaves to its caller: the EXIF orientation is applied
and the colours become 8-bit RGB. Normalisation is part of the exported network.
"""

from .crop import crop_pixels
from .limits import Limits, PhotoError
from .pixels import decode, prepare, to_rgb
from .recipe import Recipe

__all__ = ["Limits", "PhotoError", "Recipe", "crop_pixels", "decode", "prepare", "to_rgb"]
