"""V1, V2 and V6: the server, with requests of random sizes, its metrics under load, and many callers."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import runpy
from collections.abc import Iterator, Sequence

import numpy as np
from resnet_client import Client
from resnet_client.metrics import fetch
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer

from benchmarks import ROOT, images, processes
from benchmarks.closed_loop import Sample, measure
from benchmarks.gpu import Measurement, Settings, listed
from benchmarks.senders import HttpSender, over_http

_NETWORK = "network_torchscript"
# No divisor of the number of sizes, so that each caller sends all of them.
_CALLERS = 5
# The second one is the fastest that was measured, with 128 callers.
_TARGETS = {
    "resnet50": "9,000 images/s (H100, 16 cores)",
    "resnet50_fp16": "3,288 images/s (H200, 16 cores, 2026-11-27)",
}


def with_server(settings: Settings) -> Iterator[Measurement]:
    """Measure on a running server, or on one that is started with the model config of the device."""
    with _port(settings) as port:
        yield Measurement(
            "V1",
            f"`{_NETWORK}` in the server: requests of {_fixed(settings)} images; of 1 to {settings.sizes[-1]}",
            functools.partial(_random_sizes, port, settings),
            "at least 90 %",
        )
        yield Measurement(
            "V2", "metrics of `admission.py` under load", functools.partial(_counters, port, settings), "all rise"
        )
        for model, target in _TARGETS.items():
            yield Measurement(
                "V6",
                f"`{model}`, images in, {listed(settings.callers)} callers",
                functools.partial(_throughput, port, model, settings),
                target,
            )


@contextlib.contextmanager
def _port(settings: Settings) -> Iterator[int]:
    if settings.port:
        yield settings.port
        return
    port = processes.free_port(consecutive=3)
    config_name = "gpu" if settings.device == "cuda" else None
    with TritonServer(ServerConfig(settings.repository, ALL_MODELS, port=port, model_config_name=config_name)):
        yield port


def _fixed(settings: Settings) -> int:
    return (settings.sizes[-1] + 1) // 2


def _random_sizes(port: int, settings: Settings) -> str:
    with Client(f"http://127.0.0.1:{port}") as client:
        pixels = images.pixels_of(client, _NETWORK, settings.sizes[-1])
    changing = np.random.default_rng(0).permutation(settings.sizes)
    rates = []
    for sizes in ([_fixed(settings)], changing):
        sender = HttpSender(port, [over_http(_NETWORK, pixels[:size]) for size in sizes])
        requests = sum(sample.throughput for sample in _samples(sender, _CALLERS, settings))
        rates.append(requests * float(np.mean(sizes)))
    return f"{listed(rates)} images/s ({rates[1] / rates[0]:.0%})"


def _counters(port: int, settings: Settings) -> str:
    """Read the metrics as `preprocess` does, before and during requests."""
    total = runpy.run_path(str(ROOT / "model_repository/preprocess/1/admission.py"))["_total"]
    found: list[dict[str, float]] = []

    def look() -> None:
        page = fetch(f"http://127.0.0.1:{port + 2}/metrics", timeout_s=10)
        names = {
            "pending_request_count": "preprocess",
            "request_success": "network_",
            "request_duration_us": "network_",
        }
        found.append({name: total(page, name, prefixes) for name, prefixes in names.items()})

    look()
    sender = HttpSender(port, [over_http("resnet50", jpeg) for jpeg in settings.jpegs])
    measure(sender, callers=max(settings.callers), seconds=settings.seconds, end=look)
    before, during = found
    return "; ".join(f"{name}: {before[name]:,.0f} → {during[name]:,.0f}" for name in before)


def _throughput(port: int, model: str, settings: Settings) -> str:
    sender = HttpSender(port, [over_http(model, jpeg) for jpeg in settings.jpegs])
    found = [_samples(sender, callers, settings) for callers in settings.callers]
    rates = [sum(sample.throughput for sample in samples) for samples in found]
    medians = [np.median(np.concatenate([sample.latencies_s for sample in samples])) for samples in found]
    return f"{listed(rates)} images/s; p50 {listed([1e3 * median for median in medians], 1)} ms"


def _samples(sender: HttpSender, callers: int, settings: Settings) -> Sequence[Sample]:
    """Divide the callers among forked processes, which start within the warm-up of `measure`."""
    processes = min(settings.processes, callers)
    shares = [callers // processes + (number < callers % processes) for number in range(processes)]
    with multiprocessing.get_context("fork").Pool(processes) as pool:
        return pool.starmap(_sample, [(sender, share, settings.seconds) for share in shares], chunksize=1)


def _sample(sender: HttpSender, callers: int, seconds: float) -> Sample:
    return measure(sender, callers=callers, seconds=seconds)
