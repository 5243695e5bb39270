"""What can go wrong in a build: exceptions whose message is the sentence shown to the user."""

from __future__ import annotations


class BuildError(Exception):
    """The build cannot go on; the message names the cause and the remedy."""


class UsageError(BuildError):
    """An option makes no sense, or names what is not there; nothing was begun."""


class LateInterrupt(KeyboardInterrupt):
    """Ctrl-C when everything was written already."""
