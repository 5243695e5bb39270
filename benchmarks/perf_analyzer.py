"""Compare the load test with NVIDIA's perf_analyzer, an independent load generator.

Both call the same server in turns: closed loop with one user, over gRPC, the same model and images. `make bench`
installs perf_analyzer.
"""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from resnet_client import Client
from resnet_loadtest import records as loadtest_records
from resnet_loadtest.server_statistics import difference
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer

from benchmarks import ROOT, images
from benchmarks.report import generator_ratio
from benchmarks.repository import Repository
from benchmarks.results import MAIN, Record, progress

FOLDER = ROOT / ".venv-bench/perf_analyzer"
"""The program and its libraries."""

_MIXES = {"images": "ClassifyGrpc", "pixels": "PixelsGrpc"}


Times = npt.NDArray[np.float64]
"""When each request was sent and answered, in seconds: shape (requests, 2)."""


def run(repository: Repository, *, rounds: int, seconds: float) -> list[Record]:
    """Measure ``resnet50`` with images, and its network with pixels, for ``seconds`` a turn.

    Returns:
        For both, each round and generator: ``images_per_s``, ``p50_ms``, and ``outside_ms``, the mean time of a request
        outside Triton.
    """
    records: list[Record] = []
    with (
        TritonServer(ServerConfig(repository.path, ALL_MODELS, port=0)) as server,
        Client(server.grpc_url) as client,
        tempfile.TemporaryDirectory(prefix="benchmark-") as name,
    ):
        folder = Path(name)
        for sent, mix in _MIXES.items():
            model = _prepare(client, sent, folder)
            ours, theirs = partial(_load_test, server, mix, folder), partial(_perf_analyzer, server, model, folder)
            warm_up = len(ours(seconds / 4))
            theirs(warm_up)
            # perf_analyzer sends a number of requests, about as many as the load test.
            turns = {"load test": partial(ours, seconds), "perf_analyzer": partial(theirs, 4 * warm_up)}
            for turn in range(rounds):
                for generator in sorted(turns, reverse=turn % 2 == 1):
                    what = {"generator": generator, "sent": sent}
                    before = client.statistics()
                    times = turns[generator]()
                    found = measured(times, difference(before, client.statistics())[model].mean_total_s)
                    progress(f"round {turn + 1} of {rounds}", what, found)
                    records.append({**what, "round": turn, **found})
            _print_ratios(records, sent)
    return records


def _print_ratios(records: list[Record], sent: str) -> None:
    results = {"load_generators": records}
    ratios = {quantity: generator_ratio(results, sent, quantity).text(3) for _, quantity in MAIN}
    progress("load test compared with perf_analyzer", {"sent": sent}, ratios)


def measured(times: Times, in_triton_s: float) -> Record:
    """Evaluate both in the same way: perf_analyzer's own throughput counts whole measurement intervals.

    Args:
        times: of each request.
        in_triton_s: mean time of a request in Triton.
    """
    sent_s, answered_s = times.T
    latency_s = answered_s - sent_s
    return {
        "images_per_s": (len(times) - 1) / float(answered_s[-1] - answered_s[0]),
        "p50_ms": 1e3 * float(np.median(latency_s)),
        "outside_ms": 1e3 * (float(latency_s.mean()) - in_triton_s),
    }


def _prepare(client: Client, sent: str, folder: Path) -> str:
    """Write the requests of both; return the name of the model that gets them."""
    jpegs = images.standard()
    for number, jpeg in enumerate(jpegs):
        (folder / f"{number}.jpg").write_bytes(jpeg)
    model = client.classify(jpegs[0], preprocessing="client" if sent == "pixels" else "server").model
    if sent == "pixels":  # a network's time does not depend on the values
        data = [_tensor("PIXELS__0", one.tobytes(), [*one.shape]) for one in images.pixels_of(client, model, 8)]
    else:
        data = [_tensor("IMAGE", len(jpeg).to_bytes(4, "little") + jpeg, [1]) for jpeg in jpegs]
    (folder / "data.json").write_text(json.dumps({"data": data}), encoding="ascii")
    return model


def _tensor(name: str, content: bytes, shape: list[int]) -> dict[str, object]:
    return {name: {"content": {"b64": base64.b64encode(content).decode()}, "shape": shape}}


def _load_test(server: TritonServer, mix: str, folder: Path, seconds: float) -> Times:
    command = [sys.executable, "-m", "resnet_loadtest", "run", "--url", server.grpc_url, "--mix", mix, "--users", "1"]
    command += ["--http-url", server.http_url, "--metrics-url", server.metrics_url, "--duration", f"{seconds}s"]
    command += ["--images", str(folder), "--out", str(folder), "--name", "ours", "--warm-up-s", "0"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    samples = loadtest_records.read(folder / "ours.json").samples
    return np.stack([samples["sent_s"], samples["done_s"]], axis=1)


def _perf_analyzer(server: TritonServer, model: str, folder: Path, requests: int) -> Times:
    exported = folder / "theirs.json"
    exported.unlink(missing_ok=True)  # it refuses to overwrite a file
    command = [str(FOLDER / "bin/perf_analyzer"), "-m", model, "-b", "1", "-i", "grpc", "--concurrency-range", "1"]
    command += ["-u", server.grpc_url.partition("://")[2], "--input-data", str(folder / "data.json")]
    command += ["--profile-export-file", str(exported), "--request-count", str(requests)]
    libraries = [str(path.parent) for path in FOLDER.rglob("lib*.so.*")]
    environment = {**os.environ, "LD_LIBRARY_PATH": ":".join(libraries)}
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, env=environment, timeout=300)
    # The file also has the images, as bytes that are not text.
    content = json.loads(exported.read_text(encoding="utf-8", errors="replace"), strict=False)
    found = content["experiments"][0]["requests"]
    return np.array([(each["timestamp"], each["response_timestamps"][-1]) for each in found]) / 1e9
