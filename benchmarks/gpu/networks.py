"""V1 and V5: networks without a server, with batches of random sizes and of one size."""

from __future__ import annotations

import functools
import itertools
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnxruntime as ort
import torch
from resnet_build.network import ServedNetwork, make_resnet50
from resnet_client.requests import PIXELS, PROBABILITIES

from benchmarks import images
from benchmarks.gpu import Measurement, Settings, listed

_CUDA = "CUDAExecutionProvider"
# What the model configs set.
_CUDA_OPTIONS = {"cudnn_conv_algo_search": "HEURISTIC"}
_WARM = 3

Run = Callable[[torch.Tensor], object]


def with_onnx_runtime(settings: Settings) -> Iterator[Measurement]:
    """V1: one session of ONNX Runtime, as NVIDIA's backend has it for each instance."""
    what = f"`network_onnx`, one session of ONNX Runtime: batches of {settings.sizes[-1]}; of 1 to {settings.sizes[-1]}"
    yield Measurement("V1", what, functools.partial(_sessions, settings))


def _sessions(settings: Settings) -> str:
    session = _session(settings.repository / "network_onnx/1/model.onnx", settings.device)
    size = session.get_inputs()[0].shape[1]
    changing = np.random.default_rng(0).permutation(settings.sizes)
    rates = []
    for sizes in ([settings.sizes[-1]], changing):
        batches = [images.random_pixels(int(count), size) for count in sizes]
        for pixels in batches:
            session.run([PROBABILITIES], {PIXELS: pixels})
        count, began_s = 0, time.perf_counter()
        for pixels in itertools.cycle(batches):
            session.run([PROBABILITIES], {PIXELS: pixels})
            count += len(pixels)
            if (taken_s := time.perf_counter() - began_s) > settings.seconds:
                break
        rates.append(count / taken_s)
    return f"{listed(rates)} images/s"


def _session(file: Path, device: str) -> ort.InferenceSession:
    if device == "cpu":
        return ort.InferenceSession(file, providers=["CPUExecutionProvider"])
    if _CUDA not in ort.get_available_providers():
        raise OSError("ONNX Runtime has no GPU support: pip install onnxruntime-gpu instead of onnxruntime")
    ort.preload_dlls()
    session = ort.InferenceSession(file, providers=[(_CUDA, _CUDA_OPTIONS), "CPUExecutionProvider"])
    if _CUDA not in session.get_providers():
        raise OSError('ONNX Runtime could not start on the GPU: pip install "onnxruntime-gpu[cuda,cudnn]"')
    return session


class _Network(ServedNetwork):
    """The served network, whose convolutions compute in the type of their weights."""

    def normalised(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the normalised pixels; TorchScript knows no `super`."""
        x = (pixels.to(torch.float32).permute(0, 3, 1, 2) - self.mean) / self.std
        return x.to(self.backbone.conv1.weight.dtype)


def with_pytorch(settings: Settings) -> Iterator[Measurement]:
    """V5: PyTorch in FP16 (on a CPU in FP32): eager, frozen TorchScript, compiled; each also as a CUDA graph."""
    dtype = torch.float16 if settings.device == "cuda" else torch.float32
    network = (
        _Network(make_resnet50("v1.5", 1000).to(dtype)).eval().to(settings.device).to(memory_format=torch.channels_last)
    )
    # On the CPU, inductor would compile for minutes.
    backend = "inductor" if settings.device == "cuda" else "eager"
    ways: dict[str, Callable[[], Run]] = {
        "eager": lambda: network,
        "frozen": lambda: torch.jit.freeze(torch.jit.script(network)),
        "compiled": lambda: torch.compile(network, backend=backend, dynamic=False),
    }
    for (name, make), graph in itertools.product(ways.items(), (False, True)):
        what = f"PyTorch {str(dtype).removeprefix('torch.')}, {name}{', CUDA graph' * graph}"
        run = functools.partial(_speeds, make, settings, graph=graph)
        yield Measurement("V5", f"{what}: batches of {listed(settings.batches)}", run)


def _speeds(make: Callable[[], Run], settings: Settings, *, graph: bool) -> str:
    """Run each batch size, with pixels that are already on the device."""
    if graph and settings.device == "cpu":
        raise OSError("CUDA graphs need a GPU")
    run, rates = make(), []
    with torch.inference_mode():
        for batch in settings.batches:
            pixels = torch.from_numpy(images.random_pixels(batch, 224)).to(settings.device)
            call = _graph(run, pixels) if graph else functools.partial(run, pixels)
            for _ in range(_WARM):
                call()
            rates.append(batch * _rate(call, settings))
    return f"{listed(rates)} images/s"


def _graph(run: Run, pixels: torch.Tensor) -> Callable[[], object]:
    """Record a call; it is first made on another stream, as PyTorch requires."""
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # PyTorch has not annotated it
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(_WARM):
            run(pixels)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run(pixels)
    return graph.replay


def _rate(call: Callable[[], object], settings: Settings) -> float:
    """Calls per second; a GPU is waited for once in a while, because it queues calls."""
    synchronise(settings.device)
    count, began_s = 0, time.perf_counter()
    while (taken_s := time.perf_counter() - began_s) < settings.seconds:
        for _ in range(4):
            call()
        count += 4
        synchronise(settings.device)
    return count / taken_s


def synchronise(device: str) -> None:
    """Wait until a GPU has computed what it was given."""
    if device == "cuda":
        torch.cuda.synchronize()
