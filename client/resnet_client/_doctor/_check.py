"""What a check is: a name, what it looks at, how it finds, why that matters, and what helps."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from resnet_client._doctor._snapshot import Snapshot

Hits: TypeAlias = Iterator[tuple[str, str]]
"""Pairs of who is concerned (a model, or the server's URL) and what was seen there."""

Kind: TypeAlias = Literal["wrong", "slow", "exposed"]


@dataclasses.dataclass(frozen=True)
class Check:
    """One row of the doctor's table.

    Attributes:
        name: as in reports and for ``--ignore``.
        kind: what a hit means: answers are wrong or missing, slow, or open to strangers.
        looks_at: attributes of the snapshot that it needs.
        find: the check itself.
        cause: why it is bad.
        remedy: what to do.
    """

    name: str
    kind: Kind
    looks_at: tuple[str, ...]
    find: Callable[[Snapshot], Hits]
    cause: str
    remedy: str
