"""Load on the ensemble: callers in a closed loop, or photos at the times of a Poisson process."""

from __future__ import annotations

import dataclasses
import itertools
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from resnet_build.errors import BuildError
from resnet_build.tensors import IMAGE, PIXELS, PROBABILITIES

_TIMEOUT_S = 30.0
# By its own fault.
_REFUSED = "StatusCode.INVALID_ARGUMENT"
# Batches that were formed under another load leave first.
_SETTLE_S = 0.5


class Photo(NamedTuple):
    """An encoded photo, and the name by which it is told of."""

    name: str
    encoded: bytes


@dataclasses.dataclass
class Caller:
    """Sends photos to one ensemble, and pixels to its network.

    Attributes:
        client: shared by all threads, which tritonclient's gRPC allows.
        ensemble: its name.
        network: name of its network.
        photos: sent in turn.
        busiest: the largest share of one core that sending took, which is as much as Python can have.
    """

    client: triton.InferenceServerClient
    ensemble: str
    network: str
    photos: Sequence[Photo]
    busiest: float = 0.0

    def classify(self, number: int) -> float:
        """Classify one photo; return the seconds that took.

        Raises:
            BuildError: the photo is damaged, or the server does not answer.
        """
        started_s = time.perf_counter()
        self._infer(self.ensemble, self._photo(number), self._name(number))
        return time.perf_counter() - started_s

    def compute(self, pixels: npt.NDArray[np.uint8]) -> None:
        """Run one batch of pixels, shape (N, 224, 224, 3), through the network alone.

        Raises:
            BuildError: the server does not answer.
        """
        tensor = triton.InferInput(PIXELS, list(pixels.shape), "UINT8")
        tensor.set_data_from_numpy(pixels)
        self._infer(self.network, tensor, f"a batch of {len(pixels)}")

    def check_photos(self) -> None:
        """Classify each photo once: a damaged one would end the measuring, or be taken for a late one.

        Raises:
            BuildError: there is one; or the server does not answer.
        """
        for number in range(len(self.photos)):
            self.classify(number)

    def closed_loop(self, callers: int, seconds: float) -> float:
        """Keep that many photos on their way; return photos per second, after a moment to settle.

        Each caller is counted from one of its answers to another: answers come in batches, and who cuts a window
        out of them counts half a batch too many or too few.

        Raises:
            BuildError: a photo is not answered.
        """
        started_s, own_s = time.perf_counter(), time.process_time()
        numbers = itertools.count()
        begin_s = time.perf_counter() + _SETTLE_S
        rates: list[float] = []

        def call() -> None:
            moments: list[float] = []
            while not moments or moments[-1] < begin_s + seconds:
                self.classify(next(numbers))
                if (now_s := time.perf_counter()) >= begin_s:
                    moments.append(now_s)
            if len(moments) > 1:
                rates.append((len(moments) - 1) / (moments[-1] - moments[0]))

        with ThreadPoolExecutor(callers) as pool:
            for future in [pool.submit(call) for _ in range(callers)]:
                future.result()
        share = (time.process_time() - own_s) / (time.perf_counter() - started_s)
        self.busiest = max(self.busiest, share)
        if not rates:
            raise BuildError("no caller had two answers in one round: give --round-s more seconds")
        return sum(rates) * callers / len(rates)

    def poisson(self, rate: float, seconds: float, seed: int) -> list[float]:
        """Send photos at random times, ``rate`` a second, whether or not earlier ones are answered.

        Returns:
            Seconds from when each was due until its answer, in this order; for those without one the longest wait, 30.
        """
        arrivals = random.Random(seed)  # noqa: S311  # the same arrivals for all settings of a round
        # As many as there should be: in a few seconds, chance alone would change the load by several per cent.
        offsets = sorted(arrivals.uniform(0, seconds) for _ in range(max(1, round(rate * seconds))))
        latencies = [_TIMEOUT_S] * len(offsets)
        all_answered = threading.Semaphore(0)

        def done(number: int, due_s: float, result: Any, error: Any) -> None:  # noqa: ARG001  # tritonclient names both
            if not error:
                latencies[number] = time.perf_counter() - due_s
            all_answered.release()

        started_s = time.perf_counter()
        for number, offset_s in enumerate(offsets):
            due_s = started_s + offset_s
            time.sleep(max(0.0, due_s - time.perf_counter()))
            self.client.async_infer(
                self.ensemble,
                [self._photo(number)],
                partial(done, number, due_s),
                outputs=[_answer()],
                client_timeout=_TIMEOUT_S,
            )
        for _ in offsets:
            if not all_answered.acquire(timeout=2 * _TIMEOUT_S):
                raise BuildError("a photo was neither answered nor given up in time")
        return latencies

    def _infer(self, model: str, tensor: triton.InferInput, what: str) -> None:
        try:
            self.client.infer(model, [tensor], outputs=[_answer()], client_timeout=_TIMEOUT_S)
        except InferenceServerException as exc:
            if exc.status() == _REFUSED:
                raise BuildError(f"{what} cannot be tuned with: {exc.message()}; leave it out of --images") from exc
            raise BuildError(f"the server does not answer to {what}: {exc.message()}") from exc

    def _name(self, number: int) -> str:
        return f"the photo {self.photos[number % len(self.photos)].name}"

    def _photo(self, number: int) -> triton.InferInput:
        tensor = triton.InferInput(IMAGE, [1, 1], "BYTES")
        tensor.set_data_from_numpy(np.array([[self.photos[number % len(self.photos)].encoded]], dtype=object))
        return tensor


def _answer() -> triton.InferRequestedOutput:
    return triton.InferRequestedOutput(PROBABILITIES, class_count=1)
