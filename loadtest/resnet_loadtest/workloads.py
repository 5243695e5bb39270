"""The kinds of requests: protocol, method of the client and number of images."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re
from collections.abc import Sequence

import resnet_client as rc
from resnet_client import Client, ImageSource

from resnet_loadtest.errors import UsageError
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Status

_WEIGHT = re.compile(r"[1-9][0-9]{0,5}")

# The first match decides.
_STATUSES: dict[type[Exception] | tuple[type[Exception], ...], Status] = {
    rc.OverloadedError: Status.OVERLOADED,
    rc.DeadlineExceededError: Status.DEADLINE,
    (rc.UnavailableError, rc.ClosedError): Status.UNAVAILABLE,
    rc.ImageError: Status.INVALID_IMAGE,
    (rc.RequestError, rc.ModelNotFoundError): Status.REFUSED,
    rc.ResnetClientError: Status.SERVER_FAILED,
}


@dataclasses.dataclass(frozen=True)
class Result:
    """The result of a request.

    Attributes:
        answered: images answered.
        failed: images not answered.
        error: the first failure; None if there was none.
    """

    answered: int
    failed: int
    error: rc.ResnetClientError | None = None

    @property
    def status(self) -> Status:
        """For the samples: that of the first failure."""
        return next((status for kind, status in _STATUSES.items() if isinstance(self.error, kind)), Status.OK)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A kind of request.

    Attributes:
        operation: ``"classify"``, ``"embed"``, ``"batch"`` or ``"pixels"``.
        protocol: ``"grpc"`` or ``"http"``.
    """

    operation: str
    protocol: str

    @property
    def name(self) -> str:
        """Also that of its Locust user, such as ``ClassifyGrpc``."""
        return self.operation.capitalize() + self.protocol.capitalize()

    @property
    def sends_pixels(self) -> bool:
        """Whether the client crops images, so that the network is called without ``preprocess``."""
        return self.operation == "pixels"

    def images_per_request(self, batch: int) -> int:
        """How many images one request holds."""
        return batch if self.operation == "batch" else 1

    def perform(self, client: Client, images: Sequence[ImageSource]) -> Result:
        """Send one request and wait for its response; a failure is a result. A batch ends with its last image."""
        try:
            if self.operation == "batch":
                outcomes = list(client.classify_many(images, max_in_flight=len(images)))
                errors = [outcome.error for outcome in outcomes if outcome.error is not None]
                return Result(len(outcomes) - len(errors), len(errors), errors[0] if errors else None)
            if self.operation == "embed":
                client.embed(images[0])
            else:
                client.classify(images[0], preprocessing="client" if self.sends_pixels else "server")
        except rc.ResnetClientError as exc:
            return Result(0, len(images), exc)
        return Result(1, 0)


WORKLOADS = {
    each.name: each
    for each in itertools.starmap(
        Workload, itertools.product(("classify", "embed", "batch", "pixels"), ("grpc", "http"))
    )
}


def parse_mix(text: str) -> dict[str, int]:
    """Read ``ClassifyGrpc=3,ClassifyHttp``: users and their weights.

    Raises:
        UsageError: a user or a weight is invalid.
    """
    mix: collections.Counter[str] = collections.Counter()
    for part in text.split(","):
        name, _, weight = part.strip().partition("=")
        if name not in WORKLOADS or not _WEIGHT.fullmatch(weight or "1"):
            known = ", ".join(WORKLOADS)
            raise UsageError(f"invalid --mix {part.strip()!r}: expected {known}, each with =WEIGHT")
        mix[name] += int(weight or 1)
    return mix


def protocols(mix: str) -> list[str]:
    """The protocols of a mix, sorted.

    Raises:
        UsageError: the mix is invalid.
    """
    return sorted({WORKLOADS[name].protocol for name in parse_mix(mix)})


def addresses(options: Options) -> str:
    """The URLs that the users of the mix call, one per protocol.

    Raises:
        UsageError: the mix or the server's URL is invalid.
    """
    return " and ".join(options.url_for(protocol) for protocol in protocols(options.mix))
