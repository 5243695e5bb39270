"""The server programs that are measured: how each is started and called, and how its response is read."""

from __future__ import annotations

import dataclasses
import json
import sys
import sysconfig
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from tritonclient import http

from benchmarks import CORES, ROOT, processes, senders
from benchmarks.closed_loop import Sender
from benchmarks.networks import PEER_VARIANT
from benchmarks.repository import Repository
from benchmarks.senders import post, triton_post

BENCH_BIN = ROOT / ".venv-bench/bin"
"""Programs in the environment of the peers."""

Settings = Mapping[str, int]

_BIN = Path(sys.executable).parent
# BentoML refuses requests that it expects to take longer, and expects a long time after a pause.
_BENTOML_LATENCY_MS = 10_000
_BOUNDARY = "boundary-between-parts"
# All cores for one network, or one core for each of several.
_WIDE, _NARROW = {"workers": 1, "threads": CORES}, {"workers": CORES, "threads": 1}
_BATCHING = (
    {**_WIDE, "decoders": CORES, "batch": 8, "wait_ms": 1},
    {**_WIDE, "decoders": CORES, "batch": 16, "wait_ms": 5},
    {**_NARROW, "decoders": 1, "batch": 4, "wait_ms": 1},
    {**_NARROW, "decoders": 1, "batch": 8, "wait_ms": 2},
)


@dataclasses.dataclass(frozen=True)
class Program:
    """A server with one network.

    Attributes:
        name: for the results.
        variant: its network.
        command: starts it.
        environment: its variables.
        senders: by protocol, and how the likeliest class is read from a response. The first waits for the start.
        is_paused: whether it is paused while others are measured.
    """

    name: str
    variant: str
    command: Sequence[str]
    environment: Mapping[str, str]
    senders: Mapping[str, tuple[Sender, Callable[[bytes], int]]]
    is_paused: bool = False


def ours(repository: Repository, variant: str, jpegs: list[bytes]) -> list[Program]:
    """The server of this project with one ensemble; with INT8, also the gateway in front of it."""
    ensemble, port = repository.ensemble(variant), processes.free_port(consecutive=3)
    http_sender = senders.HttpSender(port, [senders.over_http(ensemble, jpeg) for jpeg in jpegs])
    grpc_sender = senders.GrpcSender(port + 1, [senders.over_grpc(ensemble, jpeg) for jpeg in jpegs])
    by_protocol: dict[str, tuple[Sender, Callable[[bytes], int]]] = {
        "HTTP": (http_sender, senders.top1_of_http),
        "gRPC": (grpc_sender, senders.top1_of_grpc),
    }
    command = [str(_BIN / "resnet-serve"), "--repository", str(repository.path), "--models", ensemble]
    command += ["--port", str(port)]
    server = Program(ensemble, variant, command, {}, by_protocol)
    if variant != "int8":
        return [server]
    url = f"grpc://127.0.0.1:{port + 1}"
    by_protocol["AsyncClient"] = (senders.ClientSender(url, ensemble, jpegs), int)
    return [server, _gateway(url, ensemble, jpegs)]


def _gateway(url: str, model: str, jpegs: list[bytes]) -> Program:
    port = processes.free_port()
    command = [str(_BIN / "resnet-serve"), "gateway", "--url", url, "--model", model, "--port", str(port)]
    sender = senders.HttpSender(port, [post("/v1/classify", jpeg) for jpeg in jpegs])
    return Program("gateway", "int8", command, {}, {"HTTP": (sender, _first_prediction)})


def _first_prediction(response: bytes) -> int:
    return int(json.loads(response)["predictions"][0]["index"])


def _first_class(response: bytes) -> int:
    return int(json.loads(response)["classes"][0]["index"])


@dataclasses.dataclass(frozen=True)
class Peer:
    """Another inference server.

    Attributes:
        name: as its documentation writes it.
        package: that is installed for it.
        module: of :mod:`benchmarks.peers`.
        grid: the settings that are tried.
        request: from a JPEG to a complete HTTP request.
        top1: from a response to the likeliest class.
    """

    name: str
    package: str
    module: str
    grid: Sequence[Settings]
    request: Callable[[bytes], bytes] = lambda jpeg: post("/classify", jpeg)
    top1: Callable[[bytes], int] = _first_class

    def program(self, repository: Repository, settings: Settings, jpegs: list[bytes]) -> Program:
        """The server with these settings, on a free port.

        Raises:
            SystemExit: it is not installed.
        """
        if not BENCH_BIN.exists():
            raise SystemExit(f"{BENCH_BIN} does not exist: run make bench, which installs the other servers")
        port = processes.free_port(consecutive=3)
        command = [str(BENCH_BIN / "python"), "-m", f"benchmarks.peers.{self.module}"]
        if self.name == "BentoML":
            service = f"benchmarks.peers.{self.module}:Classifier"
            command = [str(BENCH_BIN / "bentoml"), "serve", service, "--host", "127.0.0.1", "--port", str(port)]
        environment = {
            "BENCH_FILE": str(repository.file(PEER_VARIANT)),
            "BENCH_PREPROCESSING": repository.preprocess_config.to_json(),
            "BENCH_PORT": str(port),
            "BENCH_SETTINGS": json.dumps(dict(settings)),
            "PYTHONPATH": str(ROOT),
            # An access log takes time, and the other servers have none.
            "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
            "BENTOML_DO_NOT_TRACK": "True",
            # Triton's Python backend, which PyTriton runs, loads the library of this Python.
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
        }
        sender = senders.HttpSender(port, [self.request(jpeg) for jpeg in jpegs])
        return Program(self.name, PEER_VARIANT, command, environment, {"HTTP": (sender, self.top1)}, is_paused=True)


def _multipart(jpeg: bytes) -> bytes:
    head = (
        f"--{_BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="images"; filename="image.jpg"\r\n'
        "Content-Type: image/jpeg\r\n\r\n"
    )
    body = head.encode() + jpeg + f"\r\n--{_BOUNDARY}--\r\n".encode()
    return post("/classify", body, {"Content-Type": f"multipart/form-data; boundary={_BOUNDARY}"})


def _pytriton(jpeg: bytes) -> bytes:
    tensor = http.InferInput("image", (1, 1), "BYTES")
    tensor.set_data_from_numpy(np.array([[jpeg]], dtype=np.object_))
    wanted = [http.InferRequestedOutput(name, binary_data=False) for name in ("index", "probability")]
    return triton_post("/v2/models/classify/infer", tensor, wanted)


PEERS = (
    Peer("LitServe", "litserve", "litserve_server", _BATCHING),
    Peer(
        "BentoML",
        "bentoml",
        "bentoml_server",
        tuple({**settings, "latency_ms": _BENTOML_LATENCY_MS} for settings in _BATCHING),
        request=_multipart,
        top1=lambda response: int(json.loads(response)[0]["classes"][0]["index"]),
    ),
    Peer(
        "mosec",
        "mosec",
        "mosec_server",
        ({**_BATCHING[0], "decoders": 1}, *({**settings, "decoders": CORES} for settings in _BATCHING)),
        request=lambda jpeg: post("/inference", jpeg),
    ),
    Peer(
        "PyTriton",
        "nvidia-pytriton",
        "pytriton_server",
        _BATCHING,
        request=_pytriton,
        top1=lambda response: int(json.loads(response)["outputs"][0]["data"][0]),
    ),
    Peer(
        "FastAPI",
        "fastapi",
        "fastapi_server",
        tuple({**cores, "concurrency": number} for cores in (_WIDE, _NARROW) for number in (1, CORES)),
    ),
)
