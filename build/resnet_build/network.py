"""The network as it is served: torchvision's ResNet-50 between normalisation and softmax."""

from __future__ import annotations

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

from resnet_build import BuildError

Architecture = Literal["v1", "v1.5"]
Pixels = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
# Probabilities, shape (N, classes), and features, shape (N, 2048); of a backbone its maps.
Outputs = Sequence[Floats]
# An opened artifact: uint8 pixels of shape (N, 224, 224, 3) → its outputs.
Network = Callable[[Pixels], Outputs]

IMAGENET_CLASSES = 1000
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

# ResNet-18 and ResNet-34 do not have this convolution.
_BASIC_BLOCK_KEY = "layer1.0.conv3.weight"


class ServedNetwork(nn.Module):
    """Pixels in, probabilities and features out; normalisation and softmax are part of the network.

    ``forward`` takes uint8, shape (N, 224, 224, 3), RGB, 0 to 255, and returns float32 probabilities of
    shape (N, classes), rows summing to 1, and float32 features of shape (N, 2048), the global average
    pool. Mean and standard deviation are those of all published ImageNet weights (``weights.transforms()``).
    """

    def __init__(self, backbone: ResNet) -> None:
        super().__init__()
        self.backbone = backbone
        self.mean = nn.Buffer(255.0 * torch.tensor(IMAGENET_MEAN).reshape(1, 3, 1, 1))
        self.std = nn.Buffer(255.0 * torch.tensor(IMAGENET_STD).reshape(1, 3, 1, 1))

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the input of torchvision's networks: float32, shape (N, 3, 224, 224)."""
        # TensorRT accepts an input of 8 bits only where a cast reads it.
        return (pixels.to(torch.float32).permute(0, 3, 1, 2) - self.mean) / self.std

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Classify a batch of preprocessed pixels."""
        net = self.backbone
        x = self.normalised(pixels)
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
        features = x.mean(dim=(2, 3))
        return torch.softmax(net.fc(features), dim=1), features


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


def load_network(architecture: Architecture, state_dict: dict[str, torch.Tensor]) -> ResNet:
    """Put weights that passed :func:`check_shapes` into a ResNet-50."""
    net = make_resnet50(architecture, state_dict["fc.bias"].numel())
    net.load_state_dict(state_dict, strict=False)
    return net


def check_shapes(state_dict: dict[str, torch.Tensor]) -> None:
    """Refuse weights of another network by their names and shapes.

    Raises:
        BuildError: the weights belong to another network.
    """
    parameters = sum(tensor.numel() for name, tensor in state_dict.items() if ".running_" not in name)
    if _BASIC_BLOCK_KEY not in state_dict:
        raise BuildError(
            f"these weights are not those of a ResNet-50: the tensor {_BASIC_BLOCK_KEY!r} is missing ({parameters:,} "
            "parameters; a ResNet-34 has 21.8 million, a ResNet-50 25.6 million). Use torchvision's resnet50"
        )
    classes = state_dict["fc.bias"].numel() if "fc.bias" in state_dict else IMAGENET_CLASSES
    with torch.device("meta"):  # shapes only
        net = resnet50(num_classes=classes)
    shapes = {name: t.shape for name, t in net.state_dict().items() if not name.endswith(".num_batches_tracked")}
    if shapes.keys() != state_dict.keys():
        missing, unknown = sorted(shapes.keys() - state_dict.keys()), sorted(state_dict.keys() - shapes.keys())
        raise BuildError(
            f"these weights are not those of torchvision's ResNet-50 ({parameters:,} parameters): "
            f"{len(missing)} tensors are missing ({', '.join(missing[:3])}), "
            f"{len(unknown)} are unknown ({', '.join(unknown[:3])})"
        )
    if other := [name for name, shape in shapes.items() if state_dict[name].shape != shape]:
        found = (f"{name} {tuple(state_dict[name].shape)} instead of {tuple(shapes[name])}" for name in other[:3])
        raise BuildError(f"these weights have the names of ResNet-50 but other shapes: {', '.join(found)}")


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
