"""Generate the load of one process, from loading the images to the last response.

In closed loop, Locust's users send. In open loop, each request is sent at its scheduled time in a greenlet of its own,
whether or not earlier requests have returned.
"""

from __future__ import annotations

import gc
import itertools
import time
from collections.abc import Callable

import gevent
import gevent.event
import gevent.pool
import numpy as np
import numpy.typing as npt
from locust.env import Environment

from resnet_loadtest.options import Options
from resnet_loadtest.samples import Chunk, GeneratorMetrics, Status
from resnet_loadtest.schedule import sending_times, stages
from resnet_loadtest.session import Session, connect
from resnet_loadtest.users import attach
from resnet_loadtest.workloads import protocols

_REPORT_S = 1.0
_GRACE_S = 5.0
_CHANNELS = 8
# Requests still unsent this long after the end of the run are dropped.
_OVERTIME_S = 0.5


class Generator:
    """Generates the load of one process, and reports every second."""

    def __init__(
        self,
        options: Options,
        environment: Environment,
        report: Callable[[Chunk], None],
        index: int = 0,
        count: int = 1,
    ) -> None:
        """Load images and open connections before the measurement.

        Args:
            options: of the run.
            environment: Locust's.
            report: called with a chunk about once a second.
            index: number of this process, from 0.
            count: how many processes there are.
        """
        self._options = options
        self._report = report
        course = stages(options.profile, options.level, options.duration_s)
        self._end_s = course[-1].end_s
        self._session = Session(options, environment, index)
        attach(environment, self._session)
        self._open_loop: _OpenLoop | None = None
        if options.is_open_loop:
            times_s = sending_times(course, options.arrivals, options.seed)[index::count]
            self._open_loop = _OpenLoop(self._session, times_s, max(1, options.max_in_flight // count))
        self._greenlets: list[gevent.Greenlet] = []

    def begin(self, lead_s: float) -> None:
        """Start the clock in ``lead_s`` seconds; returns at once."""
        gc.collect()
        gc.freeze()  # excludes images and modules from garbage collection
        self._session.start_clock(lead_s)
        self._over = gevent.event.Event()
        self._reporter = gevent.spawn(self._report_often)
        if self._open_loop is not None:
            self._greenlets.append(gevent.spawn(self._open_loop.run, self._end_s))

    def finish(self, *, early: bool = False) -> None:
        """Wait for the last response, then report the remaining samples.

        Args:
            early: send no further requests, although the schedule has some.
        """
        wait_s = self._options.timeout_s + _GRACE_S
        deadline_s = time.monotonic() + wait_s
        if early:
            gevent.killall(self._greenlets, block=False)
        gevent.joinall(self._greenlets, timeout=wait_s + max(0.0, self._end_s - self._session.now_s()))
        self._session.is_stopping = True
        while self._session.in_flight and time.monotonic() < deadline_s:
            gevent.sleep(0.01)
        self._over.set()
        self._reporter.join()  # killing it could lose a chunk
        gc.unfreeze()
        if self._open_loop is not None:
            self._open_loop.close()

    def _report_often(self) -> None:
        is_over = False
        while not is_over:
            start = time.perf_counter(), time.thread_time()
            is_over = self._over.wait(_REPORT_S)
            # All greenlets share one thread; when it is busy, requests are sent late.
            share = (time.thread_time() - start[1]) / (time.perf_counter() - start[0])
            metrics = GeneratorMetrics(self._session.index, self._session.now_s(), share)
            # The last period may be too short for a share.
            self._report(Chunk(self._session.take(), [] if is_over else [metrics]))


class _OpenLoop:
    """Sends on a schedule."""

    def __init__(self, session: Session, times_s: npt.NDArray[np.float64], cap: int) -> None:
        """Open the connections.

        Args:
            session: where requests are recorded.
            times_s: when to send, float64, shape (requests,), ascending seconds since the run began.
            cap: most requests in flight; further ones count as failed.
        """
        self._session = session
        self._times_s = times_s
        self._requests = gevent.pool.Pool(cap)
        # A client over HTTP has a connection for each request in flight, one over gRPC a single one.
        self._clients = {
            protocol: [connect(session.options, protocol) for _ in range(_CHANNELS if protocol == "grpc" else 1)]
            for protocol in protocols(session.options.mix)
        }
        for client in itertools.chain(*self._clients.values()):
            client.metadata()  # connects

    def run(self, end_s: float) -> None:
        """Send all requests, or those until this greenlet is killed, then wait for all responses.

        Args:
            end_s: end of the last stage, in seconds since the run began.
        """
        try:
            self._dispatch(end_s)
        finally:
            self._requests.join()

    def _dispatch(self, end_s: float) -> None:
        turns = {protocol: itertools.cycle(clients) for protocol, clients in self._clients.items()}
        for intended_s in self._times_s.tolist():
            now_s = self._session.now_s()
            gevent.sleep(max(0.0, intended_s - now_s))
            if now_s > end_s + _OVERTIME_S:
                self._session.record_unsent(intended_s, Status.UNSENT)
            elif self._requests.full():
                self._session.record_unsent(intended_s, Status.CAPPED)
            else:
                workload = self._session.choose_workload()
                self._requests.spawn(self._session.send, workload, next(turns[workload.protocol]), intended_s)
        gevent.sleep(max(0.0, end_s - self._session.now_s()))

    def close(self) -> None:
        """Close the clients."""
        for client in itertools.chain(*self._clients.values()):
            client.close()
