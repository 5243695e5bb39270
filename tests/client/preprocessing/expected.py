"""The pixels that torchvision's own functions make of an image."""

import numpy as np
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812  # torchvision's own convention


def torchvision_pixels(image, preprocess_config):
    """The steps of ``transforms.ImageClassification`` before normalisation, as integers that can be subtracted."""
    resized = F.resize(
        image, [preprocess_config.resize], InterpolationMode(preprocess_config.interpolation), antialias=True
    )
    return np.asarray(F.center_crop(resized, [preprocess_config.crop, preprocess_config.crop])).astype(int)
