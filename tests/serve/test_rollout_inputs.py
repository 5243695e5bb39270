"""``resnet-serve rollout`` without a server: usage, images to compare on, and the config of a copy."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_serve.rollout import cli
from resnet_serve.rollout.comparison import load_images, top_1
from resnet_serve.rollout.versions import Network


@pytest.mark.parametrize("url", ["http://localhost:8000", "grpc://a:8001,grpc://b:8001"])
def test_main_takes_the_grpc_address_of_one_server(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Wrong usage: exit code 2, and why."""
    assert cli.main(["--model-version", "2", "--url", url]) == 2
    assert "the gRPC address of one server" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["--model-version", "0"],
        ["--model-version", "2", "--min-agreement", "99"],
        ["--model-version", "2", "--max-p99-ratio", "nan"],
    ],
)
def test_main_refuses_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, before any request."""
    with pytest.raises(SystemExit, match="2"):
        cli.main(arguments)
    assert "usage: resnet-serve rollout" in capsys.readouterr().err


def test_load_images_are_always_the_same() -> None:
    """As many as requested, all different, the short side as long as the network's preprocessing makes it."""
    found = load_images(None, side=64, count=40)
    load_images.cache_clear()
    again = load_images(None, side=64, count=40)
    assert all(np.array_equal(one, two) for one, two in zip(found, again, strict=True))
    assert {min(image.shape[:2]) for image in found} == {64}
    assert len({image.tobytes() for image in found}) == 40


def test_load_images_are_spread_over_a_directory(tmp_path: Path) -> None:
    """Images are spread over all subdirectories, which often are classes."""
    for number in range(10):
        directory = tmp_path / f"class_{number}"
        directory.mkdir()
        Image.new("RGB", (40, 30), (number, 0, 0)).save(directory / "image.png")
    images = load_images(tmp_path, side=16, count=5)
    assert [int(image[0, 0, 0]) for image in images] == [0, 2, 4, 6, 8]
    assert {image.shape for image in images} == {(16, 21, 3)}


def test_top_1_of_a_single_class_is_whether_it_is_probable() -> None:
    """A network of one class has no other class to be compared with."""
    assert top_1(np.array([[0.2], [0.9]])).tolist() == [0, 1]
    assert top_1(np.array([[0.2, 0.8], [0.9, 0.1]])).tolist() == [1, 0]


def test_copied_config_needs_no_other_files(tmp_path: Path) -> None:
    """No label file, no GPU that Triton chose, warmed for what the comparison sends; the original is unchanged."""
    config = {
        "name": "network",
        "output": [{"name": "PROBABILITIES__0", "dims": ["3"], "label_filename": "labels.txt"}],
        "instance_group": [{"kind": "KIND_GPU", "gpus": [0]}, {"kind": "KIND_CPU"}],
        "model_warmup": [{"name": f"batch_{size}", "batch_size": size} for size in (1, 2, 4, 8)],
    }
    copied = Network(config, tmp_path, old=1, new=2).copied("network_candidate")
    assert copied["name"] == "network_candidate"
    assert copied["version_policy"] == {"specific": {"versions": [2]}}
    assert copied["output"] == [{"name": "PROBABILITIES__0", "dims": ["3"]}]
    assert copied["instance_group"] == [{"kind": "KIND_AUTO", "gpus": [0]}, {"kind": "KIND_CPU"}]
    assert [warmup["batch_size"] for warmup in copied["model_warmup"]] == [1, 2, 4]
    assert config["output"] == [{"name": "PROBABILITIES__0", "dims": ["3"], "label_filename": "labels.txt"}]
