"""The network: its shape, its two stride placements, and what folding must not change."""

from __future__ import annotations

import copy

import pytest
import torch
from resnet_build import layers
from resnet_build.network import (
    IMAGENET_MEAN,
    IMAGENET_STD,
    Architecture,
    ServedNetwork,
    fold_batch_norms,
    make_resnet50,
    move_strides_up,
)
from torchvision.transforms import functional as F  # noqa: N812  # torchvision's own convention


@pytest.fixture(scope="module")
def noise() -> torch.Tensor:
    """Two noisy images, small, so that they are quick; the network takes any size."""
    return torch.randint(0, 256, (2, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def test_stages_have_the_published_size() -> None:
    """25,557,032 parameters, 16 blocks and 4.09 billion multiply-adds, as published by torchvision."""
    rows = layers.stages("v1.5", 1000)
    assert sum(row.parameters for row in rows) == 25_557_032
    assert [row.blocks for row in rows if row.blocks] == [3, 4, 6, 3]
    assert sum(row.gmacs for row in rows) == pytest.approx(4.089, abs=0.001)
    assert next(row for row in rows if row.name == "layer4").shape == (2048, 7, 7)


def test_stages_of_v1_are_cheaper() -> None:
    """He's placement computes the 3x3 at half the size: 3.86 billion multiply-adds."""
    rows = layers.stages("v1", 1000)
    assert sum(row.gmacs for row in rows) == pytest.approx(3.858, abs=0.001)
    assert "stride 2 in the first 1x1" in next(row.detail for row in rows if row.name == "layer2")


def test_served_network_normalises_as_torchvision_does(noise: torch.Tensor) -> None:
    """Raw pixels through the served network equal normalised floats through torchvision's own."""
    net = make_resnet50("v1.5", 10)
    floats = F.normalize(noise.permute(0, 3, 1, 2) / 255, list(IMAGENET_MEAN), list(IMAGENET_STD))
    with torch.inference_mode():
        probabilities, features = ServedNetwork(net).eval()(noise)
        expected = torch.softmax(net(floats), dim=1)
    assert torch.allclose(probabilities, expected, atol=1e-5)
    assert features.shape == (2, 2048)
    assert torch.allclose(probabilities.sum(dim=1), torch.ones(2))


@pytest.mark.parametrize("architecture", ["v1", "v1.5"])
def test_fold_batch_norms_keeps_the_function(noise: torch.Tensor, architecture: Architecture) -> None:
    """Without batch norms the network computes the same."""
    net = make_resnet50(architecture, 10)
    generator = torch.Generator().manual_seed(1)
    for name, buffer in net.named_buffers():
        if name.endswith(("running_mean", "running_var")):
            buffer.copy_(0.5 + torch.rand(buffer.shape, generator=generator))
    folded = fold_batch_norms(copy.deepcopy(net))
    with torch.inference_mode():
        expected, _ = ServedNetwork(net).eval()(noise)
        got, _ = ServedNetwork(folded).eval()(noise)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in folded.modules())
    assert torch.allclose(got, expected, atol=1e-5)


@pytest.mark.parametrize(("architecture", "strides"), [("v1", [2, 2, 2]), ("v1.5", [1, 1, 1])])
def test_move_strides_up_keeps_the_function(
    noise: torch.Tensor, architecture: Architecture, strides: list[int]
) -> None:
    """The last block of a stage computes what the next stage reads; where it reads all, nothing changes."""
    torch.manual_seed(1)
    net = make_resnet50(architecture, 10)
    moved = move_strides_up(copy.deepcopy(net))
    with torch.inference_mode():
        expected, got = (ServedNetwork(one).eval()(noise) for one in (net, moved))
    assert [stage[-1].conv2.stride[0] for stage in (moved.layer1, moved.layer2, moved.layer3)] == strides
    for one, other in zip(got, expected, strict=True):
        assert torch.allclose(one, other, atol=1e-5 * float(other.max()))  # sums in another order
