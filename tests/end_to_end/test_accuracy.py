"""The promise of the product: every way through it gives the right class, and the same one.

With RESNET_TEST_IMAGES=all, all ImageNet images that are at hand go through all sixteen ways; by default some of them
through eight, in which any three choices meet.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from PIL import Image
from resnet_client import AsyncClient, Client
from resnet_client.preprocessing import PreprocessConfig, prepare
from resnet_serve import TritonServer
from torchvision.transforms import functional as F  # noqa: N812  # torchvision's own convention

if TYPE_CHECKING:
    from conftest import LabelledImage

ALL = os.environ.get("RESNET_TEST_IMAGES") == "all"
IMAGES_BY_DEFAULT = 10
MODELS = ("resnet50", "resnet50_torchscript")
Top5 = list[tuple[int, ...]]
Way = Callable[[str, list[Path], str, str], Top5]


@pytest.fixture(scope="module")
def sample(imagenet_sample: list[LabelledImage]) -> list[LabelledImage]:
    """The images to use, spread over the classes."""
    if ALL:
        return imagenet_sample
    return imagenet_sample[:: max(1, len(imagenet_sample) // IMAGES_BY_DEFAULT)]


def blocking(url: str, paths: list[Path], model: str, preprocessing: str) -> Top5:
    """Top-5 indices by ``Client``."""
    with Client(url, model=model, preprocessing=preprocessing) as client:
        return [tuple(p.index for p in outcome.result.predictions) for outcome in client.classify_many(paths)]


def asynchronous(url: str, paths: list[Path], model: str, preprocessing: str) -> Top5:
    """Top-5 indices by ``AsyncClient``."""

    async def run() -> Top5:
        async with AsyncClient(url, model=model, preprocessing=preprocessing) as client:
            return [tuple(p.index for p in outcome.result.predictions) async for outcome in client.classify_many(paths)]

    return asyncio.run(run())


@pytest.mark.timeout(900)
def test_classify_gives_the_right_class_by_every_way(all_models: TritonServer, sample: list[LabelledImage]) -> None:
    """Top-1 and top-5 by both models, gRPC and HTTP, sync and async, server's and client's preprocessing."""
    paths, expected = [image.path for image in sample], [image.class_index for image in sample]
    ways: tuple[Way, ...] = (blocking, asynchronous)
    urls, places = (all_models.grpc_url, all_models.http_url), ("server", "client")
    answers: dict[tuple[str, ...], Top5] = {}
    for choices in itertools.product((0, 1), repeat=4):
        if ALL or sum(choices) % 2 == 0:
            model, url, way, place = (
                options[choice] for options, choice in zip((MODELS, urls, ways, places), choices, strict=True)
            )
            answers[model, url, way.__name__, place] = way(url, paths, model, place)
    assert len(answers) == (16 if ALL else 8)
    for name, top5 in answers.items():
        top1_right = np.mean([guess[0] == index for guess, index in zip(top5, expected, strict=True)])
        top5_right = np.mean([index in guess for guess, index in zip(top5, expected, strict=True)])
        print(f"{' '.join(name)}: top-1 {top1_right:.3f}, top-5 {top5_right:.3f}")  # noqa: T201  # shown by pytest -s
        assert top1_right >= 0.9, name
        assert top5_right >= 0.99, name
    for model in MODELS:
        top1s = zip(*([guess[0] for guess in top5] for name, top5 in answers.items() if name[0] == model), strict=True)
        assert np.mean([len(set(indices)) == 1 for indices in top1s]) >= 0.995, model


def enlarged(path: Path, times: int) -> bytes:
    """The image as a larger JPEG."""
    buffer = io.BytesIO()
    image = Image.open(path).convert("RGB")
    image.resize((image.width * times, image.height * times)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
@pytest.mark.parametrize(("times", "most"), [(1, 0.5), (4, 1.5)], ids=["whole", "reduced"])
def test_preprocessing_equals_torchvisions(
    repository: Path, sample: list[LabelledImage], times: int, most: float
) -> None:
    """On ImageNet's images the pixels are torchvision's or, of larger ones, near them; and so is the top-1."""
    preprocess_config = PreprocessConfig(resize=256, crop=224)
    module = torch.jit.load(repository / "network_torchscript/1/model.pt", map_location="cpu")
    differences = []
    changed = 0
    for labelled in sample:
        encoded = labelled.path.read_bytes() if times == 1 else enlarged(labelled.path, times)
        ours = prepare(encoded, preprocess_config)
        image = Image.open(io.BytesIO(encoded)).convert("RGB")
        theirs = np.array(F.center_crop(F.resize(image, [256], antialias=True), [224, 224]))
        differences.append(np.abs(ours.astype(int) - theirs).mean())
        with torch.inference_mode():
            probabilities, _ = module(torch.from_numpy(np.stack([ours, theirs])))
        changed += int(probabilities[0].argmax() != probabilities[1].argmax())
    print(f"mean difference {np.mean(differences):.4f} of 255, largest {max(differences):.4f}")  # noqa: T201
    assert max(differences) <= most
    assert changed <= (0 if times == 1 else 0.005 * len(differences))
