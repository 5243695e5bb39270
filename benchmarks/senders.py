"""Send images: to any server over HTTP, to Triton over gRPC, or with the client of this project.

Requests for HTTP and gRPC are built before the measurement.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

import grpc
import numpy as np
import numpy.typing as npt
import tritonclient.grpc
import tritonclient.http
from resnet_client import AsyncClient
from tritonclient import utils

from benchmarks.closed_loop import Send

TOP = 5
_OK = b"200"
_INFER = "/inference.GRPCInferenceService/ModelInfer"


@dataclasses.dataclass(frozen=True)
class _Prepared:
    """Complete requests to a port of the loopback address, one for each image."""

    port: int
    requests: Sequence[bytes]

    @property
    def image_count(self) -> int:
        """Number of images."""
        return len(self.requests)


class HttpSender(_Prepared):
    """Sends complete requests over HTTP/1.1: head and body."""

    @contextlib.asynccontextmanager
    async def connect(self, callers: int) -> AsyncIterator[list[Send]]:
        """Open a connection for each caller."""
        async with contextlib.AsyncExitStack() as opened:
            yield [await opened.enter_async_context(self._connection()) for _ in range(callers)]

    @contextlib.asynccontextmanager
    async def _connection(self) -> AsyncIterator[Send]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)

        async def send(number: int) -> bytes:
            writer.write(self.requests[number])
            return await _response(reader)

        try:
            yield send
        finally:
            writer.close()


async def _response(reader: asyncio.StreamReader) -> bytes:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    status = head.split(b" ", 2)[1]
    _, found, rest = head.partition(b"\r\ncontent-length:")
    if not found:
        raise OSError(f"a response without a length: {head!r}")
    body = await reader.readexactly(int(rest.partition(b"\r\n")[0]))
    if status != _OK:
        raise OSError(f"the server returned {status.decode()}: {body[:300]!r}")
    return body


class GrpcSender(_Prepared):
    """Sends serialised ``ModelInferRequest`` over gRPC."""

    @contextlib.asynccontextmanager
    async def connect(self, callers: int) -> AsyncIterator[list[Send]]:
        """Open a channel, which all callers share, as those of one process do.

        A single caller uses gRPC's synchronous API, which takes less of the latency than the asynchronous one.
        """
        address = f"127.0.0.1:{self.port}"
        if callers == 1:
            with grpc.insecure_channel(address) as channel:
                yield [self._send(_asynchronous(channel.unary_unary(_INFER)))]
        else:
            async with grpc.aio.insecure_channel(address) as channel:
                yield [self._send(channel.unary_unary(_INFER))] * callers

    def _send(self, infer: Callable[[bytes], Awaitable[bytes]]) -> Send:
        async def send(number: int) -> bytes:
            try:
                return await infer(self.requests[number])
            except grpc.RpcError as exc:
                raise OSError(f"the server refused the request: {exc}") from exc

        return send


def _asynchronous(call: Callable[[bytes], bytes]) -> Callable[[bytes], Awaitable[bytes]]:
    async def infer(request: bytes) -> bytes:
        return call(request)

    return infer


@dataclasses.dataclass(frozen=True)
class ClientSender:
    """Calls the client of this project; responses are the index of the most probable class."""

    url: str
    model: str
    jpegs: Sequence[bytes]

    @property
    def image_count(self) -> int:
        """Number of images."""
        return len(self.jpegs)

    @contextlib.asynccontextmanager
    async def connect(self, callers: int) -> AsyncIterator[list[Send]]:
        """Open a client, which all callers share."""
        async with AsyncClient(self.url, model=self.model) as client:

            async def send(number: int) -> bytes:
                result = await client.classify(self.jpegs[number])
                return str(result.top.index).encode()

            yield [send] * callers


def post(path: str, body: bytes, headers: Mapping[str, str] | None = None) -> bytes:
    """Head and body of a POST, by default of a JPEG."""
    lines = {"Host": "127.0.0.1", "Content-Type": "image/jpeg", **(headers or {}), "Content-Length": str(len(body))}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + body


def triton_post(path: str, tensor: Any, outputs: Sequence[Any]) -> bytes:
    """A POST of tritonclient's tensor, with the outputs that are wanted."""
    body, length = tritonclient.http.InferenceServerClient.generate_request_body([tensor], outputs=outputs)
    headers = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(length)}
    return post(path, body, headers)


def over_http(model: str, image: bytes | npt.NDArray[np.uint8]) -> bytes:
    """A complete HTTP request to Triton for the five most probable classes of an encoded image, or of pixels.

    Pixels may be those of a batch.
    """
    name, datatype, array = _tensor(image)
    tensor = tritonclient.http.InferInput(name, array.shape, datatype)
    tensor.set_data_from_numpy(array)
    wanted = tritonclient.http.InferRequestedOutput("PROBABILITIES__0", binary_data=False, class_count=TOP)
    return triton_post(f"/v2/models/{model}/infer", tensor, [wanted])


def over_grpc(model: str, image: bytes | npt.NDArray[np.uint8]) -> bytes:
    """A serialised ``ModelInferRequest`` for the five most probable classes of an encoded image, or of pixels."""
    name, datatype, array = _tensor(image)
    request = tritonclient.grpc.service_pb2.ModelInferRequest(model_name=model)
    request.inputs.add(name=name, datatype=datatype, shape=array.shape)
    request.raw_input_contents.append(
        utils.serialize_byte_tensor(array).item() if datatype == "BYTES" else array.tobytes()
    )
    request.outputs.add(name="PROBABILITIES__0").parameters["classification"].int64_param = TOP
    serialised: bytes = request.SerializeToString()
    return serialised


def top1_of_http(response: bytes) -> int:
    """The most probable class in Triton's response over HTTP."""
    return _index(json.loads(response)["outputs"][0]["data"][0])


def top1_of_grpc(response: bytes) -> int:
    """The most probable class in Triton's response over gRPC."""
    content = tritonclient.grpc.service_pb2.ModelInferResponse.FromString(response).raw_output_contents[0]
    return _index(utils.deserialize_bytes_tensor(content)[0].decode())


def _index(entry: str) -> int:
    return int(entry.split(":")[1])


def _tensor(image: bytes | npt.NDArray[np.uint8]) -> tuple[str, str, npt.NDArray[Any]]:
    """Name, data type and content of the input tensor."""
    if isinstance(image, bytes):
        return "IMAGE", "BYTES", np.array([[image]], dtype=np.object_)
    return "PIXELS__0", "UINT8", image if image.ndim == 4 else image[np.newaxis]  # noqa: PLR2004  # a batch
