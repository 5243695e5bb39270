"""What can keep the load test from running; a verdict is never an exception."""

from __future__ import annotations


class LoadTestError(Exception):
    """The run could not take place; the message says why and what would help."""


class UsageError(LoadTestError):
    """An option makes no sense; the message says what would."""
