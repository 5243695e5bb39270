"""Sessions for each batch size, on ONNX Runtime's real sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper
from resnet_serve.backends.sizes import SessionPerSize


@pytest.fixture
def artifact(tmp_path: Path) -> Path:
    """A network of two outputs: each row's sum, and the row itself as floats."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["pixels"], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceSum", ["floats", "axes"], ["sums"], keepdims=0),
        ],
        "sums",
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["batch", 5])],
        [
            helper.make_tensor_value_info("floats", TensorProto.FLOAT, ["batch", 5]),
            helper.make_tensor_value_info("sums", TensorProto.FLOAT, ["batch"]),
        ],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    path = tmp_path / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path)
    return path


class _Seen:
    """Opens sessions, and keeps which batch sizes each of them ran."""

    def __init__(self, artifact: Path) -> None:
        self._artifact = artifact
        self.sizes: list[set[int]] = []

    def __call__(self) -> _Watched:
        self.sizes.append(set())
        return _Watched(ort.InferenceSession(self._artifact, providers=["CPUExecutionProvider"]), self.sizes[-1])


class _Watched:
    def __init__(self, session: ort.InferenceSession, sizes: set[int]) -> None:
        self._session, self._sizes = session, sizes

    def run(self, output_names: list[str], input_feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self._sizes.add(len(input_feed["pixels"]))
        return self._session.run(output_names, input_feed)


def test_answers_are_those_of_the_batch_itself(artifact: Path) -> None:
    """Rows that fill a batch up reach nobody."""
    sessions = SessionPerSize(_Seen(artifact))
    pixels = np.random.default_rng(0).integers(0, 256, (33, 5), np.uint8)
    for rows in (1, 2, 3, 7, 8, 9, 33, 5, 1):
        sums, floats = sessions.run(["sums", "floats"], {"pixels": pixels[:rows]})
        np.testing.assert_array_equal(floats, pixels[:rows])
        np.testing.assert_array_equal(sums, pixels[:rows].sum(axis=1))


def test_no_session_sees_two_sizes(artifact: Path) -> None:
    """Whatever the batcher makes of the load, there are six sessions up to batches of 32."""
    seen = _Seen(artifact)
    sessions = SessionPerSize(seen)
    for rows in (32, *range(1, 33), 3, 17):
        sessions.run(["sums"], {"pixels": np.zeros((rows, 5), np.uint8)})
    assert sorted(map(sorted, seen.sizes)) == [[1], [2], [4], [8], [16], [32]]


def test_what_is_wrong_with_the_network_is_said_at_once(tmp_path: Path) -> None:
    """The model then fails to load; it does not fail its first request."""
    with pytest.raises(ort.capi.onnxruntime_pybind11_state.NoSuchFile):
        SessionPerSize(_Seen(tmp_path / "absent.onnx"))
