"""An ONNX network that takes the tensors of the real ones, and is loaded and computed in milliseconds."""

from __future__ import annotations

import numpy as np
from google.protobuf import text_format
from onnx import TensorProto, helper, numpy_helper
from resnet_client.instance_groups import set_instance_count
from tritonclient.grpc import model_config_pb2 as pb

UNCHANGED = np.eye(3)
SHARPER = 1.1 * UNCHANGED  # the same classes with other probabilities
OTHER = np.roll(UNCHANGED, 1, axis=1)  # other classes


def config(name: str, *, backend: str = "onnxruntime", instances: int = 1, **parameters: str) -> str:
    """The config of a model that is such a network on the CPU."""
    made = pb.ModelConfig(name=name, backend=backend, max_batch_size=8, default_model_filename="model.onnx")
    made.input.add(name="PIXELS__0", data_type=pb.TYPE_UINT8, dims=[224, 224, 3])
    made.output.add(name="PROBABILITIES__0", data_type=pb.TYPE_FP32, dims=[3])
    made.instance_group.add(kind=pb.ModelInstanceGroup.KIND_CPU)
    set_instance_count(made, instances)
    for key, value in parameters.items():
        made.parameters[key].string_value = value
    return text_format.MessageToString(made)


def network(weights: np.ndarray = UNCHANGED, *, softmax: bool = True, products: int = 0) -> bytes:
    """Classify an image by its mean colour; ``products`` of large matrices, times zero, make it slow."""
    constants = {
        "axes": np.array([1, 2]),
        "scale": np.float32(1 / 8),
        "weights": weights.astype(np.float32),
        "matrix": np.random.default_rng(0).normal(0, 0.01, (512, 512)).astype(np.float32),
        "zero": np.float32(0),
    }
    node = helper.make_node
    nodes = [
        node("Cast", ["PIXELS__0"], ["pixels"], to=TensorProto.FLOAT),
        node("ReduceMean", ["pixels", "axes"], ["mean"], keepdims=0),
        node("Mul", ["mean", "scale"], ["scaled"]),
        node("MatMul", ["scaled", "weights"], ["logits"]),
        node("Softmax" if softmax else "Identity", ["logits"], ["answer"]),
        node("ReduceMean", ["scaled"], ["one"], keepdims=0),
        node("Mul", ["one", "matrix"], ["product_0"]),
        *(node("MatMul", [f"product_{n}", "matrix"], [f"product_{n + 1}"]) for n in range(products)),
        node("ReduceMean", [f"product_{products}"], ["last"], keepdims=0),
        node("Mul", ["last", "zero"], ["nothing"]),
        node("Add", ["answer", "nothing"], ["PROBABILITIES__0"]),
    ]
    graph = helper.make_graph(
        nodes,
        "mean_colour",
        [helper.make_tensor_value_info("PIXELS__0", TensorProto.UINT8, ["batch", 224, 224, 3])],
        [helper.make_tensor_value_info("PROBABILITIES__0", TensorProto.FLOAT, ["batch", weights.shape[1]])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 20)]).SerializeToString()
