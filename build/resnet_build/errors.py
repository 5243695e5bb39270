"""What can go wrong in a build, as one exception whose message is the sentence shown to the user."""

from __future__ import annotations


class BuildError(Exception):
    """The build cannot go on; the message names the cause and the remedy."""
