"""Why the load test could not run; a verdict is never an exception."""

from __future__ import annotations


class LoadTestError(Exception):
    """The run could not take place; the message gives the reason and the remedy."""


class UsageError(LoadTestError):
    """An option or a file is not valid; the message says what is expected."""
