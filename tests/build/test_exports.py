"""The exported artifacts: what Triton's backends need of them."""

from __future__ import annotations

from pathlib import Path

import onnx
import pytest
import torch


def test_export_onnx_is_one_that_triton_24_10_reads(repository: Path) -> None:
    """ONNX Runtime 1.19 reads opsets up to 21 and IR versions up to 10; the batch is a name, not a number."""
    model = onnx.load(repository / "network_onnx/1/model.onnx")
    assert model.ir_version <= 10
    assert [entry.version <= 21 for entry in model.opset_import if not entry.domain] == [True]
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_export_torchscript_has_no_device(repository: Path) -> None:
    """Nothing in the code or the constants names a device, so that it loads on any."""
    module = torch.jit.load(repository / "network_torchscript/1/model.pt", map_location="meta")
    assert {str(tensor.device) for tensor in (*module.parameters(), *module.buffers())} == {"meta"}
    assert "cuda" not in str(module.inlined_graph)
    assert "Device" not in str(module.inlined_graph)
