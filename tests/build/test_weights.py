"""Weights by name: labels, downloads that are checked, and the errors that name the remedy."""

from __future__ import annotations

import urllib.error
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
import torch
from resnet_build import BuildError, keras_v1, manifest, weights
from resnet_build.network import ServedNetwork, load_network, make_resnet50
from resnet_build.weights import FileOptions, Published, Weights
from resnet_client.preprocessing import PreprocessConfig


def load(spec: str | Path, tmp_path: Path, **options: Any) -> Weights:
    """Load quietly, with an empty cache."""
    return weights.load(str(spec), cache=tmp_path / "cache", file_options=FileOptions(**options), report=lambda _: None)


@pytest.fixture(scope="module")
def state() -> dict[str, torch.Tensor]:
    """A 10-class state dict."""
    return make_resnet50("v1.5", 10).state_dict()


@pytest.fixture
def labels(tmp_path: Path) -> Path:
    """A label file for it."""
    path = tmp_path / "labels.txt"
    path.write_text("".join(f"thing {index}\n" for index in range(10)))
    return path


def test_load_refuses_classes_without_labels(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Ten classes need ten names."""
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(BuildError, match="10 classes: name them with --labels"):
        load(tmp_path / "net.pth", tmp_path)


def test_load_refuses_a_wrong_number_of_labels(state: dict[str, torch.Tensor], labels: Path, tmp_path: Path) -> None:
    """Eleven names do not fit ten classes."""
    torch.save(state, tmp_path / "net.pth")
    labels.write_text(labels.read_text() + "one more\n")
    with pytest.raises(BuildError, match="10 classes, but .* has 11 labels"):
        load(tmp_path / "net.pth", tmp_path, labels=labels)


@pytest.mark.parametrize(
    ("options", "resize"),
    [
        ({}, 232),
        ({"resize": 256}, 256),
        ({"crop_pct": 0.95}, 235),
        ({"crop_pct": 0.875}, 256),
        ({"image_size": 288, "crop_pct": 1.0}, 288),
        ({"image_size": 160}, 165),
        ({"image_size": 448}, 464),
    ],
)
def test_file_options_round_the_short_side_as_timm_does(options: dict[str, Any], resize: int) -> None:
    """By its length or by the share of the crop; without either, in torchvision's proportion."""
    expected = PreprocessConfig(resize, options.get("image_size", 224), "bicubic")
    assert FileOptions(interpolation="bicubic", **options).preprocess_config == expected


@pytest.mark.parametrize("labels_of", [("yes",), ("no", "yes")])
def test_load_serves_one_output_as_a_probability(
    state: dict[str, torch.Tensor], tmp_path: Path, labels_of: tuple[str, ...]
) -> None:
    """With one label, the probability of yes (sigmoid); with two, those of no and yes."""
    one = state | {"fc.weight": torch.full((1, 2048), 0.1), "fc.bias": torch.tensor([-1.0])}
    torch.save(one, tmp_path / "net.pth")
    (tmp_path / "labels.txt").write_text("\n".join(labels_of))
    found = load(tmp_path / "net.pth", tmp_path, labels=tmp_path / "labels.txt")
    pixels = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        probabilities, features = ServedNetwork(load_network("v1.5", found.state_dict))(pixels)
    yes = torch.sigmoid(features.sum(1, keepdim=True) * 0.1 - 1)
    assert found.labels == labels_of
    assert torch.allclose(probabilities, yes if len(labels_of) == 1 else torch.hstack([1 - yes, yes]), atol=1e-5)
    (tmp_path / "labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(BuildError, match=r"3 labels \(one output needs one label, that of the positive class, or two"):
        load(tmp_path / "net.pth", tmp_path, labels=tmp_path / "labels.txt")


def test_load_reports_and_names_what_it_read(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """One line per file; the names are those in the file."""
    path, messages = tmp_path / "net.pth", list[str]()
    torch.save({"state_dict_ema": {f"net.{name}": tensor for name, tensor in state.items()}, "state_dict": state}, path)
    with pytest.raises(BuildError, match=r"net.fc.weight \(10, 2048\) has 10 classes: name them with --labels"):
        weights.load(str(path), cache=tmp_path, file_options=FileOptions(key="state_dict_ema"), report=messages.append)
    assert messages == [f"weights {path}: reading `state_dict_ema`, stripped prefix `net.`"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"a\n\nb\n", "line 2 of the label file"), (b"\xff\xfe", "cannot be read"), (b"", "line 1 of the label file")],
)
def test_read_labels_refuses_bad_files(tmp_path: Path, content: bytes, message: str) -> None:
    """The message names the file and the line."""
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(BuildError, match=message):
        weights.read_labels(path)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in the place of the published weights."""
    path = tmp_path / "published.pth"
    torch.save(make_resnet50("v1.5", 1000).state_dict(), path)
    file = Published(path.as_uri(), manifest.sha256(path), resize=232)
    monkeypatch.setitem(weights.PUBLISHED, "imagenet-v2", file)
    return path


def flip_a_byte(path: Path) -> None:
    """Change one byte in the middle of a file, where the values of a tensor are."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("is_cut_off", [False, True])
def test_load_refuses_another_download_and_does_not_keep_it(tmp_path: Path, published: Path, is_cut_off: bool) -> None:
    """One bit decides, and a connection that is cut off gives no error; no file is left for a later build."""
    if is_cut_off:
        published.write_bytes(published.read_bytes()[: published.stat().st_size // 2])
    else:
        flip_a_byte(published)
    size = "48" if is_cut_off else "97"
    with pytest.raises(
        BuildError, match=rf"published.pth \({size}\.\d MiB\) is not the published file: its SHA-256 differs. Try again"
    ):
        load("imagenet-v2", tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_load_fetches_a_tampered_file_in_the_cache_again(tmp_path: Path, published: Path) -> None:
    """A cached download is checked again whenever it is used."""
    expected = load("imagenet-v2", tmp_path).sha256
    (cached,) = (tmp_path / "cache").iterdir()
    flip_a_byte(cached)
    assert load("imagenet-v2", tmp_path).sha256 == expected
    assert cached.read_bytes() == published.read_bytes()


def test_published_hashes_are_torchvisions() -> None:
    """Each begins with the digits that torchvision has put into the file's name."""
    assert weights.PUBLISHED.keys() == {"imagenet-v1", "imagenet-v2"}
    for file in weights.PUBLISHED.values():
        assert f"-{file.sha256[:8]}.pth" in file.url
        assert len(file.sha256) == 64


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), IncompleteRead(b"half")])
def test_load_names_the_other_choices_if_a_download_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Without a connection, the message names keras-v1 and the rest; `auto` takes keras-v1."""

    def unreachable(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(weights, "download_url_to_file", unreachable)
    with pytest.raises(BuildError, match=r"\(.+\). Try again; .*--weights keras-v1.*safetensors"):
        load("imagenet-v2", tmp_path)
    monkeypatch.setattr(keras_v1, "load_state_dict", lambda *_: {})
    assert load("auto", tmp_path).name == "keras-v1"


def test_load_names_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    """The message names the folder and the option."""
    (tmp_path / "cache").write_text("a file in the place of the folder")
    for spec in ("keras-v1", "imagenet-v2"):
        with pytest.raises(BuildError, match=r"/cache"):
            load(spec, tmp_path)


def test_load_repeats_random_weights(tmp_path: Path) -> None:
    """The seed decides."""
    assert load("random:1", tmp_path).sha256 == load("random:1", tmp_path).sha256
    assert load("random:1", tmp_path).sha256 != load("random:2", tmp_path).sha256
