"""``resnet-build describe``: prints the layers of the network as a table."""

from __future__ import annotations

import dataclasses

import torch
from rich.table import Table
from torch import nn
from torch.utils.flop_counter import FlopCounterMode
from torchvision.models.resnet import Bottleneck

from resnet_build.network import Architecture, make_resnet50


@dataclasses.dataclass(frozen=True)
class Stage:
    """One row: a part of the network, for one 224x224 image.

    Attributes:
        name: the part's attribute in torchvision's module.
        blocks: residual blocks in it; 0 for the stem and the head.
        detail: kernels, channels and stride.
        shape: output, channels first, without the batch.
        parameters: trainable scalars.
        gmacs: billions of multiply-adds.
    """

    name: str
    blocks: int
    detail: str
    shape: tuple[int, ...]
    parameters: int
    gmacs: float


def stages(architecture: Architecture, classes: int) -> list[Stage]:
    """Measure every stage by running it on PyTorch's meta device, which computes shapes only."""
    with torch.device("meta"):
        net, x = make_resnet50(architecture, classes), torch.zeros(1, 3, 224, 224)
    parts: list[tuple[str, str, nn.Module]] = [
        ("conv1", "7x7, 64, stride 2", nn.Sequential(net.conv1, net.bn1, net.relu)),
        ("maxpool", "3x3, stride 2", net.maxpool),
        *((f"layer{i}", _bottleneck(getattr(net, f"layer{i}")), getattr(net, f"layer{i}")) for i in range(1, 5)),
        ("avgpool", "global average", nn.Sequential(net.avgpool, nn.Flatten())),
        ("fc", f"linear, {classes} classes", net.fc),
    ]
    rows = []
    for name, detail, module in parts:
        counter = FlopCounterMode(display=False)
        with torch.inference_mode(), counter:
            x = module(x)
        blocks = len(module) if name.startswith("layer") and isinstance(module, nn.Sequential) else 0
        parameters = sum(parameter.numel() for parameter in module.parameters())
        # PyTorch counts a multiply-add as two operations.
        rows.append(Stage(name, blocks, detail, tuple(x.shape[1:]), parameters, counter.get_total_flops() / 2e9))
    return rows


def _bottleneck(layer: nn.Sequential) -> str:
    block = layer[0]
    assert isinstance(block, Bottleneck)  # noqa: S101  # for the type checker
    convolutions = (block.conv1, block.conv2, block.conv3)
    kernels = " · ".join(f"{conv.kernel_size[0]}x{conv.kernel_size[0]}, {conv.out_channels}" for conv in convolutions)
    strided = [f"{conv.kernel_size[0]}x{conv.kernel_size[0]}" for conv in convolutions if conv.stride[0] > 1]
    return f"{kernels}; stride 2 in the first {strided[0]}" if strided else kernels


def table(architecture: Architecture, classes: int) -> Table:
    """Return the stages as a table, with totals."""
    rows = stages(architecture, classes)
    gmacs = sum(row.gmacs for row in rows)
    out = Table(
        title=f"ResNet-50 {architecture}, {classes} classes, one 224x224 image",
        caption=f"{gmacs:.2f} billion multiply-adds (GMACs) are {2 * gmacs:.2f} GFLOPs",
    )
    for column in ("stage", "layers"):
        out.add_column(column, overflow="fold")
    for column in ("blocks", "output", "parameters", "GMACs"):
        out.add_column(column, justify="right")
    for row in rows:
        shape = "x".join(map(str, row.shape))
        out.add_row(row.name, row.detail, str(row.blocks or ""), shape, f"{row.parameters:,}", f"{row.gmacs:.3f}")
    out.add_section()
    parameters = sum(row.parameters for row in rows)
    out.add_row("total", "", str(sum(row.blocks for row in rows)), "", f"{parameters:,}", f"{gmacs:.3f}")
    return out
