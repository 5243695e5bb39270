"""Sends the same images to two versions of a network, and compares their answers and latencies."""

from __future__ import annotations

import functools
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from resnet_client import Client, ResponseError, example_images
from resnet_client.images import find

_SEED = 20
_SMALLEST_CROP = 0.6
# More than one, so that the network also computes batches.
MAX_IN_FLIGHT = 4

Pixels = npt.NDArray[np.uint8]
Probabilities = npt.NDArray[np.float64]


@functools.cache
def load_images(directory: Path | None, *, side: int, count: int) -> list[Pixels]:
    """Return images to compare on, the same ones for the same arguments.

    Args:
        directory: it is searched for images, with its subdirectories; None for crops of images that installed
            packages bundle.
        side: length of each image's short side, in pixels. With the size that the network's preprocessing resizes
            to, no resizing is left, so that the network's time is measured.
        count: number of images; fewer if the directory has fewer.

    Returns:
        uint8 arrays, shape (height, width, 3), RGB.

    Raises:
        OSError: no images were found, or one cannot be read.
    """
    if directory is None:
        return _crops(side, count)
    paths = list(find(directory))
    if not paths:
        raise FileNotFoundError(f"{directory} contains no images")
    # Spread over the whole directory, which often has a subdirectory per class.
    count = min(count, len(paths))
    chosen = [paths[index * len(paths) // count] for index in range(count)]
    return [np.asarray(ImageOps.cover(_open(path), (side, side))) for path in chosen]


def _crops(side: int, count: int) -> list[Pixels]:
    found = [_open(path) for path in example_images.everyday()]
    if not found:
        raise FileNotFoundError(
            f"the example images are not installed: name a directory with --images, or {example_images.INSTALL}"
        )
    chance = random.Random(_SEED)  # noqa: S311  # the same crops every time
    return [_crop(found[number % len(found)], side, chance) for number in range(count)]


def _crop(image: Image.Image, side: int, chance: random.Random) -> Pixels:
    size = chance.uniform(_SMALLEST_CROP, 1) * min(image.size)
    left, top = chance.uniform(0, image.width - size), chance.uniform(0, image.height - size)
    return np.asarray(image.resize((side, side), box=(left, top, left + size, top + size)))


def _open(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            return ImageOps.exif_transpose(image).convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as exc:
        raise OSError(f"{path} cannot be read as an image: {exc}") from exc


def probabilities(
    client: Client,
    images: Sequence[Pixels],
    classes: int,
    model: str,
    *,
    version: int | None = None,
    encoded: bool = False,
) -> Probabilities:
    """Classify images with a network, or with an ensemble that uses one.

    Args:
        client: sends the requests.
        images: as from :func:`load_images`.
        classes: number of the model's classes.
        model: its name.
        version: None for the one in service.
        encoded: whether to send encoded images, for ensembles, instead of pixels.

    Returns:
        float64 array, shape (images, classes).

    Raises:
        ResnetClientError: a request failed.
        ResponseError: the answer is not a probability for each of the classes.
    """
    outcomes = client.classify_many(
        images,
        max_in_flight=MAX_IN_FLIGHT,
        top_k=classes + 1,  # shows whether there are more
        model=model,
        model_version=None if version is None else str(version),
        preprocessing="server" if encoded else "client",
    )
    answers = np.zeros((len(images), classes))
    for answer, outcome in zip(answers, outcomes, strict=True):
        found = {prediction.index: prediction.probability for prediction in outcome.result.predictions}
        if found.keys() != set(range(classes)):
            raise ResponseError(f"{model} returns {len(found)} classes instead of {classes}")
        answer[:] = [found[index] for index in range(classes)]
    return answers


def top_1(answers: Probabilities) -> npt.NDArray[np.intp]:
    """Return the most probable class of each image; for a single class, whether its probability rounds to 1."""
    found: npt.NDArray[np.intp] = answers.argmax(axis=1) if answers.shape[1] > 1 else np.rint(answers[:, 0])
    return found


def latencies_s(
    client: Client, old: tuple[str, int], new: tuple[str, int], images: Sequence[Pixels]
) -> npt.NDArray[np.float64]:
    """Time single calls of two models, (name, version) each, alternating, so that other load affects both.

    Returns:
        Seconds, float64 array, shape (2, images): old, new.

    Raises:
        ResnetClientError: a call failed.
    """
    durations_s = np.zeros((2, len(images)))
    for number, image in enumerate(images):
        # The second call of a pair benefits from warm caches, so each model is first half of the time.
        for which in (0, 1) if number % 2 else (1, 0):
            model, version = (old, new)[which]
            started_s = time.perf_counter()
            client.classify(image, top_k=1, model=model, model_version=str(version), preprocessing="client")
            durations_s[which, number] = time.perf_counter() - started_s
    return durations_s
