"""HTTP/1.1 by uvicorn and h11, with limits on connections, and errors as JSON."""

from __future__ import annotations

import asyncio
import json

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

_MAX_CONNECTIONS = 512


class BoundedProtocol(H11Protocol):
    """Closes a connection whose request is not complete in time; uvicorn itself has no such limit.

    Attributes:
        read_timeout_s: from the first byte of the connection or the request to the end of its body, in seconds.
    """

    read_timeout_s = 30.0
    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's
        """Accept the connection unless there are too many."""
        super().connection_made(transport)
        self._watch()
        if len(self.connections) > _MAX_CONNECTIONS:
            self._refuse(503, "too many connections")

    def data_received(self, data: bytes) -> None:
        """Parse received bytes, and stop the timer if the request is complete."""
        super().data_received(data)
        self._watch()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the timer."""
        if self._timer:
            self._timer.cancel()
        super().connection_lost(exc)

    def send_400_response(self, msg: str) -> None:
        """Answer invalid HTTP."""
        self._refuse(400, msg)

    def _watch(self) -> None:
        is_receiving = self.conn.their_state in (h11.IDLE, h11.SEND_BODY)
        if is_receiving and self._timer is None:
            self._timer = self.loop.call_later(self.read_timeout_s, self._give_up)
        elif not is_receiving and self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _give_up(self) -> None:
        if self.conn.their_state is h11.SEND_BODY or self.conn.trailing_data[0]:
            self._refuse(408, "the request was not complete in time")
        self.transport.close()

    def _refuse(self, status: int, message: str) -> None:
        if self.cycle is not None:
            # So that the application, which may have the request already, sends no second response.
            self.cycle.disconnected = True
        if self.conn.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            body = json.dumps({"error": message}).encode()
            headers = {"content-type": "application/json", "content-length": str(len(body)), "connection": "close"}
            response = h11.Response(status_code=status, headers=list(headers.items()))
            for event in (response, h11.Data(data=body), h11.EndOfMessage()):
                self.transport.write(self.conn.send(event) or b"")
        self.transport.close()
