"""Generate the load of one process, from loading the images to the last response.

In closed loop, Locust's users send. In open loop, senders send at scheduled times, whether or not earlier requests have
returned. A sender is a greenlet that exists for the whole run and keeps its HTTP connection. The sender that became
idle last sends next; if all are busy, a new one is added, up to the limit.
"""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from pathlib import Path

import gevent
import gevent.event
import gevent.queue
import numpy as np
import numpy.typing as npt
from locust.env import Environment
from resnet_client import Client, ResnetClientError

from resnet_loadtest.options import Options
from resnet_loadtest.samples import Chunk, GeneratorMetrics, Status
from resnet_loadtest.schedule import sending_times, share, stages
from resnet_loadtest.session import Session
from resnet_loadtest.users import attach
from resnet_loadtest.workloads import WORKLOADS, Workload

_LOOK_S = 0.05
_REPORT_S = 1.0
_GRACE_S = 5.0
_CHANNELS = 8
_READY_SENDERS = 32
# Requests still unsent this long after the end of the run are dropped.
_OVERTIME_S = 0.5


class Generator:
    """Generates the load of one process, and reports every second."""

    def __init__(
        self,
        options: Options,
        environment: Environment,
        *,
        index: int = 0,
        count: int = 1,
        report: Callable[[Chunk], None],
    ) -> None:
        """Load images and open connections before the measurement.

        Args:
            options: of the run.
            environment: Locust's.
            index: number of this process, from 0.
            count: how many processes there are.
            report: called with a chunk about once a second.
        """
        self._options = options
        self._report = report
        course = stages(options.profile, options.level, options.duration_s)
        self._end_s = course[-1].end_s
        self._session = Session(options, environment, index)
        attach(environment, self._session)
        self._open_loop: _OpenLoop | None = None
        if options.is_open_loop:
            times_s = share(sending_times(course, options.arrivals, options.seed), index, count)
            self._open_loop = _OpenLoop(self._session, times_s, max(1, options.max_in_flight // count))
        self._greenlets: list[gevent.Greenlet] = []

    def begin(self, lead_s: float) -> None:
        """Start the clock in ``lead_s`` seconds; returns at once."""
        gc.collect()
        gc.freeze()  # excludes images and modules from garbage collection
        self._session.start_clock(lead_s)
        self._monitor = _Monitor(self._session)
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
        self._monitor.stop()
        self._over.set()
        self._reporter.join()  # killing it could lose a chunk
        self._report_rest()
        gc.unfreeze()
        if self._open_loop is not None:
            self._open_loop.close()

    def _report_often(self) -> None:
        while not self._over.wait(_REPORT_S):
            self._report_rest()

    def _report_rest(self) -> None:
        self._report(Chunk(self._session.take(), self._monitor.take()))


class _Monitor:
    """A greenlet that measures its own process: samples often, averages over a second."""

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
            # All greenlets share one thread; when it is busy, requests are sent late.
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


class _OpenLoop:
    """The dispatcher and its senders."""

    def __init__(self, session: Session, times_s: npt.NDArray[np.float64], cap: int) -> None:
        """Open the connections.

        Args:
            session: where requests are recorded.
            times_s: when to send, float64, shape (requests,), ascending seconds since the run began.
            cap: most requests in flight; further ones count as failed.
        """
        self._session = session
        self._times_s = times_s
        self._cap = cap
        self._pools = {
            protocol: [session.connect(protocol) for _ in range(_CHANNELS if protocol == "grpc" else 1)]
            for protocol in sorted({WORKLOADS[name].protocol for name in session.mix})
        }
        self._idle: list[_Sender] = []
        self._senders: list[_Sender] = []
        for _ in range(min(cap, _READY_SENDERS)):
            self._add_sender(connect_first=True)
        while len(self._idle) < len(self._senders):
            if failure := next((sender.failure for sender in self._senders if sender.failure), None):
                raise failure
            gevent.sleep(0.01)

    def run(self, end_s: float) -> None:
        """Send all requests, or those until this greenlet is killed, then wait for all responses.

        Args:
            end_s: end of the last stage, in seconds since the run began.
        """
        try:
            self._dispatch(end_s)
        finally:
            for sender in self._senders:
                sender.submit(None)
            gevent.joinall([sender.greenlet for sender in self._senders])

    def _dispatch(self, end_s: float) -> None:
        for intended_s in self._times_s.tolist():
            workload = self._session.choose_workload()
            now_s = self._session.now_s()
            gevent.sleep(max(0.0, intended_s - now_s))
            if now_s > end_s + _OVERTIME_S:
                self._session.record_unsent(intended_s, Status.UNSENT, workload)
            elif (sender := self._free_sender()) is None:
                self._session.record_unsent(intended_s, Status.CAPPED, workload)
            else:
                sender.submit(workload, intended_s)
        gevent.sleep(max(0.0, end_s - self._session.now_s()))

    def close(self) -> None:
        """Close the clients."""
        for pool in self._pools.values():
            for client in pool:
                client.close()

    def _free_sender(self) -> _Sender | None:
        if self._idle:
            return self._idle.pop()
        return self._add_sender(connect_first=False) if len(self._senders) < self._cap else None

    def _add_sender(self, *, connect_first: bool) -> _Sender:
        number = len(self._senders)
        clients = {protocol: pool[number % len(pool)] for protocol, pool in self._pools.items()}
        sender = _Sender(self._session, clients, self._idle, connect_first=connect_first)
        self._senders.append(sender)
        return sender


class _Sender:
    """Sends one request at a time."""

    def __init__(
        self, session: Session, clients: dict[str, Client], idle: list[_Sender], *, connect_first: bool
    ) -> None:
        self._session = session
        self._clients = clients
        self._idle = idle
        self._inbox: gevent.queue.SimpleQueue = gevent.queue.SimpleQueue()
        self.failure: ResnetClientError | None = None
        self.greenlet = gevent.spawn(self._work, connect_first)

    def submit(self, workload: Workload | None, intended_s: float = 0.0) -> None:
        """Send a request now; None ends the sender."""
        self._inbox.put((workload, intended_s))

    def _work(self, connect_first: bool) -> None:
        if connect_first:
            try:
                for client in self._clients.values():
                    client.metadata()  # connects without an inference
            except ResnetClientError as exc:  # the constructor raises it, once for all senders
                self.failure = exc
                return
            self._idle.append(self)
        while True:
            workload, intended_s = self._inbox.get()
            if workload is None:
                return
            self._session.send(workload, self._clients[workload.protocol], intended_s)
            self._idle.append(self)
