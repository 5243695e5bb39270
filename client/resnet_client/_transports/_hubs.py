"""gevent makes an event loop (a «hub») for each thread and never takes it away; here it is, when unused.

Several clients may use one thread, so the connections on each hub are counted; the last one takes it along.
"""

from __future__ import annotations

import collections
import threading
from typing import Any

import gevent
import gevent.monkey

_users: collections.Counter[Any] = collections.Counter()
_lock = threading.Lock()


def lease() -> Any:
    """The hub of this thread, counted; None in a patched process, where it belongs to all greenlets."""
    if gevent.monkey.is_module_patched("threading"):
        return None
    hub = gevent.get_hub()
    with _lock:
        _users[hub] += 1
    return hub


def give_back(hub: Any) -> None:
    """Count one user less; destroy the hub after its last. Its thread ends or has ended."""
    if hub is None:
        return
    with _lock:
        _users[hub] -= 1
        if _users[hub]:
            return
        del _users[hub]
    hub.destroy(destroy_loop=True)
