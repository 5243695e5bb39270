"""From the value of ``--weights`` to a state dict of torchvision's ResNet-50 with all that belongs to it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import socket
import tempfile
from collections.abc import Callable, Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Literal, cast

import platformdirs
import torch
from resnet_client.preprocessing import Recipe
from torch.hub import download_url_to_file
from torchvision.models import ResNet50_Weights

from resnet_build import keras_v1, manifest, state_files
from resnet_build.errors import BuildError, UsageError
from resnet_build.network import Architecture, make_resnet50
from resnet_build.state_files import StateDict
from resnet_build.tensors import IMAGENET_CLASSES

Report = Callable[[str], None]

_CONNECT_TIMEOUT_S = 20.0
# The digits of the sizes that torchvision tells.
_ROUNDED_TO_MIB = 0.001
_OTHER_CHOICES = "imagenet-v2, imagenet-v1, keras-v1, random:SEED, auto, or the path of a .pth or .safetensors file"

_TORCHVISION = {
    "imagenet-v1": ResNet50_Weights.IMAGENET1K_V1,
    "imagenet-v2": ResNet50_Weights.IMAGENET1K_V2,
}
# In whole: of the hash that a file's name holds, eight digits, a forger finds another with the same in minutes.
_SHA256 = {
    "imagenet-v1": "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",  # pragma: allowlist secret
    "imagenet-v2": "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",  # pragma: allowlist secret
}


@dataclasses.dataclass(frozen=True)
class Weights:
    """A trained ResNet-50, independent of where it came from.

    Attributes:
        name: what was taken: ``imagenet-v2``, ``keras-v1``, a file name, ….
        source: where it came from, for people.
        architecture: stride placement, ``v1`` or ``v1.5``.
        state_dict: float32 tensors under torchvision's names.
        labels: one text per class, in the order of the outputs; texts may repeat, the index is the identity.
        recipe: how photos are prepared for these weights.
    """

    name: str
    source: str
    architecture: Architecture
    state_dict: StateDict
    labels: tuple[str, ...]
    recipe: Recipe

    @property
    def sha256(self) -> str:
        """Hex SHA-256 over names, shapes and values: equal for equal networks, whatever file they came in."""
        digest = hashlib.sha256()
        for name in sorted(self.state_dict):
            tensor = self.state_dict[name].contiguous()
            digest.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
            digest.update(tensor.numpy().data)
        return digest.hexdigest()


@dataclasses.dataclass(frozen=True)
class FileOptions:
    """What a state dict from a file does not say itself.

    Attributes:
        labels: text file with one label per line, in the order of the outputs; None for ImageNet's 1000.
        architecture: where the strides are: ``v1.5`` (torchvision) or ``v1`` (He's original, Keras).
        resize: short side in pixels before the 224-pixel crop.
    """

    labels: Path | None = None
    architecture: Architecture = "v1.5"
    resize: int = 232


def is_file(spec: str) -> bool:
    """Whether ``--weights`` names a file, rather than published or random weights."""
    try:
        return Path(spec).suffix in (".pth", ".pt", ".safetensors") or Path(spec).exists()
    except (OSError, ValueError):  # nothing on a disk can have such a name
        return False


def default_cache() -> Path:
    """Return the user's cache folder for downloaded weights."""
    return Path(platformdirs.user_cache_dir("resnet50-triton"))


def check(spec: str, file_options: FileOptions) -> None:
    """Refuse what names no weights, before anything is fetched or made for them.

    Raises:
        UsageError: an unknown name, no file, no labels, a short side that is none.
    """
    if spec in ("auto", "keras-v1", *_TORCHVISION):
        return
    if spec.startswith("random:"):
        if not re.fullmatch(r"random:\d{1,18}", spec):
            raise UsageError(f"{spec!r} is not random:SEED with a whole number, such as random:0")
        return
    if not is_file(spec):
        raise UsageError(f"unknown weights {spec!r}; choose {_OTHER_CHOICES}")
    if not Path(spec).exists():
        raise UsageError(f"there is no weights file {spec}")
    if file_options.labels is not None:
        read_labels(file_options.labels)
    _recipe(file_options)


def load(spec: str, *, cache: Path, file_options: FileOptions, report: Report) -> Weights:
    """Find the weights that ``spec`` names.

    Args:
        spec: the value of ``--weights``.
        cache: folder for downloads; made if missing.
        file_options: used when ``spec`` is a path.
        report: receives one sentence per step.

    Raises:
        BuildError: unknown, unreachable, damaged, or not a ResNet-50; the message names the remedy.
    """
    check(spec, file_options)
    if spec == "auto":
        return _load_auto(cache, report)
    if spec.startswith("random:"):
        return _load_random(spec)
    if spec == "keras-v1":
        return _load_keras_v1(cache, report)
    if spec in ("imagenet-v1", "imagenet-v2"):
        return _load_torchvision(cast("Literal['imagenet-v1', 'imagenet-v2']", spec), cache, report)
    return _load_file(Path(spec), file_options)


def _load_auto(cache: Path, report: Report) -> Weights:
    try:
        return _load_torchvision("imagenet-v2", cache, report)
    except BuildError as first:
        report(f"imagenet-v2 is not to be had here ({first.__cause__ or first}); taking keras-v1")
        return _load_keras_v1(cache, report)


def _load_torchvision(name: Literal["imagenet-v1", "imagenet-v2"], cache: Path, report: Report) -> Weights:
    published = _TORCHVISION[name]
    file = cache / published.url.rsplit("/", 1)[-1]
    if file.exists() and manifest.sha256(file) == _SHA256[name]:
        report(f"weights {name}: {file}")
    else:
        if file.exists():
            report(f"{file} is damaged; fetching it again")
        _download(name, published.url, file, report)
    resize = published.transforms().resize_size[0]
    recipe = Recipe(resize=resize, crop=224)
    return Weights(name, published.url, "v1.5", state_files.read(file), imagenet_labels(), recipe)


def _download(name: str, url: str, file: Path, report: Report) -> None:
    """Fetch published weights; the file appears under its name only when its hash is right."""
    report(f"weights {name}: downloading {url}")
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder, _bounded_connects():
            fetched = Path(folder, file.name)
            download_url_to_file(url, str(fetched))
            _refuse_other(name, url, fetched)
            fetched.replace(file)
    except (OSError, HTTPException) as exc:
        raise BuildError(
            f"the weights {name} could not be downloaded from {url} ({exc}); try again; "
            f"where only package mirrors are reachable use --weights keras-v1, or one of {_OTHER_CHOICES}"
        ) from exc


def _refuse_other(name: str, url: str, fetched: Path) -> None:
    """Accept the published file only; one that is cut off comes without any error of the connection."""
    if manifest.sha256(fetched) == _SHA256[name]:
        return
    size, published = fetched.stat().st_size / 2**20, float(_TORCHVISION[name].meta["_file_size"])
    if size < published - _ROUNDED_TO_MIB:
        raise BuildError(f"the download of {url} ended after {size:.1f} of {published:.1f} MiB; not used: try again")
    raise BuildError(
        f"what {url} delivers is not the published file (its SHA-256 differs); not used: try again, and if it stays "
        f"so, choose another of {_OTHER_CHOICES}"
    )


@contextlib.contextmanager
def _bounded_connects() -> Iterator[None]:
    """Give up on a silent network; torch.hub itself would wait for ever."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _load_keras_v1(cache: Path, report: Report) -> Weights:
    state = keras_v1.load_state_dict(cache, report)
    # He's evaluation protocol: short side 256, crop 224.
    return Weights("keras-v1", keras_v1.SOURCE, "v1", state, imagenet_labels(), Recipe(resize=256, crop=224))


def _load_random(spec: str) -> Weights:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(spec.removeprefix("random:")))
        state = make_resnet50("v1.5", IMAGENET_CLASSES).state_dict()
    source = "torchvision's initialisation; answers mean nothing"
    return Weights(spec, source, "v1.5", state_files.cleaned(state), imagenet_labels(), Recipe(resize=232, crop=224))


def _load_file(path: Path, options: FileOptions) -> Weights:
    state = state_files.read(path)
    bias = state.get("fc.bias")
    if bias is None:
        raise BuildError(f"{path} holds no 'fc.bias', so it is no classifier of torchvision's ResNet-50")
    classes = bias.numel()
    if options.labels is not None:
        labels = read_labels(options.labels)
    elif classes == IMAGENET_CLASSES:
        labels = imagenet_labels()
    else:
        raise BuildError(f"{path} has {classes} classes: say which with --labels FILE, one label per line")
    if len(labels) != classes:
        raise BuildError(f"{path} has {classes} classes, but {options.labels} has {len(labels)} labels")
    return Weights(path.name, str(path), options.architecture, state, labels, _recipe(options))


def _recipe(options: FileOptions) -> Recipe:
    try:
        return Recipe(resize=options.resize, crop=224)
    except ValueError as exc:
        raise UsageError(f"--resize {options.resize}: {exc}") from exc


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a label file: UTF-8, one label per line, in the order of the network's outputs.

    Raises:
        UsageError: unreadable, empty, or with an empty line.
    """
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n"))
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the label file {path} cannot be read: {exc}") from exc
    if not all(labels):
        raise UsageError(f"the label file {path} has an empty line {labels.index('') + 1}; a label must not be empty")
    return labels


def imagenet_labels() -> tuple[str, ...]:
    """Return ImageNet's 1000 labels in the order of the outputs; two texts occur twice."""
    return tuple(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
