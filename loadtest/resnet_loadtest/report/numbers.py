"""Numbers for people."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from resnet_loadtest.analysis import Run
    from resnet_loadtest.metrics import Figures

_LONG = 2000.0


def milliseconds(seconds: float) -> str:
    """A duration with its unit."""
    if math.isnan(seconds):
        return "-"
    if math.isinf(seconds):
        return "failed"
    value = seconds * 1000
    return f"{seconds:.2f} s" if value >= _LONG else f"{value:.1f} ms"


def level(run: Run, part: Figures) -> str:
    """Requests per second, or users, of a stage."""
    return f"{part.level:.1f}" if run.options.is_open_loop else f"{max(1, round(part.level))}"
