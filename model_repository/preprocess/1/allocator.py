"""Keeps freed memory for the next image.

glibc returns freed memory above some thresholds to the kernel, and adjusts these thresholds at run time. In some runs
of the server, a worker then requests the same pages from the kernel with every image: 300 page faults for an image of
500x375 pixels, a quarter of its time, and 2,900 for an image of 12 megapixels, a fifth.
"""

from __future__ import annotations

import contextlib
import ctypes

# Options of mallopt(3), as in malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
# A JPEG that is reduced while decoding needs up to 18 MiB. Larger blocks are returned to the kernel at once.
_LARGEST_KEPT_BYTES = 24 << 20
_KEPT_BYTES = 32 << 20


def keep_memory() -> None:
    """Keep up to 32 MiB for each thread; do nothing with another C library than glibc."""
    with contextlib.suppress(AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_KEPT_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
