"""What becomes of clients in a child process: ``os.fork()`` copies locks and connections that are its parent's.

A connection that both use gives each the other's answers, and a lock that another thread held stays closed for ever,
because that thread was not copied. So every client begins anew in a child, before anything else runs there.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol


class Forked(Protocol):
    """What has to begin anew in a child."""

    def after_fork(self) -> None:
        """Let go of what is the parent's; called in a child that has one thread yet."""


_all: weakref.WeakSet[Forked] = weakref.WeakSet()
_left: list[object] = []


def watch(thing: Forked) -> None:
    """Have it begin anew after each fork, as long as it lives."""
    _all.add(thing)


def leave(thing: object) -> None:
    """Keep what is the parent's as long as this child lives: its end, even as garbage, would reach the parent's."""
    _left.append(thing)


def _begin_anew() -> None:
    for thing in tuple(_all):
        thing.after_fork()


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_begin_anew)
