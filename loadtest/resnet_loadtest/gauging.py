"""A greenlet that watches its own process: CPU, memory, requests under way."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

import gevent

from resnet_loadtest.generator_metrics import Gauge

if TYPE_CHECKING:
    from resnet_loadtest.session import Session

_LOOK_S = 0.05
_REPORT_S = 1.0


class Gauging:
    """Looks often, reports once a second."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._gauges: list[Gauge] = []
        self._greenlet = gevent.spawn(self._work)

    def take(self) -> list[Gauge]:
        """What was seen since the last call."""
        gauges, self._gauges = self._gauges, []
        return gauges

    def stop(self) -> None:
        """Look no more."""
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
            self._gauges.append(
                Gauge(
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
