"""How to start and call each peer, read its response, and which settings to try."""

from __future__ import annotations

import dataclasses
import json
import sysconfig
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
from resnet_client.preprocessing import PreprocessConfig
from tritonclient import http

from benchmarks import BENCH_BIN, CORES, ROOT
from benchmarks.networks import SECOND_ENGINE
from benchmarks.senders import post, triton_post

Settings = Mapping[str, int]

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
class Peer:
    """Another inference server.

    Attributes:
        name: as its documentation writes it.
        module: of :mod:`benchmarks.peers`.
        grid: the settings that are tried.
        files: whether it serves the network's file, or eager PyTorch.
        second_engine: whether it is measured with OpenVINO too: those that were fastest.
        request: from a JPEG to a complete HTTP request.
        top1: from a response to the likeliest class.
    """

    name: str
    module: str
    grid: Sequence[Settings]
    files: bool = True
    second_engine: bool = False
    request: Callable[[bytes], bytes] = lambda jpeg: post("/classify", jpeg)
    top1: Callable[[bytes], int] = lambda response: int(json.loads(response)["classes"][0]["index"])

    def served(self, networks: Iterable[str]) -> list[str]:
        """Which of these networks it serves."""
        mine = {"FP32", "INT8"} if self.files else {"FP32"}
        if self.second_engine:
            mine |= {network + SECOND_ENGINE for network in mine}
        return [network for network in networks if network in mine]

    def command(self, port: int) -> list[str]:
        """The command that starts it."""
        if self.name == "BentoML":
            service = f"benchmarks.peers.{self.module}:Classifier"
            return [str(BENCH_BIN / "bentoml"), "serve", service, "--host", "127.0.0.1", "--port", str(port)]
        return [str(BENCH_BIN / "python"), "-m", f"benchmarks.peers.{self.module}"]

    def environment(
        self,
        settings: Settings,
        *,
        network: str,
        model: Path,
        preprocess_config: PreprocessConfig,
        weights: str,
        port: int,
    ) -> dict[str, str]:
        """Its environment variables."""
        return {
            "BENCH_NETWORK": network,
            "BENCH_MODEL": str(model.resolve()),
            "BENCH_PREPROCESSING": preprocess_config.to_json(),
            "BENCH_PORT": str(port),
            "BENCH_SETTINGS": json.dumps(dict(settings)),
            "BENCH_WEIGHTS": weights,
            "PYTHONPATH": str(ROOT),
            # An access log takes time, and the other servers have none.
            "BENTOML_CONFIG_OPTIONS": "api_server.logging.access.enabled=false",
            "BENTOML_DO_NOT_TRACK": "True",
            # Triton's Python backend, which PyTriton runs, loads the library of this Python.
            "LD_LIBRARY_PATH": str(sysconfig.get_config_var("LIBDIR")),
        }


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
    Peer("LitServe", "litserve_onnx", _BATCHING),
    Peer(
        "BentoML",
        "bentoml_onnx",
        tuple({**settings, "latency_ms": _BENTOML_LATENCY_MS} for settings in _BATCHING),
        request=_multipart,
        top1=lambda response: int(json.loads(response)[0]["classes"][0]["index"]),
    ),
    Peer(
        "mosec",
        "mosec_onnx",
        ({**_BATCHING[0], "decoders": 1}, *({**settings, "decoders": CORES} for settings in _BATCHING)),
        second_engine=True,
        request=lambda jpeg: post("/inference", jpeg),
    ),
    Peer(
        "PyTriton",
        "pytriton_onnx",
        _BATCHING,
        request=_pytriton,
        top1=lambda response: int(json.loads(response)["outputs"][0]["data"][0]),
    ),
    Peer(
        "FastAPI + ONNX Runtime",
        "fastapi_onnx",
        (
            {**_WIDE, "concurrency": 1},
            {**_WIDE, "concurrency": CORES},
            {"workers": 1, "threads": 1, "concurrency": CORES},
            {**_NARROW, "concurrency": 1},
            {**_NARROW, "concurrency": CORES},
        ),
        second_engine=True,
    ),
    Peer(
        "FastAPI + eager PyTorch",
        "fastapi_torch",
        tuple({**cores, "threadpool": pool} for cores in (_WIDE, _NARROW) for pool in (0, 1)),
        files=False,
    ),
)
