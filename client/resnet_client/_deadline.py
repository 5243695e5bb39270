"""How long a call may still take."""

from __future__ import annotations

import time

from resnet_client._exceptions import DeadlineExceededError


class Deadline:
    """A budget of wall time that starts now and is shared by all steps and attempts of one call."""

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
            raise DeadlineExceededError(f"no answer within {self.timeout_s:g} s; allow more with timeout_s")
        return left_s
