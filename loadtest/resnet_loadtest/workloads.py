"""The kinds of requests: protocol, method of the client and number of images."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Sequence

import resnet_client as rc
from resnet_client import Client, ImageSource

from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Status

PROTOCOLS = ("grpc", "http")
_WEIGHT = re.compile(r"[1-9][0-9]{0,5}")
_MIXED = ("ClassifyGrpc", "ClassifyHttp")

# The first match decides.
_STATUSES: tuple[tuple[type[Exception], Status], ...] = (
    (rc.OverloadedError, Status.OVERLOADED),
    (rc.DeadlineExceededError, Status.DEADLINE),
    (rc.UnavailableError, Status.UNAVAILABLE),
    (rc.ClosedError, Status.UNAVAILABLE),
    (rc.ImageError, Status.INVALID_IMAGE),
    (rc.RequestError, Status.REFUSED),
    (rc.ModelNotFoundError, Status.REFUSED),
    (rc.ResnetClientError, Status.SERVER_FAILED),
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
        """Whether the client crops images, so that the network is called without ``preprocess``."""
        return self.operation == "pixels"

    def images_per_request(self, batch: int) -> int:
        """How many images one request holds."""
        return batch if self.operation == "batch" else 1

    def perform(self, client: Client, images: Sequence[ImageSource]) -> Result:
        """Send one request and wait for its response; a failure is a result."""
        if self.operation == "batch":
            return _batch(client, images)
        try:
            if self.operation == "embed":
                client.embed(images[0])
            else:
                client.classify(images[0], preprocessing="client" if self.sends_pixels else "server")
        except rc.ResnetClientError as exc:
            return Result(status_of(exc), 0, 1, exc)
        return Result(Status.OK, 1, 0)


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a request.

    Attributes:
        status: for the samples.
        answered: images answered.
        failed: images not answered.
        error: the first failure.
    """

    status: Status
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
        UsageError: a user or a weight is invalid.
    """
    mix: dict[str, int] = {}
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        names = _MIXED if name == "Mixed" else (name,)
        if not WORKLOADS.keys() >= set(names) or not _WEIGHT.fullmatch(weight or "1"):
            known = ", ".join(WORKLOADS)
            raise UsageError(f"invalid --mix {part.strip()!r}: expected {known} or Mixed, each with =WEIGHT")
        for each in names:
            mix[each] = mix.get(each, 0) + int(weight or 1)
    return mix


def addresses(options: Options) -> str:
    """The URLs that the users of the mix call, one per protocol.

    Raises:
        UsageError: the mix or the server's URL is invalid.
    """
    protocols = sorted({WORKLOADS[name].protocol for name in parse_mix(options.mix)})
    return " and ".join(options.url_for(protocol) for protocol in protocols)


def status_of(error: Exception) -> Status:
    """The status for an error of the client."""
    return next(status for kind, status in _STATUSES if isinstance(error, kind))


def _batch(client: Client, images: Sequence[ImageSource]) -> Result:
    """Send all images at once; the request ends with its last image and has the status of its first failure."""
    try:
        outcomes = list(client.classify_many(images, max_in_flight=len(images)))
    except rc.ResnetClientError as exc:
        return Result(status_of(exc), 0, len(images), exc)
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    status = status_of(errors[0]) if errors else Status.OK
    return Result(status, len(outcomes) - len(errors), len(errors), errors[0] if errors else None)
