"""A backbone through the whole build, and served."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_build import backbone, configs
from resnet_build.__main__ import main
from resnet_build.network import load_network
from resnet_build.weights import FileOptions, load
from resnet_client import Client, ModelNotFoundError
from resnet_client.preprocessing import PreprocessConfig, crop_pixels
from resnet_serve import ServerConfig, TritonServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

WEIGHTS = ("--weights", "random:0", "--max-batch-size", "2")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of random weights with a backbone."""
    repository = tmp_path_factory.mktemp("backbone") / "repository"
    assert main([*WEIGHTS, "--backbone", "fp16", "--repository", str(repository)]) == 0
    return repository


def test_manifest_records_the_differences_of_the_maps(built: Path) -> None:
    """Type and largest difference of each map are on record, and a later build keeps the backbone."""
    entry = json.loads((built / "manifest.json").read_text())["versions"]["1"]
    assert entry["backbone"]["wire"] == entry["inputs"]["backbone"] == "fp16"
    assert set(entry["backbone"]["differences"]) == set(backbone.MAPS)
    before = (built / "manifest.json").stat().st_mtime_ns
    assert main([*WEIGHTS, "--repository", str(built)]) == 0
    assert (built / "manifest.json").stat().st_mtime_ns == before


def test_versions_share_the_type_of_the_maps(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A second version with another type would make the first one wrong."""
    assert main([*WEIGHTS, "--backbone", "--model-version", "2", "--repository", str(built)]) == 1
    assert "serves fp16 maps" in capsys.readouterr().err


def test_served_maps_are_torchvisions(built: Path, images: dict[str, Path], tmp_path: Path) -> None:
    """Through the real server, preprocessed there or here, over gRPC and HTTP; and each map by its own name."""
    found = load("random:0", cache=tmp_path, file_options=FileOptions(), report=print)
    config = configs.parse((built / "resnet50_backbone/config.pbtxt").read_text())
    preprocess_config = PreprocessConfig.from_json(config.parameters["preprocessing"].string_value)
    pixels = crop_pixels(Image.open(images["cat"]).convert("RGB"), preprocess_config)
    eager = load_network(found.architecture, found.state_dict)
    expected = backbone.maps_of(eager, pixels[None].copy())
    with TritonServer(ServerConfig(built, ("resnet50_backbone",), port=0)) as server:
        for url in (server.grpc_url, server.http_url):
            with Client(url) as client:
                for preprocessing in ("server", "client"):
                    maps = client.feature_maps(images["cat"], preprocessing=preprocessing)
                    for (name, got), wanted in zip(maps.items(), expected.values(), strict=True):
                        assert got.dtype == np.float16, name
                        assert got.shape == wanted.shape[1:]
                        assert np.abs(got - wanted[0]).max() < 1e-3 * wanted.max()


def test_feature_maps_without_a_backbone_is_an_error(server: TritonServer, images: dict[str, Path]) -> None:
    """The error names the model that is missing."""
    with Client(server.grpc_url) as client, pytest.raises(ModelNotFoundError, match="resnet50_backbone"):
        client.feature_maps(images["cat"])
