"""``--rate auto``: how many requests per second the server can answer at most."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.options import AUTO_RATE
from resnet_loadtest.runner import conduct

if TYPE_CHECKING:
    from rich.console import Console

    from resnet_loadtest.options import Options

_USERS = 16
_DURATION_S = 8.0
# The last step should show what happens when the server is full, not when it drowns.
_HEADROOM = 1.0


def with_measured_rate(options: Options, console: Console) -> Options:
    """Replace ``auto`` by what closed-loop users get out of the server; leave numbers as they are."""
    if options.rate != AUTO_RATE:
        return options
    console.print(f"measuring capacity: {_USERS} users, {_DURATION_S:.0f} s …")
    rate = measure(options)
    console.print(f"capacity: about {rate:.1f} requests per second", highlight=False)
    return dataclasses.replace(options, rate=rate)


def measure(options: Options) -> float:
    """Requests per second that ``_USERS`` closed-loop users get answered."""
    trial = dataclasses.replace(
        options,
        rate=None,
        users=_USERS,
        profile="steady",
        duration_s=_DURATION_S,
        slo="",
        processes=0,
        expect_workers=0,
    )
    whole = conduct(trial).whole
    answered = whole.requests - sum(whole.failures.values())
    if not answered:
        raise LoadTestError("the server answered nothing while its capacity was measured")
    return round(_HEADROOM * answered / whole.duration_s, 2)
