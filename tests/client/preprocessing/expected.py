"""The pixels that torchvision's own functions make of an image."""

from __future__ import annotations

import numpy as np
from PIL import Image
from resnet_client.preprocessing import Recipe
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as F  # noqa: N812  # torchvision's own convention


def torchvision_pixels(image: Image.Image, recipe: Recipe) -> np.ndarray:
    """The steps of ``transforms.ImageClassification`` before normalisation, as integers that can be subtracted."""
    resized = F.resize(image, [recipe.resize], InterpolationMode(recipe.interpolation), antialias=True)
    return np.asarray(F.center_crop(resized, [recipe.crop, recipe.crop])).astype(int)
