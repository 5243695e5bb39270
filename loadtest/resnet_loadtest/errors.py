"""Errors of the load test; a verdict is not an error."""

from __future__ import annotations


class LoadTestError(Exception):
    """The load test could not run; the message gives the reason and the remedy."""


class UsageError(LoadTestError):
    """An option or a file is invalid; the message names what is expected."""
