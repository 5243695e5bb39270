"""Reset clients in a child process: ``os.fork()`` copies the locks and connections of the parent.

A connection that both processes use would mix up their responses, and a lock that another thread held would stay
locked, because that thread was not copied. So every client resets itself in a child before anything else runs there.
"""

from __future__ import annotations

import os
import weakref
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_resets: weakref.WeakKeyDictionary[object, Callable[[Any], None]] = weakref.WeakKeyDictionary()
_kept: list[object] = []


def on_fork(thing: object, reset: Callable[[Any], None]) -> None:
    """Call ``reset(thing)`` in each child process, which then has a single thread, as long as the thing lives."""
    _resets[thing] = reset


def keep(thing: object) -> None:
    """Keep a parent's object alive until this child ends: its destructor would close the parent's connection."""
    _kept.append(thing)


def _reset_all() -> None:
    for thing, reset in tuple(_resets.items()):
        reset(thing)


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_reset_all)
