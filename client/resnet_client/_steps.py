"""The steps of a flow: what :class:`Client` does blocking and :class:`AsyncClient` awaits, and all I/O there is."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from resnet_client._deadline import Deadline
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request

T = TypeVar("T")


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """Run this here: it reads a file, decodes a photo or resolves a name, and may block."""

    run: Callable[[], Any]


@dataclasses.dataclass(frozen=True, slots=True)
class Send:
    """Send this once, to this server, and give back what the transport read."""

    endpoint: Endpoint
    request: Request
    deadline: Deadline


@dataclasses.dataclass(frozen=True, slots=True)
class Pause:
    """Wait."""

    duration_s: float


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    """Close the connections to a server that is no longer ours."""

    endpoint: Endpoint


Step: TypeAlias = Work | Send | Pause | Part
Flow: TypeAlias = "Generator[Step, Any, T]"
