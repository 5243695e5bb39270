"""One process' part of a run, from loading photos to the last answer; the same alone and as a worker."""

from __future__ import annotations

import dataclasses
import gc
import time
from typing import TYPE_CHECKING, Any

import gevent
import gevent.event
import numpy as np

from resnet_loadtest.arrivals import schedule, share
from resnet_loadtest.gauging import Gauging
from resnet_loadtest.generator_metrics import Gauge
from resnet_loadtest.open_loop import OpenLoop
from resnet_loadtest.samples import SAMPLE
from resnet_loadtest.schedule import stages
from resnet_loadtest.session import Session
from resnet_loadtest.users import attach

if TYPE_CHECKING:
    from collections.abc import Callable

    from locust.env import Environment

    from resnet_loadtest.options import Options
    from resnet_loadtest.samples import Samples

_REPORT_S = 1.0
_GRACE_S = 5.0


@dataclasses.dataclass(frozen=True)
class Chunk:
    """What one process has to tell since it last did.

    Attributes:
        samples: requests that ended.
        gauges: looks at itself.
    """

    samples: Samples
    gauges: list[Gauge]

    def to_message(self) -> dict[str, Any]:
        """For the wire."""
        return {
            "samples": self.samples.tobytes(),
            "gauges": [dataclasses.astuple(gauge) for gauge in self.gauges],
        }

    @classmethod
    def from_message(cls, message: dict[str, Any]) -> Chunk:
        """Read what :meth:`to_message` wrote."""
        return cls(np.frombuffer(message["samples"], SAMPLE), [Gauge(*gauge) for gauge in message["gauges"]])


class Generator:
    """Prepares, begins, finishes; tells what happened every second."""

    def __init__(
        self,
        options: Options,
        environment: Environment,
        *,
        index: int = 0,
        count: int = 1,
        tell: Callable[[Chunk], None],
    ) -> None:
        """Load photos and open connections, so that the run measures neither.

        Args:
            options: of the run.
            environment: Locust's.
            index: number of this process, from 0.
            count: how many there are.
            tell: called with what happened, about once a second.
        """
        self._options = options
        self._tell = tell
        self._stages = stages(options.profile, options.level, options.duration_s)
        self.session = Session(options, environment, index)
        attach(environment, self.session)
        self._open_loop: OpenLoop | None = None
        if options.is_open_loop:
            times_s = share(schedule(self._stages, options.arrivals, options.seed), index, count)
            self._open_loop = OpenLoop(self.session, times_s, max(1, options.max_in_flight // count))
        self._greenlets: list[gevent.Greenlet] = []

    def begin(self, lead_s: float) -> None:
        """Start the clock in ``lead_s`` seconds; returns at once."""
        gc.collect()
        gc.freeze()  # photos and modules need no further looking at
        self.session.start_clock(lead_s)
        self._gauging = Gauging(self.session)
        self._over = gevent.event.Event()
        self._teller = gevent.spawn(self._tell_often)
        if self._open_loop is not None:
            self._greenlets.append(gevent.spawn(self._open_loop.run, self._stages[-1].end_s))

    def finish(self) -> None:
        """Wait for the last answer, then tell the rest."""
        deadline_s = time.monotonic() + self._options.timeout_s + _GRACE_S
        gevent.joinall(self._greenlets, timeout=self._options.timeout_s + _GRACE_S + self._left_s())
        self.session.is_stopping = True
        while self.session.in_flight and time.monotonic() < deadline_s:
            gevent.sleep(0.01)
        self._gauging.stop()
        self._over.set()
        self._teller.join()  # killed, it could lose what it was about to tell
        self._tell(Chunk(self.session.take(), self._gauging.take()))
        gc.unfreeze()
        if self._open_loop is not None:
            self._open_loop.close()

    def _left_s(self) -> float:
        return max(0.0, self._stages[-1].end_s - self.session.now_s())

    def _tell_often(self) -> None:
        while not self._over.wait(_REPORT_S):
            self._tell(Chunk(self.session.take(), self._gauging.take()))
