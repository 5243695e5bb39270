"""ResNet-50 as a backbone for detection and segmentation, served in addition to the classifiers.

``network_backbone`` takes the same pixels as the other networks, ``resnet50_backbone`` the same images. Both answer
with the outputs of the four stages, before the global average pool.
"""

from __future__ import annotations

import copy
import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from resnet_client.requests import BACKBONE, PIXELS, map_shapes
from resnet_client.requests import MAPS as ALL_MAPS
from torchvision.models import ResNet
from torchvision.models._utils import IntermediateLayerGetter
from tritonclient.grpc import model_config_pb2 as pb

from resnet_build import BuildError, Report, configs, export_onnx, images
from resnet_build.network import IMAGENET_INPUT, Floats, Input, Pixels, ServedNetwork, fold_batch_norms, load_network
from resnet_build.serving_options import ServingOptions
from resnet_build.validate import batches_to_check
from resnet_build.weights import Weights

Wire = Literal["fp32", "fp16"]

NETWORK = "network_backbone"

# The outputs. ALL_MAPS holds all of them; it is computed only on request.
MAPS = ("C2__0", "C3__1", "C4__2", "C5__3")
# Largest difference, as a share of the largest value in a map.
_BOUNDS: Mapping[Wire, float] = {"fp32": 1e-4, "fp16": 1e-3}


class BackboneNetwork(ServedNetwork):
    """Pixels in; out come four maps, and one tensor with all of them concatenated.

    ``forward`` takes uint8, shape (N, size, size, 3), RGB, 0 to 255, and returns C2 to C5 of shape (N, *shape) as in
    ``resnet_client.requests.map_shapes``, values of 0 and above, then all of them in one row for each image; float32,
    or float16 where ``half`` is set.
    """

    def __init__(self, backbone: ResNet, pixels: Input = IMAGENET_INPUT, *, half: bool) -> None:
        super().__init__(backbone, pixels)
        self._half = half

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:  # type: ignore[override]  # other outputs
        """Compute the maps of a batch of preprocessed pixels."""
        net = self.backbone
        x = self.normalised(pixels)
        x = net.maxpool(net.relu(net.bn1(net.conv1(x))))
        maps = []
        for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
            x = stage(x)
            maps.append(x.half() if self._half else x)
        return *maps, torch.cat([m.flatten(1) for m in maps], dim=1)


@dataclasses.dataclass(frozen=True)
class Built:
    """A backbone that passed validation.

    Attributes:
        path: its artifact.
        record: for the manifest: type on the wire, and the largest difference of each map from torchvision's.
    """

    path: Path
    record: dict[str, Any]


def build(found: Weights, wire: Wire, folder: Path, report: Report) -> Built:
    """Export the backbone and compare it with torchvision's ``IntermediateLayerGetter`` over the eager network.

    Raises:
        BuildError: a map differs too much.
    """
    started = time.monotonic()
    eager = load_network(found.architecture, found.state_dict)
    served = BackboneNetwork(fold_batch_norms(copy.deepcopy(eager)), found.input, half=wire == "fp16")
    path = folder / "backbone" / export_onnx.FILENAME
    path.parent.mkdir()
    export_onnx.export(served.eval().requires_grad_(requires_grad=False), path, [*MAPS, ALL_MAPS])
    pixels = images.sample(2, found.preprocess_config.crop)
    differences = compare(path, maps_of(eager, pixels, found.input), pixels)
    if bad := {name: value for name, value in differences.items() if not value <= _BOUNDS[wire]}:
        raise BuildError(
            f"the backbone's feature maps differ from the network's by more than {_BOUNDS[wire]:.0e} of their largest "
            f"value ({', '.join(f'{name}: {value:.1e}' for name, value in bad.items())}); nothing was written. Try "
            "--backbone fp32, or report this with your weights"
        )
    report(
        f"backbone with {wire} feature maps: they differ by at most {max(differences.values()):.1e} of their largest "
        f"value ({time.monotonic() - started:.1f} s)"
    )
    return Built(path, {"wire": wire, "differences": differences})


def maps_of(eager: ResNet, pixels: Pixels, pixels_of: Input = IMAGENET_INPUT) -> dict[str, Floats]:
    """Return the maps as torchvision extracts them: uint8 pixels, shape (N, size, size, 3) → name → float32."""
    getter = IntermediateLayerGetter(eager, dict(zip(("layer1", "layer2", "layer3", "layer4"), MAPS, strict=True)))
    with torch.inference_mode():
        found = getter(ServedNetwork(eager, pixels_of).normalised(torch.from_numpy(pixels)))
    return {name: maps.numpy() for name, maps in found.items()}


def compare(path: Path, expected: Mapping[str, Floats], pixels: Pixels) -> dict[str, float]:
    """Return the largest difference of each map, as a share of its largest value, at batch 1 and at the full batch."""
    run = export_onnx.open_artifact(path, [*MAPS, ALL_MAPS])
    worst = dict.fromkeys(expected, 0.0)
    for batch in batches_to_check(len(pixels)):
        *maps, together = run(pixels[:batch])
        if not np.array_equal(np.concatenate([one.reshape(batch, -1) for one in maps], axis=1), together):
            raise BuildError(f"the backbone's output {ALL_MAPS} differs from its feature maps; nothing was written")
        for (name, wanted), got in zip(expected.items(), maps, strict=True):
            difference = np.abs(got.astype(np.float32) - wanted[:batch]).max() / np.abs(wanted).max()
            worst[name] = max(worst[name], float(difference))
    return worst


def render(rendered: Mapping[str, str], options: ServingOptions, wire: Wire) -> dict[str, str]:
    """Configurations of both models: those of the default network and ensemble, with other outputs.

    Args:
        rendered: all configurations of the build.
        options: numbers for serving.
        wire: type of the maps.
    """
    kind = pb.TYPE_FP16 if wire == "fp16" else pb.TYPE_FP32
    network, ensemble = (configs.parse(rendered[name]) for name in ("network_onnx", configs.DEFAULT_MODEL))
    maps = map_shapes(network.input[0].dims[0])
    shapes = dict(zip(MAPS, maps.values(), strict=True)) | {ALL_MAPS: (sum(map(math.prod, maps.values())),)}
    network.name, ensemble.name = NETWORK, BACKBONE
    for config in (network, ensemble):
        configs.set_capacity(config, options)
        del config.output[:]
        config.output.extend(pb.ModelOutput(name=name, data_type=kind, dims=shape) for name, shape in shapes.items())
    del ensemble.ensemble_scheduling.step[-1]
    configs.add_step(ensemble, NETWORK, [PIXELS], shapes)
    return {config.name: configs.to_text(config) for config in (network, ensemble)}
