"""A checkpoint with another image size, interpolation and normalisation than ImageNet's, through the real server."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from resnet_build import backbone
from resnet_build.__main__ import main
from resnet_build.network import Input, make_resnet50
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer
from torchvision import transforms
from tritonclient import grpc

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

SIZE, CROP_PCT = 180, 0.95  # not a multiple of 32
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.25, 0.3)
NAMES = [f"thing {number}" for number in range(10)]
# timm's, for evaluation with a crop of the centre.
CROP = transforms.Compose(
    [
        transforms.Resize(int(SIZE / CROP_PCT), transforms.InterpolationMode.BICUBIC),
        transforms.CenterCrop(SIZE),
    ]
)
NORMALISE = transforms.Compose([transforms.ToTensor(), transforms.Normalize(MEAN, STD)])


def test_checkpoint_of_another_size_is_built_and_served(images: dict[str, Path], tmp_path: Path) -> None:
    """Pixels, probabilities and feature maps are those of torchvision's own transforms and network."""
    torch.manual_seed(0)
    net = make_resnet50("v1.5", len(NAMES))
    image = images["coffee"]
    cropped = CROP(Image.open(image).convert("RGB"))
    with torch.inference_mode():
        net.fc.weight *= 2 / net(NORMALISE(cropped)[None]).abs().max()  # so that no probability is almost 1
        expected = torch.softmax(net(NORMALISE(cropped)[None]), dim=1)[0].numpy()
    torch.save({"state_dict": net.state_dict()}, tmp_path / "net.pth")
    (tmp_path / "labels.txt").write_text("\n".join(NAMES))
    repository = tmp_path / "repository"
    options = f"--image-size {SIZE} --crop-pct {CROP_PCT} --interpolation bicubic --max-batch-size 2 --backbone"
    options += f" --mean {' '.join(map(str, MEAN))} --std {' '.join(map(str, STD))} --variant int8 --preprocessing dali"
    command = ["--weights", tmp_path / "net.pth", "--labels", tmp_path / "labels.txt", "--repository", repository]
    assert main([*map(str, command), *options.split()]) == 0
    assert main([*map(str, command), *options.split(), "--quiet"]) == 0  # up to date
    maps = backbone.maps_of(net, np.asarray(cropped)[None].copy(), Input(SIZE, MEAN, STD))
    models = ("resnet50", "resnet50_torchscript", "resnet50_int8", "resnet50_backbone")
    with TritonServer(ServerConfig(repository, models, port=0)) as server, Client(server.grpc_url) as client:
        difference = np.abs(pixels_of(server, image) - np.asarray(cropped).astype(int))
        assert difference.max() <= 2
        assert difference.mean() < 0.3
        for model in models[:3]:
            for place in ("server", "client"):
                found = client.classify(image, model=model, preprocessing=place, top_k=10)
                got = {prediction.index: prediction.probability for prediction in found.predictions}
                assert np.abs([got[index] - expected[index] for index in range(10)]).max() < 0.02
        for (name, got), wanted in zip(client.feature_maps(image).items(), maps.values(), strict=True):
            assert got.shape == wanted[0].shape, name
            assert np.abs(got - wanted[0]).mean() < 0.02 * np.abs(wanted).max()


def pixels_of(server: TritonServer, image: Path) -> np.ndarray:
    """What the served `preprocess` returns."""
    data = grpc.InferInput("IMAGE", [1, 1], "BYTES")
    data.set_data_from_numpy(np.array([[image.read_bytes()]], dtype=object))
    with grpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        return client.infer("preprocess", [data]).as_numpy("PIXELS__0")[0].astype(int)
