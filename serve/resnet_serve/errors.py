"""What can go wrong when serving, as one exception whose message is the sentence shown to the user."""

from __future__ import annotations


class ServerError(Exception):
    """The server cannot be started or has ended; the message names the cause and the remedy."""
