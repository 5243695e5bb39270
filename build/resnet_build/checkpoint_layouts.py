"""Finds ResNets among the tensors of a checkpoint, and names their tensors as torchvision does.

A network is where the first convolution of the first block is; what its name begins with is the prefix of the network.
The tensors that are not in the network's stages are its head, a chain of linear layers that begins with the features,
or left from training.
"""

from __future__ import annotations

import dataclasses
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence

import torch

from resnet_build import BuildError, architectures

_FIRST = "layer1.0.conv1.weight"
_STAGES = re.compile(r"(conv1|bn1|layer[1-4])\.")
_COUNTERS = ".num_batches_tracked"
# Wrappers of PyTorch around a part of a network: torch.compile, FSDP, activation checkpointing.
_WRAPPERS = re.compile(r"(?<=\.)(_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")
# Hugging Face's names → torchvision's; its stages and layers count from 0.
_HUGGING_FACE = (
    (r"\bembedder\.embedder\.convolution\.", "conv1."),
    (r"\bembedder\.embedder\.normalization\.", "bn1."),
    (r"\bencoder\.stages\.(\d)\.layers\.(\d+)\.", r"layer<\1>.\2."),
    (r"\.shortcut\.convolution\.", ".downsample.0."),
    (r"\.shortcut\.normalization\.", ".downsample.1."),
    (r"\.layer\.(\d)\.convolution\.", r".conv<\1>."),
    (r"\.layer\.(\d)\.normalization\.", r".bn<\1>."),
)
# `nn.Sequential(*resnet.children())` has numbers; fastai and many scripts cut off the head so.
_FIRST_OF_CHILDREN = "4.0.conv1.weight"
_CHILDREN = {"0": "conv1", "1": "bn1", "4": "layer1", "5": "layer2", "6": "layer3", "7": "layer4"}

_LINEAR = {"weight", "bias"}
_BATCH_NORM = {"weight", "bias", "running_mean", "running_var"}
# The second: fastai concatenates maximum and average.
_FEATURES = (2048, 4096)
_SHOWN = 3


@dataclasses.dataclass(frozen=True)
class Found:
    """A network in a checkpoint.

    Attributes:
        at: keys of the dictionaries around it, joined by dots; empty at the top.
        prefix: what the names of its stages begin with.
        tensors: all tensors of the dictionary, with torchvision's names for the stages.
        names: the keys of ``tensors`` → their names in the file.
    """

    at: str
    prefix: str
    tensors: Mapping[str, torch.Tensor]
    names: Mapping[str, str]

    @property
    def key(self) -> str:
        """What ``--checkpoint-key`` selects it by; a dot if it is at the top, without a prefix."""
        return ".".join(part for part in (self.at, self.prefix.rstrip(".")) if part) or "."

    def stages(self) -> dict[str, str]:
        """Return the tensors before the head: torchvision's name → key in ``tensors``.

        Raises:
            BuildError: they are quantised, or belong to another network than ResNet-50.
        """
        own = {key.removeprefix(self.prefix): key for key in self.tensors if key.startswith(self.prefix)}
        stages = {name: key for name, key in own.items() if _STAGES.match(name)}
        if integers := [
            key for name, key in stages.items() if name.endswith("weight") and not _is_float(self.tensors[key])
        ]:
            raise BuildError(
                f"the network is quantised ({self.shown(integers)}, {self.tensors[integers[0]].dtype}): use the "
                "checkpoint from before the quantisation; --variant int8 quantises it"
            )
        architectures.check({name: self.tensors[key] for name, key in stages.items()})
        return stages

    def head(self, rest: Sequence[str]) -> dict[str, str]:
        """Return the tensors of the head: ``fc.weight``, or ``fc.0.weight``, … → key in ``tensors``.

        Args:
            rest: keys of the tensors that are not in the stages.

        Raises:
            BuildError: there is no such chain, there are several, or other layers follow.
        """
        groups: dict[str, list[str]] = defaultdict(list)
        # The modules that contain the stages, the innermost first; names are relative to the one that contains both.
        scopes = [self.prefix[:end] for end in range(len(self.prefix), 0, -1) if self.prefix[end - 1] == "."]
        for key in sorted(rest, key=_numbers):
            top = key.removeprefix(next(filter(key.startswith, scopes), "")).partition(".")[0]
            groups[top.rstrip("0123456789") or top].append(key)
        chains = {top: chain for top, keys in groups.items() if (chain := _chain(self.tensors, keys))}
        chain = chains.get("fc") or next(iter(chains.values()), {})
        if not chain:
            raise BuildError(
                "the network has no classifier that can be exported: expected linear layers and batch norms, the first "
                f"with {_FEATURES[0]} inputs, and found {self.shown(rest) or 'nothing'} after the convolutions"
            )
        if len(chains) > 1 and "fc" not in chains:
            raise BuildError(f"the network has several heads ({', '.join(chains)}): save it with one, named fc")
        outputs = self.tensors[_last(chain)].shape[0]
        others = [key for key in rest if key.endswith(".weight") and key not in chain.values()]
        if after := [key for key in others if self.tensors[key].shape[1:] == (outputs,)]:
            raise BuildError(
                f"the layer {self.shown(after)} follows the classifier {self.shown([_last(chain)])}, and only one "
                "chain of layers can be exported: set model.fc = nn.Sequential(classifier, …, that layer), and save it "
                "again"
            )
        return chain

    def shown(self, keys: Iterable[str]) -> str:
        """List tensors as the file names them, with their shapes."""
        texts = [f"{self.names[key]} {tuple(self.tensors[key].shape)}" for key in keys]
        return ", ".join(texts[:_SHOWN]) + (f" and {len(texts) - _SHOWN} others" if len(texts) > _SHOWN else "")


def find(at: str, state: Mapping[str, torch.Tensor]) -> Iterator[Found]:
    """Find the networks in one dictionary of tensors; ``at`` is where the file has it."""
    names = {_as_torchvision(name): name for name in state if not name.endswith(_COUNTERS)}
    if not (prefixes := _before(_FIRST, names)):
        for body in (prefixes := _before(_FIRST_OF_CHILDREN, names)):
            names = {_named_child(name, body): original for name, original in names.items()}
    tensors = {name: state[original] for name, original in names.items()}
    yield from (Found(at, prefix, tensors, names) for prefix in prefixes)


def _before(suffix: str, names: Iterable[str]) -> list[str]:
    """Return what precedes the suffix in names that end with it."""
    return [name.removesuffix(suffix) for name in names if f".{name}".endswith(f".{suffix}")]


def _as_torchvision(name: str) -> str:
    """Remove inner wrappers; replace Hugging Face's names."""
    name = _WRAPPERS.sub("", name)
    for pattern, replacement in _HUGGING_FACE:
        name = re.sub(pattern, replacement, name)
    return re.sub(r"<(\d)>", lambda found: str(int(found[1]) + 1), name)


def _named_child(name: str, body: str) -> str:
    child, dot, rest = name.removeprefix(body).partition(".")
    return f"{body}{_CHILDREN[child]}{dot}{rest}" if name.startswith(body) and child in _CHILDREN else name


def _is_float(tensor: torch.Tensor) -> bool:
    return tensor.is_floating_point() or tensor.is_complex()


def _numbers(name: str) -> list[int]:
    """Order by the numbers in a name, because safetensors sorts 10 before 2; others keep their order."""
    return [int(digits) for digits in re.findall(r"\d+", name)]


def _last(chain: Mapping[str, str]) -> str:
    """Return the key of the last layer's weight."""
    return [key for name, key in chain.items() if name.endswith("weight")][-1]


def _chain(tensors: Mapping[str, torch.Tensor], keys: Iterable[str]) -> dict[str, str]:
    """Name the tensors of a head ``fc.<number>.<name>``, where a missing number is a ReLU; empty if it is not a chain.

    Activations have no tensors. One follows each linear layer except the last, where the numbers of an `nn.Sequential`
    leave room for it, or before the next linear layer of modules with names.
    """
    modules: dict[str, dict[str, str]] = defaultdict(dict)
    for key in keys:
        module, _, leaf = key.rpartition(".")
        modules[module][leaf] = key
    layers: list[dict[str, str]] = []
    widths: tuple[int, ...] = _FEATURES
    is_linear, is_due, before = False, False, ""
    for module, parts in modules.items():
        weight = tensors[parts["weight"]] if "weight" in parts else torch.empty(0)
        is_linear = weight.ndim == 2 and parts.keys() <= _LINEAR  # noqa: PLR2004  # outputs and inputs
        if not (is_linear or parts.keys() == _BATCH_NORM) or weight.shape[-1] not in widths:
            return {}
        if any(tensors[key].shape != weight.shape[:1] for leaf, key in parts.items() if leaf != "weight"):
            return {}
        parent, _, index = module.rpartition(".")
        has_room = not index.isdecimal() or f"{parent}.{int(index) - 1}" != before
        if is_due and has_room and (is_linear or index.isdecimal()):
            layers.append({})
            is_due = False
        layers.append(parts)
        is_due, widths, before = is_due or is_linear, weight.shape[:1], module
    if not is_linear:
        return {}
    if len(layers) == 1:
        return {f"fc.{leaf}": key for leaf, key in layers[0].items()}
    return {f"fc.{number}.{leaf}": key for number, parts in enumerate(layers) for leaf, key in parts.items()}
