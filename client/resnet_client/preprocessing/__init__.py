"""Preprocess an encoded image to the pixels that the network takes.

The client uses it for ``preprocessing="client"``; the build copies it next to the served model `preprocess`, which
imports it as ``preprocessing``. It needs only numpy and Pillow, so that it runs in Triton's Python backend.

An image is checked (`limits`, `image_checks`, `tiff`, `avif`) before it is decoded (`decoding`), a large JPEG at a
fraction of its size. Then `crop` and `resampling` do the same as torchvision's ``transforms.ImageClassification`` with
a ``PIL.Image`` (resize the short side, crop the centre), and two steps that torchvision does not: apply the EXIF
orientation and convert to 8-bit RGB. Normalisation is part of the exported network.
"""

from .config import PreprocessConfig
from .cpus import available_cpus, threads_per_instance
from .crop import crop_pixels
from .decoding import decode, opened, orientation, prepare, to_rgb
from .limits import InvalidImageError, Limits
from .resampling import INTERPOLATIONS

__all__ = [
    "INTERPOLATIONS",
    "InvalidImageError",
    "Limits",
    "PreprocessConfig",
    "available_cpus",
    "crop_pixels",
    "decode",
    "opened",
    "orientation",
    "prepare",
    "threads_per_instance",
    "to_rgb",
]
