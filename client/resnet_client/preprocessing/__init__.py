"""From one encoded image to the pixels the network was trained on.

The client uses it for ``preprocessing="client"``; the build copies it next to the served model `preprocess`, which
imports it as ``preprocessing``. It needs numpy and Pillow only, because Triton's Python backend promises nothing else.

An image is measured (`limits`), checked (`containers`, `tiff`, `avif`) and only then decoded (`pixels`), a large JPEG
at a fraction of its size. The rest (`crop`, `resampling`) is what torchvision's ``transforms.ImageClassification`` does
with a ``PIL.Image`` (resize the short side, crop the centre), and two steps that torchvision leaves to its caller: the
EXIF orientation is applied and the colours become 8-bit RGB. Normalisation is part of the exported network.
"""

from .config import PreprocessConfig
from .crop import crop_pixels
from .limits import InvalidImageError, Limits
from .pixels import decode, opened, orientation, prepare, to_rgb

__all__ = [
    "InvalidImageError",
    "Limits",
    "PreprocessConfig",
    "crop_pixels",
    "decode",
    "opened",
    "orientation",
    "prepare",
]
__all__ += ["to_rgb"]
