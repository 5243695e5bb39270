"""What both protocols have in common."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_client._requests import Inference

if TYPE_CHECKING:
    from resnet_client._requests import Request

CONNECT_TIMEOUT_S = 3.0
"""Longest wait for a connection, so that time is left for another attempt; one lost packet costs one second."""


def microseconds(timeout_s: float) -> int:
    """The time-out that the server is told, so that work nobody waits for leaves its queue."""
    return max(1, round(timeout_s * 1_000_000))


def is_closed_to_strangers(request: Request) -> bool:
    """Whether a server may want the admin token for this; never for health and inference."""
    return not isinstance(request, Inference) and not request.method.startswith("is_")
