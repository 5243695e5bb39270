"""Decides whether a failed attempt is retried, and after which pause. No I/O.

Classification has no side effects, so sending a request twice is safe. A request that did not reach a server is
retried. A request that an overloaded server refused is retried only if ``retry_overload`` is set, and only within a
budget: when a server refuses half of all requests, clients that retry everything double its load.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING

from resnet_client.errors import (
    DeadlineExceededError,
    ModelNotFoundError,
    OverloadedError,
    ResponseError,
    ServerError,
    UnavailableError,
)

if TYPE_CHECKING:
    from resnet_client.config import ClientConfig
    from resnet_client.pool import Pool, Server

_SHARE = 0.2  # retries earned by each request; the throttles of gRPC and Finagle allow 10 to 20 per cent
_RESERVE = 5.0  # retries available at the start
_MOST = 50.0  # most retries saved up; more could overload a server

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 2.0


class Deadline:
    """A budget of wall time that starts now and is shared by all attempts of one call."""

    __slots__ = ("_end_s", "timeout_s")

    def __init__(self, timeout_s: float) -> None:
        self.timeout_s = timeout_s
        self._end_s = time.monotonic() + timeout_s

    @property
    def left_s(self) -> float:
        """Seconds left; zero or negative when the time is up."""
        return self._end_s - time.monotonic()

    def remaining_s(self) -> float:
        """Seconds left, above zero.

        Raises:
            DeadlineExceededError: the time is up.
        """
        left_s = self.left_s
        if left_s <= 0:
            raise DeadlineExceededError(f"no answer within {self.timeout_s:g} s; increase timeout_s")
        return left_s

    def at_most(self, timeout_s: float) -> Deadline:
        """A deadline that starts now and ends after ``timeout_s``, or with this one if that is earlier."""
        return Deadline(min(timeout_s, self.remaining_s()))


class RetryBudget:
    """Budget of retries under overload, earned by requests; all threads of a client share it.

    There are at most 5 retries, and one more for five requests.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retries = _RESERVE

    def earn(self) -> None:
        """Count a request that is sent for the first time."""
        with self._lock:
            self._retries = min(_MOST, self._retries + _SHARE)

    def spend(self) -> bool:
        """Take one retry, if there is one."""
        with self._lock:
            if self._retries < 1:
                return False
            self._retries -= 1
            return True

    def after_fork(self) -> None:
        """Replace the lock in a child process: a thread of the parent may have held it."""
        self._lock = threading.Lock()


class Attempts:
    """The attempts of one request: which servers were tried, and whether to retry."""

    __slots__ = ("_budget", "_config", "_deadline", "_pool", "_round", "tried")

    def __init__(self, config: ClientConfig, budget: RetryBudget, pool: Pool, deadline: Deadline) -> None:
        if config.retry_overload:
            budget.earn()
        self._config = config
        self._budget = budget
        self._pool = pool
        self._deadline = deadline
        self._round = 1
        self.tried: set[Server] = set()

    def pause_after(self, error: ServerError, *, is_fixed: bool = False) -> float | None:
        """How long to wait before the next attempt, in seconds; None if there is none.

        An attempt at a healthy server that was not tried yet follows at once. Otherwise the next round starts
        after a pause.

        Args:
            error: how the last attempt failed.
            is_fixed: whether only the server that has failed may be tried.
        """
        is_untried = not is_fixed and self._pool.has_another(self.tried)
        pause_s = 0.0 if is_untried else round_pause_s(self._round, self._deadline.timeout_s)
        has_round_left = is_untried or self._round < self._config.max_attempts
        if not has_round_left or self._deadline.left_s <= pause_s or not self._is_worth_it(error, is_untried):
            return None
        if not is_untried:
            self.tried.clear()
            self._round += 1
        return pause_s

    def _is_worth_it(self, error: ServerError, is_untried: bool) -> bool:
        if isinstance(error, OverloadedError):
            return self._config.retry_overload and self._budget.spend()
        if isinstance(error, ResponseError):
            # The server failed while computing. One other server is tried; a request that crashes servers must not
            # reach all of them.
            return is_untried and len(self.tried) == 1
        if isinstance(error, ModelNotFoundError):
            return is_untried  # a server that starts or stops has no models for a moment
        return isinstance(error, UnavailableError)


def round_pause_s(number: int, timeout_s: float) -> float:
    """Seconds to wait after a round of attempts: growing, and random, so that clients do not retry together.

    Args:
        number: how many rounds there were, at least 1.
        timeout_s: of the call; a short timeout has short pauses.
    """
    longest_s = min(_LONGEST_PAUSE_S, timeout_s / 4, _FIRST_PAUSE_S * 2.0 ** min(number - 1, 10))
    return longest_s * random.uniform(0.5, 1)  # noqa: S311  # spreads load; not for security
