"""Triton's requests for a photo or for pixels, complete, and what its answers say."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from tritonclient import grpc, http, utils

TOP = 5


def plain_http(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Head and body of a POST, by default of a JPEG."""
    lines = {"Host": "127.0.0.1", "Content-Type": "image/jpeg", **(headers or {}), "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def over_http(model: str, photo: bytes | npt.NDArray[np.uint8]) -> bytes:
    """A complete HTTP request for the five likeliest classes."""
    tensor = _filled(http, photo)
    wanted = http.InferRequestedOutput("PROBABILITIES__0", binary_data=False, class_count=TOP)
    body, length = http.InferenceServerClient.generate_request_body([tensor], outputs=[wanted])
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
    return plain_http(f"/v2/models/{model}/infer", body, headers)


def over_grpc(model: str, photo: bytes | npt.NDArray[np.uint8]) -> bytes:
    """A serialised ``ModelInferRequest`` for the five likeliest classes."""
    request = grpc.service_pb2.ModelInferRequest(model_name=model)
    array = _array(photo)
    name, datatype = _named(photo)
    request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(
        utils.serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
    )
    request.outputs.add(name="PROBABILITIES__0").parameters["classification"].int64_param = TOP
    serialised: bytes = request.SerializeToString()
    return serialised


def top1_of_http(answer: bytes) -> int:
    """The likeliest class."""
    return _index(json.loads(answer)["outputs"][0]["data"][0])


def top1_of_grpc(answer: bytes) -> int:
    """The likeliest class."""
    response = grpc.service_pb2.ModelInferResponse.FromString(answer)
    return _index(utils.deserialize_bytes_tensor(response.raw_output_contents[0])[0].decode())


def _index(entry: str) -> int:
    return int(entry.split(":")[1])


def _named(photo: bytes | npt.NDArray[np.uint8]) -> tuple[str, str]:
    return ("IMAGE", "BYTES") if isinstance(photo, bytes) else ("PIXELS__0", "UINT8")


def _array(photo: bytes | npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    return np.array([[photo]], dtype=np.object_) if isinstance(photo, bytes) else photo[np.newaxis]


def _filled(protocol: Any, photo: bytes | npt.NDArray[np.uint8]) -> Any:
    array = _array(photo)
    name, datatype = _named(photo)
    tensor = protocol.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array)
    return tensor
