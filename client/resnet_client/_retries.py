"""Whether a failed attempt is worth another one, and after which pause.

Classification has no side effects, so sending a request twice is safe. What the server could not be reached
for is repeated. A refusal because of overload is repeated only where asked, and only out of a budget: when a
server refuses half of what comes, clients that repeat everything double the load that it already cannot bear.
With the budget, all retries of a client together never add more than a fifth.
"""

from __future__ import annotations

import random
import threading

_SHARE = 0.2  # retries for each request; gRPC's and Finagle's own throttles allow 10 to 20 per cent
_RESERVE = 5.0  # so that a client's first requests may be repeated, too; paid back before more is earned
_MOST = 50.0  # saved up in quiet times; more would be a storm of its own

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class RetryBudget:
    """How many retries the requests so far have paid for; one for all threads of a client.

    From the 25th request on, requests and retries together are at most 1.2 times the requests; before
    that there are at most 5 retries.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retries = _RESERVE
        self._debt = _RESERVE

    def earn(self) -> None:
        """A request is sent for the first time."""
        with self._lock:
            if self._debt > 0:
                self._debt -= _SHARE
            else:
                self._retries = min(_MOST, self._retries + _SHARE)

    def after_fork(self) -> None:
        """Begin anew in a child process, with what is left."""
        self._lock = threading.Lock()

    def spend(self) -> bool:
        """Take one retry, if there is one."""
        with self._lock:
            if self._retries < 1:
                return False
            self._retries -= 1
            return True


def pause_s(attempt: int, timeout_s: float) -> float:
    """How long to wait after this attempt: growing, and random, so that clients do not come back together.

    Args:
        attempt: how many attempts there were, at least 1.
        timeout_s: what the call was allowed; a short one has short pauses.
    """
    longest_s = min(_LONGEST_PAUSE_S, timeout_s / 4, _FIRST_PAUSE_S * 2.0 ** min(attempt - 1, 10))
    return longest_s * random.uniform(0.5, 1)  # noqa: S311  # spreads load, guards no secret
