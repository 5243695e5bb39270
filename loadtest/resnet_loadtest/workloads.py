"""What one request is: which protocol, which method of the client, how many photos."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING

import resnet_client as rc

from resnet_loadtest.errors import UsageError
from resnet_loadtest.samples import Fate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_client import Client, ImageSource

    from resnet_loadtest.options import Options

PROTOCOLS = ("grpc", "http")
_WEIGHT = re.compile(r"[1-9][0-9]{0,5}")
_MIXED = ("ClassifyGrpc", "ClassifyHttp")

# The first that fits decides.
_FATES: tuple[tuple[type[Exception], Fate], ...] = (
    (rc.OverloadedError, Fate.OVERLOADED),
    (rc.DeadlineExceededError, Fate.DEADLINE),
    (rc.UnavailableError, Fate.UNAVAILABLE),
    (rc.ClosedError, Fate.UNAVAILABLE),
    (rc.ImageError, Fate.BAD_PHOTO),
    (rc.RequestError, Fate.REFUSED),
    (rc.ModelNotFoundError, Fate.REFUSED),
    (rc.ResnetClientError, Fate.SERVER_FAILED),
)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A kind of request.

    Attributes:
        name: also that of its Locust user, such as ``ClassifyGrpc``.
        protocol: ``"grpc"`` or ``"http"``.
        operation: ``"classify"``, ``"embed"``, ``"batch"`` or ``"pixels"``.
    """

    name: str
    protocol: str
    operation: str

    @property
    def sends_pixels(self) -> bool:
        """Whether photos are cropped here, so that the network is called without ``preprocess``."""
        return self.operation == "pixels"

    def photos_per_request(self, batch: int) -> int:
        """How many photos one request holds."""
        return batch if self.operation == "batch" else 1

    def perform(self, client: Client, images: Sequence[ImageSource]) -> Result:
        """Send one request and wait for its answer; failures are results."""
        if self.operation == "batch":
            return _batch(client, images)
        try:
            if self.operation == "embed":
                client.embed(images[0])
            else:
                client.classify(images[0], preprocessing="client" if self.sends_pixels else "server")
        except rc.ResnetClientError as exc:
            return Result(fate_of(exc), 0, 1, exc)
        return Result(Fate.OK, 1, 0)


@dataclasses.dataclass(frozen=True)
class Result:
    """How a request ended.

    Attributes:
        fate: for the record.
        answered: photos answered.
        failed: photos that were not.
        error: the first failure.
    """

    fate: Fate
    answered: int
    failed: int
    error: rc.ResnetClientError | None = None


WORKLOADS = {
    f"{operation.capitalize()}{protocol.capitalize()}": Workload(
        f"{operation.capitalize()}{protocol.capitalize()}", protocol, operation
    )
    for operation in ("classify", "embed", "batch", "pixels")
    for protocol in PROTOCOLS
}


def parse_mix(text: str) -> dict[str, int]:
    """Read ``ClassifyGrpc=3,ClassifyHttp``: users and their weights; ``Mixed`` is both protocols.

    Raises:
        UsageError: it names no user, or a weight that is none.
    """
    mix: dict[str, int] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        names = _MIXED if name == "Mixed" else (name,)
        if not WORKLOADS.keys() >= set(names) or not _WEIGHT.fullmatch(weight or "1"):
            known = ", ".join(WORKLOADS)
            raise UsageError(f"{part.strip()!r} is no user; known are {known} and Mixed, each with =WEIGHT")
        for each in names:
            mix[each] = mix.get(each, 0) + int(weight or 1)
    return mix


def addresses(options: Options) -> str:
    """Where the users of the mix go: one address, or one for each of their protocols.

    Raises:
        UsageError: the mix or the server's URL is none.
    """
    protocols = sorted({WORKLOADS[name].protocol for name in parse_mix(options.mix)})
    return " and ".join(options.url_for(protocol) for protocol in protocols)


def fate_of(error: Exception) -> Fate:
    """What an error of the client's is called here."""
    return next(fate for kind, fate in _FATES if isinstance(error, kind))


def _batch(client: Client, images: Sequence[ImageSource]) -> Result:
    """All photos at once; the request ends with its last photo and fails with its first failure."""
    try:
        outcomes = list(client.classify_many(images, max_in_flight=len(images)))
    except rc.ResnetClientError as exc:
        return Result(fate_of(exc), 0, len(images), exc)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    fate = fate_of(errors[0]) if errors else Fate.OK
    return Result(fate, len(outcomes) - len(errors), len(errors), errors[0] if errors else None)
