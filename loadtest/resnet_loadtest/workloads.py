"""The kinds of requests: protocol and method of the client."""

from __future__ import annotations

import collections
import dataclasses
import itertools
import re

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


def status_of(error: Exception | None) -> Status:
    """How a request ended, for the samples."""
    return next((status for kind, status in _STATUSES.items() if isinstance(error, kind)), Status.OK)


@dataclasses.dataclass(frozen=True)
class Workload:
    """A kind of request.

    Attributes:
        operation: ``"classify"``, ``"embed"`` or ``"pixels"``.
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

    def perform(self, client: Client, image: ImageSource) -> rc.ResnetClientError | None:
        """Send one request and wait for its response; return the failure, if it failed."""
        try:
            if self.operation == "embed":
                client.embed(image)
            else:
                client.classify(image, preprocessing="client" if self.sends_pixels else "server")
        except rc.ResnetClientError as exc:
            return exc
        return None


WORKLOADS = {
    each.name: each
    for each in itertools.starmap(Workload, itertools.product(("classify", "embed", "pixels"), ("grpc", "http")))
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
