"""Reads state dicts from files, without running code that a file may contain.

A ``.pth`` file is a pickle, which can call any function while it is opened. PyTorch's restricted reader accepts
tensors and plain containers only. Safetensors files cannot contain anything else.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file

from resnet_build import BuildError

StateDict = dict[str, torch.Tensor]

_WRAPPERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.")
_COUNTERS = ".num_batches_tracked"
_NAMED_AT_MOST = 3


def read(path: Path) -> StateDict:
    """Read a state dict: safetensors, or a pickle restricted to tensors.

    Returns:
        float32 tensors under torchvision's names, without wrappers, prefixes and batch-norm counters.

    Raises:
        BuildError: the file is missing or damaged, contains more than tensors, or is not a state dict.
    """
    try:
        return cleaned(_unwrapped(_content(path), path))
    except (RuntimeError, TypeError, ValueError) as exc:
        # Sparse, quantised and meta tensors cannot be converted to plain float32 ones.
        raise BuildError(f"{path} contains an unsupported tensor: {exc}") from exc


def _content(path: Path) -> object:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # PyTorch warns about pickles that it then refuses
            return torch.load(path, map_location="cpu", weights_only=True)  # noqa: TID251  # restricted to tensors
    except FileNotFoundError as exc:
        raise BuildError(f"the weights file {path} does not exist") from exc
    except Exception as exc:  # damaged files raise many kinds of exceptions
        if isinstance(exc, OSError) or path.suffix == ".safetensors":
            raise BuildError(f"the weights file {path} cannot be read: {exc}") from exc
        # PyTorch's own message is left out: it suggests opening the file without the restriction.
        raise BuildError(
            f"{path} is damaged or contains more than tensors{_what_else(path)}; it was not opened, because that "
            "could run code: save it again as .safetensors, or with torch.save(model.state_dict(), …)"
        ) from exc


def _what_else(path: Path) -> str:
    """Name the functions and classes that a pickle needs; empty if that cannot be found without opening it."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(str(path))
    except Exception:  # noqa: BLE001  # a damaged file raises many kinds; then there is nothing to name
        return ""
    return f" ({', '.join(sorted(names)[:_NAMED_AT_MOST])})" if names else ""


def _unwrapped(content: object, path: Path) -> Mapping[Any, Any]:
    """Return the state dict without the dictionaries that training scripts save around it."""
    if isinstance(content, Mapping):
        for key in _WRAPPERS:
            if isinstance(content.get(key), Mapping):
                return cast("Mapping[Any, Any]", content[key])
        return content
    raise BuildError(f"{path} contains a {type(content).__name__}, not a state dict")


def cleaned(state: Mapping[Any, Any]) -> StateDict:
    """Drop wrappers' prefixes and batch-norm counters, which inference does not need; convert to float32.

    Raises:
        BuildError: two tensors have the same name without their prefixes.
    """
    cleaned: StateDict = {}
    used: Counter[int] = Counter()
    for name, value in state.items():
        if isinstance(value, torch.Tensor) and isinstance(name, str) and not name.endswith(_COUNTERS):
            short = _without_prefixes(name)
            if short in cleaned:
                raise BuildError(
                    f"the state dict contains {short} more than once, with different prefixes of "
                    f"{', '.join(_PREFIXES)}; save one network only"
                )
            cleaned[short] = _plain(value, used)
    return cleaned


def _plain(value: torch.Tensor, used: Counter[int]) -> torch.Tensor:
    """Convert to float32; ``used`` counts the bytes read from each storage, by its address."""
    if value.is_complex() or value.is_quantized or value.is_meta or value.layout != torch.strided:
        raise ValueError(
            f"{value.dtype}, {value.device}, {value.layout}; only dense, unquantized, real tensors are accepted"
        )
    storage = value.untyped_storage()
    used[storage.data_ptr()] += value.numel() * value.element_size()
    if used[storage.data_ptr()] > storage.nbytes():
        # Without this check, a small file could need more memory than the machine has.
        raise ValueError(
            f"one of shape {tuple(value.shape)} shares memory with another tensor, or is an expanded view; save "
            "tensor.clone() of every tensor"
        )
    return value.detach().to(torch.float32)


def _without_prefixes(name: str) -> str:
    stripped = True
    while stripped:
        stripped = False
        for prefix in _PREFIXES:
            if name.startswith(prefix):
                name, stripped = name.removeprefix(prefix), True
    return name
