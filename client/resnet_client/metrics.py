"""Reads the page of Triton's metrics, for the doctor and the load test."""

from __future__ import annotations

import http.client
import urllib.request

_MAX_BYTES = 16 << 20  # Triton's response is some kilobytes per model
# As the client does, it ignores proxies of the environment.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def fetch(url: str, timeout_s: float = 2.0) -> str:
    """The endpoint's text.

    Raises:
        OSError: it cannot be read.
    """
    if not url.startswith(("http://", "https://")):
        raise OSError(f"{url!r} is not an HTTP URL")
    try:
        with _DIRECT.open(url, timeout=timeout_s) as response:
            return str(response.read(_MAX_BYTES).decode(errors="replace"))
    except (http.client.HTTPException, ValueError) as exc:  # truncated, not HTTP, or not a URL
        raise OSError(f"{url!r} returned no metrics: {exc}") from exc
