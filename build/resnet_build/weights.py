"""From the value of ``--weights`` to a state dict of torchvision's ResNet-50 with all that belongs to it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import re
import socket
import tempfile
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path

import platformdirs
import torch
from resnet_client.preprocessing import PreprocessConfig
from torch.hub import download_url_to_file
from torchvision.models import ResNet50_Weights

from resnet_build import BuildError, Report, UsageError, checkpoints, keras_v1, manifest
from resnet_build.checkpoints import StateDict
from resnet_build.network import IMAGENET_CLASSES, Architecture, make_resnet50

_CONNECT_TIMEOUT_S = 20.0
_OTHER_CHOICES = "imagenet-v2, imagenet-v1, keras-v1, random:SEED, auto, or the path of a .pth or .safetensors file"


@dataclasses.dataclass(frozen=True)
class Published:
    """A file of weights that torchvision publishes.

    Attributes:
        url: where it is.
        sha256: in whole; a forger finds another file with the eight digits that the file's name holds in minutes.
        resize: short side in pixels before the 224-pixel crop.
    """

    url: str
    sha256: str
    resize: int

    @classmethod
    def of(cls, weights: ResNet50_Weights, sha256: str) -> Published:
        """Take what torchvision documents, and the hash that it does not."""
        return cls(weights.url, sha256, weights.transforms().resize_size[0])


PUBLISHED = {
    "imagenet-v1": Published.of(
        ResNet50_Weights.IMAGENET1K_V1,
        "0676ba61b6795bbe1773cffd859882e5e297624d384b6993f7c9e683e722fb8a",  # pragma: allowlist secret
    ),
    "imagenet-v2": Published.of(
        ResNet50_Weights.IMAGENET1K_V2,
        "11ad3fa62ca79e40addfd354a8ec4b7c75143b3038b8d2a807fbc68deab379ca",  # pragma: allowlist secret
    ),
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
        preprocessing config: how images are preprocessed for these weights.
    """

    name: str
    source: str
    architecture: Architecture
    state_dict: StateDict
    labels: tuple[str, ...]
    preprocess_config: PreprocessConfig

    @property
    def labels_sha256(self) -> str:
        """Hex SHA-256 of the labels."""
        return hashlib.sha256("\n".join(self.labels).encode()).hexdigest()

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
    """What a state dict from a file does not contain.

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
    """Refuse what does not name weights, before anything is fetched or made for them.

    Raises:
        UsageError: an unknown name, a missing file, unreadable labels, a short side that is out of range.
    """
    if spec in ("auto", "keras-v1", *PUBLISHED):
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
    _preprocess_config(file_options)


def load(spec: str, *, cache: Path, file_options: FileOptions, report: Report) -> Weights:
    """Find the weights that ``spec`` names.

    Args:
        spec: the value of ``--weights``.
        cache: folder for downloads; made if missing.
        file_options: used when ``spec`` is a path.
        report: receives one message per step.

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
    if spec in PUBLISHED:
        return _load_torchvision(spec, cache, report)
    return _load_file(Path(spec), file_options)


def _load_auto(cache: Path, report: Report) -> Weights:
    try:
        return _load_torchvision("imagenet-v2", cache, report)
    except BuildError as first:
        report(f"imagenet-v2 cannot be downloaded ({first.__cause__ or first}); taking keras-v1")
        return _load_keras_v1(cache, report)


def _load_torchvision(name: str, cache: Path, report: Report) -> Weights:
    published = PUBLISHED[name]
    file = cache / published.url.rsplit("/", 1)[-1]
    if file.exists() and manifest.sha256(file) == published.sha256:
        report(f"weights {name}: {file}")
    else:
        if file.exists():
            report(f"{file} is damaged; fetching it again")
        report(f"weights {name}: downloading {published.url}")
        _download(name, published, file)
    preprocess_config = PreprocessConfig(resize=published.resize, crop=224)
    return Weights(name, published.url, "v1.5", checkpoints.read(file), imagenet_labels(), preprocess_config)


def _download(name: str, published: Published, file: Path) -> None:
    """Fetch published weights; the file appears under its name only when its hash is right."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder, _bounded_connects():
            fetched = Path(folder, file.name)
            download_url_to_file(published.url, str(fetched))
            if manifest.sha256(fetched) != published.sha256:
                # One that was cut off comes without an error of the connection.
                raise BuildError(
                    f"{published.url} delivered {fetched.stat().st_size / 2**20:.1f} MiB that are not the published "
                    "file (the SHA-256 differs); not used: try again, and if it stays so, choose another of "
                    f"{_OTHER_CHOICES}"
                )
            fetched.replace(file)
    except (OSError, HTTPException) as exc:
        raise BuildError(
            f"the weights {name} could not be downloaded from {published.url} ({exc}); try again; "
            f"where only package mirrors are reachable use --weights keras-v1, or one of {_OTHER_CHOICES}"
        ) from exc


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
    return Weights("keras-v1", keras_v1.SOURCE, "v1", state, imagenet_labels(), PreprocessConfig(resize=256, crop=224))


def _load_random(spec: str) -> Weights:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(spec.removeprefix("random:")))
        state = make_resnet50("v1.5", IMAGENET_CLASSES).state_dict()
    source = "torchvision's initialisation; answers mean nothing"
    return Weights(
        spec, source, "v1.5", checkpoints.cleaned(state), imagenet_labels(), PreprocessConfig(resize=232, crop=224)
    )


def _load_file(path: Path, options: FileOptions) -> Weights:
    state = checkpoints.read(path)
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
    return Weights(path.name, str(path), options.architecture, state, labels, _preprocess_config(options))


def _preprocess_config(options: FileOptions) -> PreprocessConfig:
    try:
        return PreprocessConfig(resize=options.resize, crop=224)
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
