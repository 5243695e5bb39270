"""Names the network that convolutions and norms belong to, and refuses others than ResNet-50."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torchvision.models import resnet50

from resnet_build import BuildError

StateDict = dict[str, torch.Tensor]

# Whether blocks are bottlenecks, and blocks in each stage → depth.
_DEPTHS: Mapping[tuple[bool, tuple[int, ...]], int] = {
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (2, 2, 2, 2)): 26,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
    (True, (3, 24, 36, 3)): 200,
}
_WIDTH = 64  # channels of the first stage
# Channels of the first of three convolutions in the stem, and whether shortcuts pool before theirs.
_DEEP_STEMS = {
    (32, False): "a deep stem (timm's c)",
    (32, True): "a deep stem and pooling shortcuts (timm's d)",
    (64, False): "a deep, wide stem (timm's s)",
    (24, True): "a deep, tiered stem and pooling shortcuts (timm's t)",
}
_EXTRAS = {
    ".se.fc": "squeeze-and-excitation (timm's se)",
    ".se.conv.": "efficient channel attention (timm's eca)",
    ".conv2.fc": "split attention (ResNeSt)",
    ".convs.": "hierarchical convolutions (Res2Net)",
}
_SHOWN = 3


def check(tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse another network by the names and shapes of its tensors, without the head.

    Raises:
        BuildError: they are not those of torchvision's ResNet-50; the message names the network and the difference.
    """
    with torch.device("meta"):  # shapes only
        net = resnet50()
    shapes = {
        name: tensor.shape
        for name, tensor in net.state_dict().items()
        if not name.startswith("fc.") and not name.endswith(".num_batches_tracked")
    }
    differences = [
        f"{name} {tuple(tensors[name].shape)} instead of {tuple(shape)}"
        for name, shape in shapes.items()
        if name in tensors and tensors[name].shape != shape
    ]
    for what, names in (("missing", shapes.keys() - tensors.keys()), ("unknown", tensors.keys() - shapes.keys())):
        if names:
            differences.insert(0, f"{len(names)} tensors are {what} ({', '.join(sorted(names)[:_SHOWN])})")
    if differences:
        parameters = sum(tensor.numel() for name, tensor in tensors.items() if ".running_" not in name)
        raise BuildError(
            f"the network is {name_of(tensors)} ({parameters:,} parameters before the classifier), and only "
            f"torchvision's ResNet-50 (23,508,032) is supported: {'; '.join(differences[:_SHOWN])}"
        )


def name_of(tensors: Mapping[str, torch.Tensor]) -> str:
    """Name a ResNet by its blocks, widths and extra layers: ``a ResNet-101``, ``a ResNeXt-50 32x4d with …``."""
    blocks = tuple(len({name.split(".")[1] for name in tensors if name.startswith(f"layer{i}.")}) for i in range(1, 5))
    depth = _DEPTHS.get(("layer1.0.conv3.weight" in tensors, blocks))
    conv = tensors.get("layer1.0.conv2.weight", torch.empty(_WIDTH, _WIDTH))
    width, per_group = conv.shape[:2]
    family, suffix = ("ResNet", "") if width == _WIDTH else ("Wide ResNet", f"-{width / _WIDTH:g}")
    if width != per_group:
        family, suffix = "ResNeXt", f" {width // per_group}x{per_group}d"
    extras = [text for part, text in _EXTRAS.items() if any(part in name for name in tensors)]
    stem, shortcut = tensors.get("conv1.0.weight"), tensors.get("layer2.0.downsample.1.weight")
    if stem is not None:
        extras.append(_DEEP_STEMS.get((len(stem), shortcut is not None and shortcut.ndim > 1), "a deep stem"))
    if not any(name.endswith(".running_mean") for name in tensors):
        extras.append("group norms (timm's gn)")
    number = f"-{depth}" if depth else f" of {'-'.join(map(str, blocks))} blocks"
    return f"a {family}{number}{suffix}" + (f" with {' and '.join(extras)}" if extras else "")
