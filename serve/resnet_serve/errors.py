"""Errors of serving; their messages are shown to the user.

::

    ServerError             cannot be started, has ended, or does not answer
    └── UnservableError     starting again will not help: a person has to fix something first
    StopRequested           not an error: a signal requests the end
"""

from __future__ import annotations


class ServerError(Exception):
    """The server cannot be started or has ended; the message names the cause and the remedy."""


class StopRequested(Exception):  # noqa: N818  # a signal, no error
    """SIGTERM or SIGINT has arrived.

    Attributes:
        number: which of them.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class UnservableError(ServerError):
    """Repository, options, certificates or packages are not such that a server could start with them."""
