"""Open loop: requests are sent by the clock, whether or not earlier ones have returned.

A sender is a greenlet that lives for the whole run and keeps its HTTP connection. The sender that became idle last
sends next; a new one is made while all are busy, up to the cap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import gevent
import gevent.queue

from resnet_loadtest.samples import Status
from resnet_loadtest.workloads import WORKLOADS

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from resnet_client import Client

    from resnet_loadtest.session import Session
    from resnet_loadtest.workloads import Workload

_CHANNELS = 8
_READY_SENDERS = 32
# A request that is still unsent this long after the end of the run is dropped.
_OVERTIME_S = 0.5


class Sender:
    """Sends one request at a time."""

    def __init__(
        self, session: Session, clients: dict[str, Client], idle: list[Sender], *, connect_first: bool
    ) -> None:
        self._session = session
        self._clients = clients
        self._idle = idle
        self._inbox: gevent.queue.SimpleQueue = gevent.queue.SimpleQueue()
        self.greenlet = gevent.spawn(self._work, connect_first)

    def submit(self, workload: Workload | None, intended_s: float = 0.0) -> None:
        """Send a request now; None ends the sender."""
        self._inbox.put((workload, intended_s))

    def _work(self, connect_first: bool) -> None:
        if connect_first:
            for client in self._clients.values():
                client.metadata()  # connects without an inference
            self._idle.append(self)
        while True:
            workload, intended_s = self._inbox.get()
            if workload is None:
                return
            self._session.send(workload, self._clients[workload.protocol], intended_s)
            self._idle.append(self)


class OpenLoop:
    """The dispatcher and its senders."""

    def __init__(self, session: Session, times_s: npt.NDArray[np.float64], cap: int) -> None:
        """Open the connections.

        Args:
            session: where requests are recorded.
            times_s: when to send, float64, shape (requests,), ascending seconds since the run began.
            cap: most requests in flight; more count as failed.
        """
        self._session = session
        self._times_s = times_s
        self._cap = cap
        protocols = {WORKLOADS[name].protocol for name in session.mix}
        self._pools = {
            protocol: [session.connect(protocol) for _ in range(_CHANNELS if protocol == "grpc" else 1)]
            for protocol in sorted(protocols)
        }
        self._idle: list[Sender] = []
        self._senders: list[Sender] = []
        for _ in range(min(cap, _READY_SENDERS)):
            self._add_sender(connect_first=True)
        while len(self._idle) < len(self._senders):
            failed = [sender.greenlet for sender in self._senders if sender.greenlet.dead]
            gevent.joinall(failed, raise_error=True)
            gevent.sleep(0.01)

    def run(self, end_s: float) -> None:
        """Send everything, then wait for all responses.

        Args:
            end_s: end of the last stage, in seconds since the run began.
        """
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
        for sender in self._senders:
            sender.submit(None)
        gevent.joinall([sender.greenlet for sender in self._senders])

    def close(self) -> None:
        """Close the clients."""
        for pool in self._pools.values():
            for client in pool:
                client.close()

    def _free_sender(self) -> Sender | None:
        if self._idle:
            return self._idle.pop()
        if len(self._senders) < self._cap:
            return self._add_sender(connect_first=False)
        return None

    def _add_sender(self, *, connect_first: bool) -> Sender:
        number = len(self._senders)
        clients = {protocol: pool[number % len(pool)] for protocol, pool in self._pools.items()}
        sender = Sender(self._session, clients, self._idle, connect_first=connect_first)
        self._senders.append(sender)
        return sender
