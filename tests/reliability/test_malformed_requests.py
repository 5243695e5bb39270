"""A thousand malformed gRPC requests: the server lives on, in bounded memory, and good images are answered right."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from processes import of_server, resident_mib
from resnet_client import Client
from resnet_serve import TritonServer
from resnet_serve.watchdog import workers_of
from tritonclient.grpc import service_pb2

pytestmark = pytest.mark.reliability

REQUESTS = 1000
MOST_GROWTH_MIB = 512
INFER = "/inference.GRPCInferenceService/ModelInfer"
CAT = range(281, 288)
# What Triton's types, and the bytes of a shape, can be counted wrongly with.
DIMENSIONS = (-1, 0, 1, 2, 224, 1 << 31, 1 << 32, 1 << 61, (1 << 63) - 1, -(1 << 63))
TYPES = ("BYTES", "UINT8", "FP64", "FP32", "INT64", "BOOL", "", "x" * 1000)
MODELS = ("resnet50", "preprocess", "network_onnx", "", "../preprocess", "x" * 10_000)


def malformed(chance: random.Random) -> bytes:
    """One request: a message with wrong shapes, types, lengths and names, or one with some of its bytes changed."""
    message = service_pb2.ModelInferRequest(model_name=chance.choice(MODELS))
    message.model_version = chance.choice(("", "1", "-1", "99999999999999999999"))
    for _ in range(chance.randrange(4)):
        name = chance.choice(("IMAGE", "PIXELS__0", "", "\x00"))
        shape = chance.choices(DIMENSIONS, k=chance.randrange(6))
        entry = message.inputs.add(name=name, datatype=chance.choice(TYPES), shape=shape)
        if chance.random() < 0.3:
            entry.contents.bytes_contents.append(chance.randbytes(chance.randrange(100)))
    for _ in range(chance.randrange(4)):
        length = chance.choice((0, 3, 4, 100, 224 * 224 * 3, 1 << 20))
        message.raw_input_contents.append(
            chance.choice((b"\xff\xff\xff\xff", b"", length.to_bytes(4, "little"))) + chance.randbytes(length)
        )
    for _ in range(chance.randrange(3)):
        output = message.outputs.add(name=chance.choice(("PROBABILITIES__0", "FEATURES__1", "")))
        output.parameters["classification"].int64_param = chance.choice(DIMENSIONS)
    message.parameters["timeout"].int64_param = chance.choice(DIMENSIONS)
    encoded = bytearray(message.SerializeToString())
    if encoded and chance.random() < 0.3:
        for _ in range(chance.randrange(1, 20)):
            encoded[chance.randrange(len(encoded))] = chance.randrange(256)
    return bytes(encoded)


def test_server_survives_a_thousand_malformed_grpc_requests(
    start_server: Callable[..., TritonServer], images: dict[str, Path], note: Callable[[str], None]
) -> None:
    """Same process, same workers, memory within a bound; every good image in between is a cat."""
    server, chance, statuses = start_server(), random.Random(21), {}  # noqa: S311  # the same requests each time
    pid = of_server(server)
    with grpc.insecure_channel(server.grpc_url.removeprefix("grpc://")) as channel, Client(server.grpc_url) as client:
        assert client.classify(images["cat"]).top.index in CAT
        infer, before_mib, workers = channel.unary_unary(INFER), resident_mib(pid), workers_of(pid)
        for number in range(REQUESTS):
            try:
                infer(malformed(chance), timeout=30)
                status = "OK"
            except grpc.RpcError as exc:
                status = exc.code().name
            statuses[status] = statuses.get(status, 0) + 1
            if number % 20 == 0:
                assert client.classify(images["cat"]).top.index in CAT
        growth_mib = resident_mib(pid) - before_mib
    assert of_server(server) == pid
    assert workers_of(pid) == workers
    assert growth_mib < MOST_GROWTH_MIB
    assert sum(statuses.values()) == REQUESTS
    note(f"{REQUESTS} requests: {statuses}; memory grew by {growth_mib:.0f} MiB")
