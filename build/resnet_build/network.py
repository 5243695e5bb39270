"""The network as it is served: torchvision's ResNet-50 between normalisation and softmax."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval
from torchvision.models import ResNet, resnet50
from torchvision.models.resnet import Bottleneck

from resnet_build.architectures import StateDict

Architecture = Literal["v1", "v1.5"]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
# Probabilities, shape (N, classes), and features, shape (N, 2048); of a backbone its maps.
Outputs = Sequence[Floats]
# An opened artifact: uint8 pixels of shape (N, size, size, 3) → its outputs.
Network = Callable[[Pixels], Outputs]

FEATURES = 2048
IMAGENET_CLASSES = 1000
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclasses.dataclass(frozen=True)
class Input:
    """The pixels that a network takes.

    Attributes:
        size: side of the square, in pixels.
        mean: subtracted from red, green and blue, which are between 0 and 1.
        std: what they are then divided by.
    """

    size: int = 224
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD


IMAGENET_INPUT = Input()


class ServedNetwork(nn.Module):
    """Pixels in, probabilities and features out; normalisation and softmax are part of the network.

    ``forward`` takes uint8, shape (N, size, size, 3), RGB, 0 to 255, and returns float32 probabilities of
    shape (N, classes), rows summing to 1 (sigmoid, if there is one output), and float32 features of shape
    (N, 2048), the global average pool. A head with 4096 inputs gets the maximum before the average, as in fastai.
    """

    def __init__(self, backbone: ResNet, pixels: Input = IMAGENET_INPUT) -> None:
        super().__init__()
        self.backbone = backbone
        first, *_, last = backbone.fc.parameters()
        self.has_maximum = first.shape[-1] == 2 * FEATURES
        self.is_binary = len(last) == 1
        self.size = pixels.size
        self.mean = nn.Buffer(255.0 * torch.tensor(pixels.mean).reshape(1, 3, 1, 1))
        self.std = nn.Buffer(255.0 * torch.tensor(pixels.std).reshape(1, 3, 1, 1))

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the input of torchvision's networks: float32, shape (N, 3, size, size)."""
        # TensorRT accepts an input of 8 bits only where a cast reads it.
        return (pixels.to(torch.float32).permute(0, 3, 1, 2) - self.mean) / self.std

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify a batch of preprocessed pixels."""
        net = self.backbone
        x = self.normalised(pixels)
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        features = x.mean(dim=(2, 3))
        logits = net.fc(torch.cat([x.amax(dim=(2, 3)), features], dim=1) if self.has_maximum else features)
        return torch.sigmoid(logits) if self.is_binary else torch.softmax(logits, dim=1), features


def runner(module: torch.nn.Module) -> Network:
    """Return a function that runs a module on arrays, without gradients."""

    def run(pixels: Pixels) -> Outputs:
        with torch.inference_mode():
            return [output.numpy() for output in module(torch.from_numpy(pixels))]

    return run


def make_resnet50(architecture: Architecture, classes: int) -> ResNet:
    """Make an untrained ResNet-50 in evaluation mode.

    Args:
        architecture: ``v1.5`` has stride 2 in the 3x3 convolutions (torchvision's weights), ``v1`` in the
            first 1x1 convolutions (He et al. 2015, Keras' weights). The state dicts have the same names and shapes;
            weights of one lose about 13 points of top-1 in the other.
        classes: number of outputs.
    """
    net = resnet50(num_classes=classes)
    if architecture == "v1":
        for stage in (net.layer2, net.layer3, net.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = (2, 2), (1, 1)
    return net.eval()


def load_network(architecture: Architecture, state_dict: StateDict) -> ResNet:
    """Put the tensors of a :class:`checkpoints.Checkpoint` into a ResNet-50."""
    net = make_resnet50(architecture, 1)
    net.fc = make_head(state_dict)
    net.load_state_dict(state_dict, strict=False)  # batch-norm counters are missing
    return net.eval()


def make_head(state_dict: StateDict) -> nn.Linear | nn.Sequential:
    """Make the untrained head whose tensors a state dict has.

    ``fc.weight`` belongs to a linear layer, ``fc.<number>.weight`` to a linear layer or batch norm of a chain, in which
    a missing number is a ReLU.
    """

    def layer(name: str) -> nn.Linear | nn.BatchNorm1d | nn.ReLU:
        weight = state_dict.get(f"{name}.weight")
        if weight is None:
            return nn.ReLU()
        if f"{name}.running_mean" in state_dict:
            return nn.BatchNorm1d(len(weight))
        return nn.Linear(weight.shape[1], len(weight))

    if "fc.weight" in state_dict:
        return layer("fc")  # type: ignore[return-value]  # two dimensions
    last = max(int(name.split(".")[1]) for name in state_dict if name.startswith("fc."))
    return nn.Sequential(*(layer(f"fc.{number}") for number in range(last + 1)))


def fold_batch_norms(net: ResNet) -> ResNet:
    """Fold every batch norm into the convolution before it: the same function with 53 layers fewer."""

    def fold(owner: nn.Module, conv: str, norm: str) -> None:
        fused = fuse_conv_bn_eval(getattr(owner, conv), getattr(owner, norm))
        setattr(owner, conv, fused)
        setattr(owner, norm, nn.Identity())

    fold(net, "conv1", "bn1")
    for block in (module for module in net.modules() if isinstance(module, Bottleneck)):
        for index in (1, 2, 3):
            fold(block, f"conv{index}", f"bn{index}")
        if block.downsample is not None:
            fold(block.downsample, "0", "1")
    return net


def move_strides_up(net: ResNet) -> ResNet:
    """Skip positions that the next stage does not read: the same function, in v1 with a tenth less arithmetic.

    A stage of v1 begins with two 1x1 convolutions of stride 2, which read every fourth position. So the 3x3 convolution
    of the block before gets the stride, and its shortcut is subsampled. A network of v1.5 stays as it is.
    """
    stages = (net.layer1, net.layer2, net.layer3, net.layer4)
    for before, stage in itertools.pairwise(stages):
        last, first = before[-1], stage[0]
        if first.conv1.stride != (1, 1):
            last.conv2.stride, last.downsample = (2, 2), nn.MaxPool2d(kernel_size=1, stride=2)
            first.conv1.stride = first.downsample[0].stride = (1, 1)
    return net
