"""What can end a roll-out early; each message is the sentence shown to the user."""

from __future__ import annotations


class RolloutError(Exception):
    """The roll-out could not be carried out; the message names the cause and the remedy."""


class RefusedError(Exception):
    """The new version is not fit for service; the message says why."""
