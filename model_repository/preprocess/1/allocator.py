"""Keeps the memory of one image for the next.

glibc gives memory above some thresholds back to the kernel as soon as it is free and moves them as it sees fit. As
luck has it, a worker then asks the kernel for the same pages again with every image: 300 page faults for one of
500x375 pixels, in some runs of the server and not in others, which is a quarter of the time that it takes; 2,900 for
one of 12 megapixels, a fifth.
"""

from __future__ import annotations

import contextlib
import ctypes

# Options of mallopt(3), as in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# A JPEG, reduced as far as the resize allows, has up to 18 MiB; what is larger goes back at once.
_LARGEST_KEPT_BYTES = 24 << 20
_KEPT_BYTES = 32 << 20


def keep_memory() -> None:
    """Keep up to 32 MiB for each thread; with another C library, leave everything as it is."""
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
