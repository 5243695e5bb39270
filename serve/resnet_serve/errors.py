"""What can go wrong when serving; the message is the sentence shown to the user.

::

    ServerError             cannot be started, has ended, or does not answer
    └── UnservableError     starting again will not help: a person has to mend something first
"""

from __future__ import annotations


class ServerError(Exception):
    """The server cannot be started or has ended; the message names the cause and the remedy."""


class UnservableError(ServerError):
    """Repository, options, certificates or packages are not such that a server could start with them."""
