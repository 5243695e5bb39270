"""The ceiling: the server's decoder and the same network in one process, without a server.

As a program, it prints one line of JSON. Decoding and network overlap: decoders fill a short queue, from which runners
take batches.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import queue
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from resnet_client.preprocessing import PreprocessConfig, prepare

from benchmarks import CORES, images
from benchmarks.networks import Pixels, Run, open_network

_QUEUED_BATCHES = 2
_POLL_S = 0.02
# Warm-up executions of each runner, which are not measured: the first ones allocate memory.
_WARM = 2
_DECODE_ROUNDS = 5


@dataclasses.dataclass(frozen=True)
class Settings:
    """The settings of the process.

    Attributes:
        batch: images per execution of the network.
        runners: executions at once.
        threads: of each execution.
        decoders: images decoded at once.
        spin: whether idle threads of the network wait in a loop, which is ONNX Runtime's default.
    """

    batch: int
    runners: int
    threads: int
    decoders: int
    spin: bool = True


class Pipeline:
    """Decoders and runners in threads, and a short queue of pixels between them."""

    def __init__(
        self, runs: Sequence[Run], jpegs: Sequence[bytes], preprocess_config: PreprocessConfig, settings: Settings
    ) -> None:
        self._settings = settings
        self._jpegs, self._preprocess_config = jpegs, preprocess_config
        self._pixels: queue.Queue[Pixels] = queue.Queue(_QUEUED_BATCHES * settings.batch * settings.runners)
        self._measured, self._done = threading.Event(), threading.Event()
        self._finished: list[list[float]] = [[] for _ in runs]
        self._failures: list[Exception] = []
        self._decoders = [self._thread(self._decode, n) for n in range(settings.decoders)]
        self._runners = [
            self._thread(self._classify, run, finished) for run, finished in zip(runs, self._finished, strict=True)
        ]

    def measure(self, seconds: float) -> dict[str, float]:
        """Decode and classify as fast as the process can.

        Returns:
            ``throughput`` in images per second, and ``server_ms``, CPU time per image in core-milliseconds.

        Raises:
            RuntimeError: decoding or the network has failed.
        """
        for thread in (*self._decoders, *self._runners):
            thread.start()
        self._wait(lambda: all(len(times) > _WARM for times in self._finished))
        began, spent = time.perf_counter(), time.process_time()
        self._wait(lambda: all(times[-1] - times[_WARM] >= seconds for times in self._finished))
        executions = [times[_WARM:] for times in self._finished]
        busy = (time.process_time() - spent) / (time.perf_counter() - began)
        self._measured.set()
        for thread in self._runners:
            thread.join()
        self._done.set()
        throughput = self._settings.batch * rate(executions)
        return {"throughput": throughput, "server_ms": 1e3 * busy / throughput}

    def _thread(self, work: Callable[..., None], *arguments: Any) -> threading.Thread:
        def keep_failure() -> None:
            try:
                work(*arguments)
            except Exception as exc:  # noqa: BLE001  # raised in the waiting thread
                self._failures.append(exc)

        # Threads that wait for a failed one must not keep the process alive.
        return threading.Thread(target=keep_failure, daemon=True)

    def _wait(self, condition: Callable[[], bool]) -> None:
        while not condition():
            if self._failures:
                self._measured.set()
                self._done.set()
                raise RuntimeError("decoding or the network has failed") from self._failures[0]
            time.sleep(_POLL_S)

    def _decode(self, first: int) -> None:
        turn = first
        while not self._done.is_set():
            self._put(prepare(self._jpegs[turn % len(self._jpegs)], self._preprocess_config))
            turn += self._settings.decoders

    def _put(self, pixels: Pixels) -> None:
        while not self._done.is_set():
            with contextlib.suppress(queue.Full):
                self._pixels.put(pixels, timeout=_POLL_S)
                return

    def _classify(self, run: Run, finished: list[float]) -> None:
        while not self._measured.is_set():
            run(np.stack([self._pixels.get() for _ in range(self._settings.batch)]))
            finished.append(time.perf_counter())


def rate(finished: Sequence[Sequence[float]]) -> float:
    """Return executions per second from when each runner's were finished, in seconds, in the order of time.

    Each runner is timed over whole executions of its own: in one row, those of runners in step would be one too many.
    """
    return sum((len(times) - 1) / (times[-1] - times[0]) for times in finished)


def latency_ms(run: Run, jpegs: Sequence[bytes], preprocess_config: PreprocessConfig, seconds: float) -> float:
    """Median time of decoding and classifying one image after another, in milliseconds."""
    took: list[float] = []
    deadline = time.perf_counter() + seconds
    turn = 0
    while time.perf_counter() < deadline:
        start = time.perf_counter()
        run(prepare(jpegs[turn % len(jpegs)], preprocess_config)[np.newaxis])
        took.append(time.perf_counter() - start)
        turn += 1
    return 1e3 * float(np.median(took[len(took) // 10 :]))


def decode_ms(jpegs: list[bytes], preprocess_config: PreprocessConfig) -> float:
    """Core-milliseconds of preparing an image: mean over the images, median over rounds."""
    rounds = []
    for _ in range(_DECODE_ROUNDS):
        start = time.thread_time()
        for jpeg in jpegs:
            prepare(jpeg, preprocess_config)
        rounds.append(1e3 * (time.thread_time() - start) / len(jpegs))
    return float(np.median(rounds))


def network_ms(name: str, model: Path, batch: int, size: int, seconds: float) -> dict[str, float]:
    """Time per image of a network on all cores: wall time, and core-milliseconds.

    Threads do not spin between executions here, or waiting would count as work.
    """
    run = open_network(name, model, CORES, spin=False)
    pixels = images.random_pixels(batch, size)
    run(pixels)
    clock, core = [], []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        began, spent = time.perf_counter(), time.process_time()
        run(pixels)
        clock.append(1e3 * (time.perf_counter() - began) / batch)
        core.append(1e3 * (time.process_time() - spent) / batch)
    return {"clock_ms": float(np.median(clock)), "core_ms": float(np.median(core))}


def main() -> None:
    """Measure one setting."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--preprocessing", type=PreprocessConfig.from_json, required=True)
    parser.add_argument("--settings", type=json.loads, required=True)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--one", action="store_true", help="latency of one image after another, not throughput")
    args = parser.parse_args()
    settings = Settings(**args.settings)
    jpegs = images.standard()
    count = 1 if args.one else settings.runners
    runs = [open_network(args.network, args.model, settings.threads, spin=settings.spin) for _ in range(count)]
    if args.one:
        print(json.dumps({"latency_ms": latency_ms(runs[0], jpegs, args.preprocessing, args.seconds)}))
    else:
        print(json.dumps(Pipeline(runs, jpegs, args.preprocessing, settings).measure(args.seconds)))


if __name__ == "__main__":
    main()
