"""From the value of ``--weights`` to a state dict of torchvision's ResNet-50 with all that belongs to it."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import pickle
import re
import socket
import warnings
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, cast

import platformdirs
import torch
from safetensors.torch import load_file
from torch.hub import load_state_dict_from_url
from torchvision.models import ResNet50_Weights

from resnet_build import keras_v1
from resnet_build.errors import BuildError
from resnet_build.network import IMAGENET_CLASSES, Architecture, make_resnet50
from resnet_build.python_models.preprocess.photo import Recipe

StateDict = dict[str, torch.Tensor]
Report = Callable[[str], None]

_CONNECT_TIMEOUT_S = 20.0
_OTHER_CHOICES = "imagenet-v2, imagenet-v1, keras-v1, random:SEED, auto, or the path of a .pth or .safetensors file"
_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_COUNTERS = ".num_batches_tracked"


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
    return Path(spec).suffix in (".pth", ".pt", ".safetensors") or Path(spec).exists()


def default_cache() -> Path:
    """Return the user's cache folder for downloaded weights."""
    return Path(platformdirs.user_cache_dir("resnet50-triton"))


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
    if spec == "auto":
        return _load_auto(cache, report)
    if spec.startswith("random:"):
        return _load_random(spec)
    if spec == "keras-v1":
        return _load_keras_v1(cache, report)
    if spec in ("imagenet-v1", "imagenet-v2"):
        return _load_torchvision(cast("Literal['imagenet-v1', 'imagenet-v2']", spec), cache, report)
    if is_file(spec):
        return _load_file(Path(spec), file_options)
    raise BuildError(f"unknown weights {spec!r}; choose {_OTHER_CHOICES}")


def _load_auto(cache: Path, report: Report) -> Weights:
    try:
        return _load_torchvision("imagenet-v2", cache, report)
    except BuildError as first:
        report(f"imagenet-v2 is not to be had here ({first.__cause__ or first}); taking keras-v1")
        return _load_keras_v1(cache, report)


def _load_torchvision(name: Literal["imagenet-v1", "imagenet-v2"], cache: Path, report: Report) -> Weights:
    enum = {"imagenet-v1": ResNet50_Weights.IMAGENET1K_V1, "imagenet-v2": ResNet50_Weights.IMAGENET1K_V2}[name]
    file = cache / enum.url.rsplit("/", 1)[-1]
    report(f"weights {name}: {file}" if file.exists() else f"weights {name}: downloading {enum.url}")
    try:
        with _bounded_connects():
            # Downloads into a temporary file, checks its hash and only then renames it.
            state = load_state_dict_from_url(
                enum.url, model_dir=str(cache), check_hash=True, weights_only=True, map_location="cpu"
            )
    except OSError as exc:
        raise BuildError(
            f"the weights {name} could not be downloaded from {enum.url} ({exc}); "
            f"where only package mirrors are reachable use --weights keras-v1, or one of {_OTHER_CHOICES}"
        ) from exc
    except (RuntimeError, pickle.UnpicklingError) as exc:
        raise BuildError(f"the weights in {file} are damaged; delete that file and build again") from exc
    resize = enum.transforms().resize_size[0]
    return Weights(name, enum.url, "v1.5", _cleaned(state), imagenet_labels(), Recipe(resize=resize, crop=224))


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
    if not re.fullmatch(r"random:\d{1,18}", spec):
        raise BuildError(f"{spec!r} is not random:SEED with a whole number, such as random:0")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(spec.removeprefix("random:")))
        state = make_resnet50("v1.5", IMAGENET_CLASSES).state_dict()
    source = "torchvision's initialisation; answers mean nothing"
    return Weights(spec, source, "v1.5", _cleaned(state), imagenet_labels(), Recipe(resize=232, crop=224))


def _load_file(path: Path, options: FileOptions) -> Weights:
    state = _cleaned(_unwrapped(_read_file(path), path))
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
    try:
        recipe = Recipe(resize=options.resize, crop=224)
    except ValueError as exc:
        raise BuildError(f"--resize {options.resize}: {exc}") from exc
    return Weights(path.name, str(path), options.architecture, state, labels, recipe)


def _read_file(path: Path) -> object:
    """Read a file without running code from it: safetensors, or a pickle restricted to tensors."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about foreign pickles before it refuses them
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as exc:
        raise BuildError(f"there is no weights file {path}") from exc
    except pickle.UnpicklingError as exc:
        raise BuildError(
            f"{path} is damaged or holds more than tensors; it was not opened, because that could run code: "
            "save it again with torch.save(model.state_dict(), …) or as .safetensors"
        ) from exc
    except Exception as exc:  # the unpickler fails on foreign bytes in many ways
        raise BuildError(f"the weights file {path} cannot be read: {exc}") from exc


def _unwrapped(content: object, path: Path) -> Mapping[str, Any]:
    """Find the state dict inside what training scripts save around it."""
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                return cast("Mapping[str, Any]", content[key])
        return content
    raise BuildError(f"{path} holds a {type(content).__name__}, not a state dict")


def _cleaned(state: Mapping[str, Any]) -> StateDict:
    """Drop wrappers' prefixes and batch-norm counters, which inference does not read; make all float32."""
    cleaned = {}
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and isinstance(name, str) and not name.endswith(_COUNTERS):
            cleaned[_without_prefixes(name)] = value.detach().to(torch.float32)
    return cleaned


def _without_prefixes(name: str) -> str:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                name, stripped = name.removeprefix(prefix), True
    return name


def read_labels(path: Path) -> tuple[str, ...]:
    """Read a label file: UTF-8, one label per line, in the order of the network's outputs.

    Raises:
        BuildError: unreadable, empty, or with an empty line.
    """
    try:
        labels = tuple(line.strip() for line in path.read_text(encoding="utf-8-sig").rstrip("\n").split("\n"))
    except (OSError, UnicodeDecodeError) as exc:
        raise BuildError(f"the label file {path} cannot be read: {exc}") from exc
    if not all(labels):
        raise BuildError(f"the label file {path} has an empty line {labels.index('') + 1}; a label must not be empty")
    return labels


def imagenet_labels() -> tuple[str, ...]:
    """Return ImageNet's 1000 labels in the order of the outputs; two texts occur twice."""
    return tuple(ResNet50_Weights.IMAGENET1K_V2.meta["categories"])
