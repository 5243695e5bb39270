"""How long a call may still take, and whether a failed attempt is worth another one."""

from __future__ import annotations

import dataclasses
import logging
import time
from typing import TYPE_CHECKING

from resnet_client._exceptions import DeadlineExceededError, OverloadedError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from typing import Protocol

    from stamina import Attempt

    class Attempts(Protocol):
        """What stamina's ``retry_context`` returns: attempts for ``for`` and for ``async for``."""

        def __iter__(self) -> Iterator[Attempt]: ...
        def __aiter__(self) -> AsyncIterator[Attempt]: ...


# stamina logs each retry as a warning; Python prints warnings that nobody handles, and a library must not.
logging.getLogger("stamina").addHandler(logging.NullHandler())


class Deadline:
    """A budget of wall time that starts now and is shared by all steps and attempts of one call."""

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
            raise DeadlineExceededError(f"no answer within {self.timeout_s:g} s; allow more with timeout_s")
        return left_s


@dataclasses.dataclass(frozen=True)
class RetryPolicy:
    """Which failures are tried again, and how often.

    Classification has no side effects, so sending a request twice is safe. Only what the server did not
    work on is repeated: it could not be reached or the connection broke; where asked, it was overloaded.
    """

    max_attempts: int
    retry_overload: bool = False

    def attempts(self, deadline: Deadline) -> Attempts:
        """Attempts with exponential back-off and jitter that never outlive the deadline."""
        import stamina

        # The pause before an attempt has to fit into the time left, or the deadline would be overslept.
        longest_pause_s = min(2.0, deadline.timeout_s / 4)

        def is_worth_it(error: Exception) -> bool:
            return self.allows(error) and deadline.left_s > longest_pause_s

        return stamina.retry_context(
            on=is_worth_it,
            attempts=self.max_attempts,
            timeout=None,
            wait_initial=min(0.05, longest_pause_s),
            wait_max=longest_pause_s,
            wait_jitter=min(0.2, longest_pause_s),
        )

    def allows(self, error: Exception) -> bool:
        """Whether this failure may be tried again."""
        if isinstance(error, OverloadedError):
            return self.retry_overload
        return isinstance(error, UnavailableError)


ONCE = RetryPolicy(max_attempts=1)
