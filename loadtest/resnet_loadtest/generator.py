"""One process's part of a run, from loading the images to the last response; the same alone and as a worker."""

from __future__ import annotations

import dataclasses
import gc
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
import numpy as np

from resnet_loadtest.generator_metrics import GeneratorMetrics
from resnet_loadtest.open_loop import OpenLoop
from resnet_loadtest.samples import SAMPLE
from resnet_loadtest.schedule import sending_times, share, stages
from resnet_loadtest.session import Session
from resnet_loadtest.users import attach

if TYPE_CHECKING:
    from collections.abc import Callable

    from locust.env import Environment

    from resnet_loadtest.options import Options
    from resnet_loadtest.samples import Samples

_LOOK_S = 0.05
_REPORT_S = 1.0
_GRACE_S = 5.0


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What one process reports about once a second.

    Attributes:
        samples: requests that ended since the last chunk.
        metrics: the generator's own since the last chunk.
    """

    samples: Samples
    metrics: list[GeneratorMetrics]

    def to_message(self) -> dict[str, Any]:
        """For the wire."""
        return {
            "samples": self.samples.tobytes(),
            "metrics": [dataclasses.astuple(each) for each in self.metrics],
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Chunk:
        """Read what :meth:`to_message` wrote."""
        metrics = [GeneratorMetrics(*each) for each in message["metrics"]]
        return cls(np.frombuffer(message["samples"], SAMPLE), metrics)


class Generator:
    """Prepares, begins, finishes; reports every second."""

    def __init__(
        self,
        options: Options,
        environment: Environment,
        *,
        index: int = 0,
        count: int = 1,
        report: Callable[[Chunk], None],
    ) -> None:
        """Load images and open connections, so that the run measures neither.

        Args:
            options: of the run.
            environment: Locust's.
            index: number of this process, from 0.
            count: how many processes there are.
            report: called with a chunk about once a second.
        """
        self._options = options
        self._report = report
        self._stages = stages(options.profile, options.level, options.duration_s)
        self.session = Session(options, environment, index)
        attach(environment, self.session)
        self._open_loop: OpenLoop | None = None
        if options.is_open_loop:
            times_s = share(sending_times(self._stages, options.arrivals, options.seed), index, count)
            self._open_loop = OpenLoop(self.session, times_s, max(1, options.max_in_flight // count))
        self._greenlets: list[gevent.Greenlet] = []

    def begin(self, lead_s: float) -> None:
        """Start the clock in ``lead_s`` seconds; returns at once."""
        gc.collect()
        gc.freeze()  # images and modules stay; the collector need not look at them again
        self.session.start_clock(lead_s)
        self._monitor = _Monitor(self.session)
        self._over = gevent.event.Event()
        self._reporter = gevent.spawn(self._report_often)
        if self._open_loop is not None:
            self._greenlets.append(gevent.spawn(self._open_loop.run, self._stages[-1].end_s))

    def finish(self) -> None:
        """Wait for the last response, then report the rest."""
        deadline_s = time.monotonic() + self._options.timeout_s + _GRACE_S
        gevent.joinall(self._greenlets, timeout=self._options.timeout_s + _GRACE_S + self._left_s())
        self.session.is_stopping = True
        while self.session.in_flight and time.monotonic() < deadline_s:
            gevent.sleep(0.01)
        self._monitor.stop()
        self._over.set()
        self._reporter.join()  # if killed, it could lose the chunk that it is about to report
        self._report(Chunk(self.session.take(), self._monitor.take()))
        gc.unfreeze()
        if self._open_loop is not None:
            self._open_loop.close()

    def _left_s(self) -> float:
        return max(0.0, self._stages[-1].end_s - self.session.now_s())

    def _report_often(self) -> None:
        while not self._over.wait(_REPORT_S):
            self._report(Chunk(self.session.take(), self._monitor.take()))


class _Monitor:
    """A greenlet that measures its own process: looks often, averages over a second."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._metrics: list[GeneratorMetrics] = []
        self._greenlet = gevent.spawn(self._work)

    def take(self) -> list[GeneratorMetrics]:
        """The measurements since the last call."""
        metrics, self._metrics = self._metrics, []
        return metrics

    def stop(self) -> None:
        """End the greenlet."""
        self._greenlet.kill()

    def _work(self) -> None:
        while True:
            start = time.perf_counter(), time.thread_time(), time.process_time()
            looks: list[int] = []
            while time.perf_counter() - start[0] < _REPORT_S:
                gevent.sleep(_LOOK_S)
                looks.append(self._session.in_flight)
            # All greenlets run in one thread; when it is busy, requests wait for the generator.
            wall_s = time.perf_counter() - start[0]
            self._metrics.append(
                GeneratorMetrics(
                    worker=self._session.index,
                    time_s=self._session.now_s(),
                    thread_cpu=(time.thread_time() - start[1]) / wall_s,
                    process_cpu=(time.process_time() - start[2]) / wall_s,
                    rss_bytes=_rss_bytes(),
                    in_flight=sum(looks) / len(looks),
                )
            )


def _rss_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
