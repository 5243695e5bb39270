"""What every ONNX artifact has: a cast behind its pixels, and a graph whose name depends on the weights."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from resnet_build import export_onnx
from resnet_build.network import ServedNetwork, fold_batch_norms
from resnet_build.quantize import fp16, int8
from resnet_build.quantize.graph import Graph
from resnet_client.requests import PIXELS
from torchvision.models.resnet import Bottleneck, ResNet

Make = Callable[[int, Path], None]


@pytest.fixture(params=["save", "int8", "fp16"])
def make(request: pytest.FixtureRequest, small_network: Path, pixels: np.ndarray) -> Make:
    """Write an artifact whose weights depend on a number."""

    def make(seed: int, path: Path) -> None:
        model = onnx.load(small_network)
        Graph(model).set_constant("b2", np.full(8, seed, dtype=np.float32))
        export_onnx.save(model, path)
        if request.param != "save":
            {"int8": int8.convert, "fp16": fp16.convert}[request.param](path, path, pixels)

    return make


def test_save_names_the_graph_by_the_weights(make: Make, tmp_path: Path) -> None:
    """ONNX Runtime finds TensorRT's engine by this name; equal weights give equal files."""
    paths = [tmp_path / name for name in ("first", "same", "other")]
    for seed, path in zip((1, 1, 2), paths, strict=True):
        make(seed, path)
    first, same, other = (onnx.load(path).graph.name for path in paths)
    assert first == same != other
    assert paths[0].read_bytes() == paths[1].read_bytes()


def test_export_is_the_same_every_time(tmp_path: Path) -> None:
    """Equal to the bit, and without a path of the machine that exports."""
    torch.manual_seed(0)
    folded = fold_batch_norms(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5).eval())
    network = ServedNetwork(folded).eval().requires_grad_(requires_grad=False)
    files = [tmp_path / name for name in ("first", "second")]
    for file in files:
        export_onnx.export(network, file)
    assert files[0].read_bytes() == files[1].read_bytes()
    assert b"site-packages" not in files[0].read_bytes()


def test_networks_cast_their_pixels_first(random_repository: Path) -> None:
    """TensorRT reads a UINT8 input only through a Cast; this holds for every variant, and no two share an engine."""
    graphs = {path.parts[-3]: Graph(onnx.load(path)) for path in random_repository.glob("*/1/model.onnx")}
    assert graphs.keys() == {"network_onnx", "network_int8", "network_fp32", "network_fp16"}
    for name, graph in graphs.items():
        assert [node.op_type for node in graph.consumers()[PIXELS]] == ["Cast"], name
    assert len({graph.model.graph.name for graph in graphs.values()}) == 3  # fp32 is a copy of onnx


def test_normalised_is_the_same_in_either_order() -> None:
    """Equal to the bit to a permutation of the pixels before the cast."""
    pixels = torch.randint(0, 256, (2, 16, 16, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    network = ServedNetwork(ResNet(Bottleneck, [1, 1, 1, 1], num_classes=5))
    got = network.normalised(pixels)
    assert torch.equal(got, (pixels.permute(0, 3, 1, 2).to(torch.float32) - network.mean) / network.std)
    assert got.is_contiguous(memory_format=torch.channels_last)
