"""Reads the network in a checkpoint, without running code that the file may contain.

A ``.pth`` file is a pickle, which can call any function while it is opened. PyTorch's restricted reader accepts
tensors and plain containers only. What training scripts save next to the weights (arguments, paths, NumPy scalars) is
replaced with empty objects, and everything else is refused. Safetensors files contain tensors only.
"""

from __future__ import annotations

import contextlib
import dataclasses
import pickletools
import re
import warnings
import zipfile
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self

import torch
from safetensors.torch import load_file

from resnet_build import BuildError, UsageError, checkpoint_layouts
from resnet_build.architectures import StateDict
from resnet_build.checkpoint_layouts import Found
from resnet_build.network import make_head

# Suffix → whose format it is.
_FOREIGN = {".h5": "Keras", ".hdf5": "Keras", ".keras": "Keras", ".msgpack": "Flax", ".onnx": "ONNX"}
_SHOWN = 3
_DEEPEST = 3  # dictionaries within each other
# What Hugging Face's libraries and `Trainer` save in a folder.
_IN_A_FOLDER = ("model.safetensors", "pytorch_model.bin")
# Packages whose objects training scripts save as arguments and metrics. Their code is not needed: an empty object
# takes the place of each. `__main__` has the script's own classes.
_METADATA = re.compile(
    r"(__main__|addict|argparse|collections|datetime|easydict|enum|fastcore|lightning|lightning_fabric|mmengine|numpy|"
    r"omegaconf|pathlib|pytorch_lightning|timm|types|typing|yacs)\."
)
# What PyTorch itself makes tensors of.
_TENSORS = re.compile(r"torch\.(_utils\.|_tensor\.|serialization\.|nn\.parameter\.|storage\.|\w+$)|_codecs\.encode$")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The network that a file contains.

    Attributes:
        state_dict: float32 tensors under torchvision's names, without batch-norm counters.
        head: the last layer as the file names it, with its shape: ``net.fc.weight (10, 2048)``.
        outputs: number of values that the head returns.
        summary: what was read, stripped and ignored.
    """

    state_dict: StateDict
    head: str
    outputs: int
    summary: str


class _Inert:
    """Takes the place of a NumPy object, whatever it is made of."""

    def __new__(cls, *_: object) -> Self:
        return super().__new__(cls)

    def __setstate__(self, _: object) -> None:
        """Ignore the state."""


class _Record:
    """Takes the place of any other object by a dictionary, because PyTorch puts items into exact dictionaries only."""

    def __new__(cls, *_: object) -> OrderedDict[Any, Any]:  # type: ignore[misc]  # not an instance, see above
        return OrderedDict()


# MMEngine's metrics name their methods by `getattr`; configs name the types of their values.
_BUILTINS = [
    (_Record, f"builtins.{name}") for name in ("bool", "dict", "float", "getattr", "int", "list", "str", "tuple")
]


def read(path: Path, key: str | None = None) -> Checkpoint:
    """Read the ResNet-50 in a checkpoint: safetensors, or a pickle restricted to tensors.

    Args:
        path: the file, or a folder that Hugging Face's libraries wrote.
        key: which of several networks to read, such as ``state_dict_ema`` or ``encoder_q``.

    Raises:
        UsageError: the file contains several networks, or none with this key; the message lists them.
        BuildError: the file is missing or damaged, contains more than tensors, or is not a ResNet-50.
    """
    if path.is_dir():
        path = next((path / name for name in _IN_A_FOLDER if (path / name).exists()), path)
    content = _content(path)
    if not isinstance(content, Mapping):
        raise BuildError(f"{path} contains a {type(content).__name__}, not a state dict")
    states = dict(_state_dicts(content))
    networks = [network for at, state in states.items() for network in checkpoint_layouts.find(at, state)]
    if not networks:
        raise BuildError(f"{path} contains no ResNet: {_largest(states)}. Use a checkpoint of torchvision's resnet50")
    network = _chosen(networks, key, path)
    try:
        return _checkpoint(network)
    except (BuildError, RuntimeError, TypeError, ValueError) as exc:
        # Sparse, quantised and meta tensors cannot be converted to plain float32 ones.
        raise BuildError(f"{path}: {exc}") from exc


def _checkpoint(network: Found) -> Checkpoint:
    stages = network.stages()
    used = {*stages.values()}
    head = network.head([key for key in network.tensors if key not in used])
    keys = stages | head
    state = _plain({name: (network.names[key], network.tensors[key]) for name, key in keys.items()})
    for name in [name for name in head if name.endswith(".weight") and state[name].ndim > 1]:
        state.setdefault(name.replace("weight", "bias"), torch.zeros(len(state[name])))
    used |= {*head.values()}
    ignored = [network.names[key] for key in network.tensors if key not in used]
    *_, last = (key for name, key in head.items() if name.endswith("weight"))
    parts = [
        f"`{network.at}`" if network.at else "the state dict",
        f", stripped prefix `{network.prefix}`" if network.prefix else "",
        f"; head {' → '.join(_layers(state))}" if "fc.weight" not in state else "",
        f"; ignored {len(ignored)} tensor{'s'[: len(ignored) - 1]}: {_some(ignored)}" if ignored else "",
    ]
    return Checkpoint(state, network.shown([last]), len(network.tensors[last]), "reading " + "".join(parts))


def _content(path: Path) -> object:
    names = _globals(path)
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        stand_ins = [
            (_Inert if name.startswith("numpy.") else _Record, name) for name in names if _METADATA.match(name)
        ]
        with warnings.catch_warnings(), torch.serialization.safe_globals([*stand_ins, *_BUILTINS]):
            warnings.simplefilter("ignore")  # PyTorch warns about pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251  # restricted to tensors
    except FileNotFoundError as exc:
        raise BuildError(f"the weights file {path} does not exist") from exc
    except Exception as exc:  # damaged files raise many kinds of exceptions
        if isinstance(exc, OSError) or path.suffix == ".safetensors":
            raise BuildError(f"the weights file {path} cannot be read: {exc}") from exc
        if "TorchScript" in str(exc):
            raise BuildError(
                f"{path} is a TorchScript archive, which contains a program. Save its weights with "
                f"torch.save(torch.jit.load({path.name!r}).state_dict(), 'weights.pth')"
            ) from exc
        if path.suffix in _FOREIGN:
            raise BuildError(f"{path} is a file of {_FOREIGN[path.suffix]}; use a PyTorch checkpoint (.pth)") from exc
        # PyTorch's own message is left out: it suggests opening the file without the restriction.
        refused = sorted(name for name in names if not (_METADATA.match(name) or _TENSORS.match(name)))
        what = f" ({_some(refused)})" if refused else ""
        raise BuildError(
            f"{path} is damaged or contains more than tensors{what}; it was not opened, because that "
            "could run code: save it again as .safetensors, or with torch.save(model.state_dict(), …)"
        ) from exc


def _globals(path: Path) -> set[str]:
    """Name the functions and classes that a pickle needs, as far as they can be found without opening it."""
    names: set[str] = set()
    # A damaged file raises many kinds of exceptions; PyTorch then refuses it.
    with contextlib.suppress(Exception), path.open("rb") as file:
        streams: list[IO[bytes]] = [file] * 4  # the format without zip has three pickles before the content
        if zipfile.is_zipfile(file):
            archive = zipfile.ZipFile(file)
            streams = [archive.open(name) for name in archive.namelist() if name.endswith("data.pkl")]
        file.seek(0)
        for stream in streams:
            names |= {
                str(arg).replace(" ", ".").replace("__builtin__", "builtins")
                for op, arg, _ in pickletools.genops(stream)
                if op.name == "GLOBAL"
            }
    return names


def _state_dicts(content: Mapping[Any, Any], at: str = "") -> Iterator[tuple[str, StateDict]]:
    """Find the dictionaries with tensors, at most three deep; return their keys, joined by dots, and the tensors."""
    state = {key: value for key, value in content.items() if isinstance(key, str) and isinstance(value, torch.Tensor)}
    if state:
        yield at, state
    for key, value in content.items():
        if isinstance(key, str) and isinstance(value, Mapping) and at.count(".") < _DEEPEST:
            yield from _state_dicts(value, f"{at}.{key}" if at else key)


def _chosen(networks: Sequence[Found], key: str | None, path: Path) -> Found:
    """Return the only network, or the one that the key names, in full or by some of its parts."""
    named = [network for network in networks if key is None or f".{key.strip('.')}." in f".{network.key}."]
    exact = [network for network in named if network.key == key]
    if len(found := exact or named) == 1:
        return found[0]
    choices = ", ".join(network.key if network.key != "." else ". (the top level)" for network in networks)
    if key is None:
        raise UsageError(f"{path} contains {len(networks)} networks: choose one with --checkpoint-key: {choices}")
    raise UsageError(f"--checkpoint-key {key} names {len(found)} networks in {path}; choose one of: {choices}")


def _plain(tensors: Mapping[str, tuple[str, torch.Tensor]]) -> StateDict:
    """Convert to float32; ``tensors`` has a name to return, and the name in the file and the tensor.

    Raises:
        ValueError: a tensor is not a dense array of finite real numbers, or is larger than its memory.
    """
    plain: StateDict = {}
    used: Counter[int] = Counter()  # bytes read from each storage, by its address
    for name, (original, value) in tensors.items():
        if value.is_complex() or value.is_quantized or value.is_meta or value.layout != torch.strided:
            raise ValueError(
                f"unsupported tensor {original} ({value.dtype}, {value.device}, {value.layout}): expected a dense "
                "tensor of real numbers, not quantised; convert it with .float() or .to_dense(), and save it again"
            )
        storage = value.untyped_storage()
        used[storage.data_ptr()] += value.numel() * value.element_size()
        if used[storage.data_ptr()] > storage.nbytes():
            # Without this check, a small file could need more memory than the machine has.
            raise ValueError(
                f"unsupported tensor {original} {tuple(value.shape)}: it shares memory with another tensor, or is an "
                "expanded view; save tensor.clone() of every tensor"
            )
        plain[name] = value.detach().to(torch.float32)
    if bad := [tensors[name][0] for name, value in plain.items() if not value.isfinite().all()]:
        raise ValueError(f"NaN or infinite values in {_some(bad)}: the training diverged; use an earlier checkpoint")
    return plain


def _layers(state: StateDict) -> list[str]:
    """Describe the layers of a head, with the activations that are assumed."""
    return [type(layer).__name__ for layer in make_head(state).children()]


def _largest(states: Mapping[str, StateDict]) -> str:
    """Describe the largest state dict, which is what the user meant."""
    at, state = max(states.items(), key=lambda item: len(item[1]), default=("", {}))
    shapes = [f"{name} {tuple(tensor.shape)}" for name, tensor in state.items()]
    return (
        f"`{at}` has {len(state)} tensors ({_some(shapes)})" if at else f"found {len(state)} tensors ({_some(shapes)})"
    )


def _some(texts: Sequence[str]) -> str:
    return ", ".join(texts[:_SHOWN]) + (", …" if len(texts) > _SHOWN else "")
