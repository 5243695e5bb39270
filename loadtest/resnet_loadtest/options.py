"""The options, each declared once: a field is a flag, an environment variable and an argument.

``max_in_flight`` is the flag ``--max-in-flight`` and the variable ``RESNET_LOADTEST_MAX_IN_FLIGHT``; those
of the server have the same variables as in ``resnet-client`` and ``resnet-serve`` (``RESNET_URL``,
``RESNET_METRICS_URL``, ``RESNET_MODEL``, …). Precedence: argument > environment > default.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import socket
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from resnet_loadtest.errors import UsageError
from resnet_loadtest.schedule import PROFILES
from resnet_loadtest.slo import parse as parse_slo

AUTO_RATE = math.inf

_DERIVED = ("grpc_url", "http_url", "metrics_url")
_SHARED = ("url", *_DERIVED, "model", "timeout_s")
_SERVER = ("url", *_DERIVED, "timeout_s", "wait_s")
_SHORT = {"users": ["-u"], "spawn_rate": ["-r"], "duration_s": ["-t"]}
_FLAGS = {"duration_s": "--duration"}  # its value has a unit, like that of Locust's --run-time
_UNIT_S = {"s": 1, "m": 60, "h": 3600}
_YES_OR_NO = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
_PORTS = {"http": 0, "grpc": 1, "metrics": 2}
_LAST_PORT = 65535


class Kind(NamedTuple):
    """What an option's text stands for; `parse` raises ValueError or LookupError if it is not as expected."""

    parse: Callable[[str], Any]
    metavar: str
    expected: str = ""


def _number(
    convert: Callable[[str], float], lowest: float, metavar: str, expected: str, highest: float = sys.float_info.max
) -> Kind:
    def parse(text: str) -> float:
        if not lowest <= (number := convert(text)) <= highest:
            raise ValueError(text)
        return number

    return Kind(parse, metavar, expected)


def _choice(names: Iterable[str]) -> Kind:
    *first, last = names
    known = {name: name for name in (*first, last)}
    return Kind(known.__getitem__, f"{{{','.join(known)}}}", f"{', '.join(first)} or {last}")


def _rate(text: str) -> float:
    return AUTO_RATE if text == "auto" else float(POSITIVE.parse(text.removesuffix("/s")))


def _duration(text: str) -> float:
    number, unit = (text[:-1], text[-1]) if text[-1:] in _UNIT_S else (text, "s")
    return float(POSITIVE.parse(str(float(number) * _UNIT_S[unit])))


def _workers(text: str) -> int:
    """A number, or ``dns:NAME`` for the number of addresses of a name: in compose, the containers of a service."""
    if not text.startswith("dns:"):
        return int(_WHOLE.parse(text))
    try:
        found = socket.getaddrinfo(text.removeprefix("dns:"), None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise ValueError(text) from exc
    return len({address for *_, address in found})


_URL, _NAME, _FOLDER = Kind(str, "URL"), Kind(str, "NAME"), Kind(Path, "FOLDER")
POSITIVE = _number(float, math.nextafter(0, 1), "N", "a number above 0")
TIMEOUT = POSITIVE._replace(metavar="SECONDS")
_SECONDS = _number(float, 0, "SECONDS", "seconds, 0 or more")
_WHOLE = _number(int, 0, "N", "a whole number, 0 or more")
COUNT = _number(int, 1, "N", "a whole number, 1 or more")
PORT = _number(int, 1, "PORT", "a port number", _LAST_PORT)
_RATE = Kind(_rate, "RATE", "requests per second (20/s) or auto")
_DURATION = Kind(_duration, "TIME", "a duration (90s or 10m)")
_WORKERS = Kind(_workers, "N", "a whole number, or dns:NAME with a name that resolves")
_YES = Kind(_YES_OR_NO.__getitem__, "", "yes or no")


def _option(default: Any, kind: Kind, description: str) -> Any:
    return dataclasses.field(default=default, metadata={"kind": kind, "help": description})


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a run; the help texts describe the fields."""

    url: str = _option("grpc://localhost:8001", _URL, "Server URL")
    grpc_url: str | None = _option(None, _URL, "URL for gRPC users, if --url is HTTP (default: its port + 1)")
    http_url: str | None = _option(None, _URL, "URL for HTTP users, if --url is gRPC (default: its port - 1)")
    metrics_url: str | None = _option(None, _URL, "Metrics endpoint (default: HTTP port + 2, /metrics)")
    model: str = _option("resnet50", _NAME, "Model to use")
    mix: str = _option(
        "ClassifyGrpc",
        Kind(str, "USERS"),
        "Locust user classes with optional weights, such as ClassifyGrpc=3,EmbedHttp=1. A name is a task (Classify, "
        "Embed, or Pixels, which the client crops) and a protocol (Grpc, Http)",
    )
    images: Path | None = _option(None, _FOLDER, "Folder with images (default: images from installed packages)")  # noqa: RUF009  # a field
    profile: str = _option(
        "steady", _choice(PROFILES), "Load over time: constant, rising, in steps, with a peak, or long"
    )
    duration_s: float | None = _option(None, _DURATION, "Duration, such as 90s or 10m (default: set by the profile)")
    rate: float | None = _option(None, _RATE, "Open loop: requests per second, such as 20/s, or auto: the capacity")
    arrivals: str = _option("poisson", _choice(("poisson", "constant")), "Open loop: distribution of arrivals")
    max_in_flight: int = _option(256, COUNT, "Open loop: most requests in flight; further ones count as failed")
    users: int | None = _option(None, COUNT, "Closed loop: users, each of which waits for its response")
    spawn_rate: float = _option(100.0, POSITIVE, "Closed loop: users started per second")
    seed: int = _option(1, _WHOLE, "Seed of arrivals and image order")
    timeout_s: float = _option(30.0, TIMEOUT, "Timeout of a request")
    wait_s: float = _option(0.0, _SECONDS, "How long to wait for a server that starts")
    warm_up_s: float = _option(2.0, _SECONDS, "Warm-up before the measurement")
    slo: str = _option("", Kind(str, "SLO"), "Objectives, such as p99<=150ms,error_rate<=0.1%%,throughput>=15/s")
    slo_per: str = _option("run", _choice(("run", "stage")), "Evaluate objectives for the whole run or for every stage")
    shared_server: bool = _option(False, _YES, "Accept other clients of the server; else they make the run INVALID")
    processes: int = _option(0, _WHOLE, "Worker processes on this machine (default: 0, this process sends)")
    expect_workers: int = _option(0, _WORKERS, "Workers on other machines; dns:NAME for one per IP address of NAME")
    master_port: int = _option(5557, PORT, "Port for workers")
    out: Path = _option(Path("loadtest-results"), _FOLDER, "Folder for reports")  # noqa: RUF009  # a field
    name: str | None = _option(None, _NAME, "Name of the reports (default: profile or command, and time)")

    @property
    def is_open_loop(self) -> bool:
        """Whether requests are sent on a schedule."""
        return self.rate is not None

    @property
    def loop(self) -> str:
        """Open or closed loop, for reports."""
        return f"open loop, {self.arrivals} arrivals" if self.is_open_loop else "closed loop"

    @property
    def level(self) -> float:
        """Requests per second, or users."""
        return float(self.rate if self.rate is not None else self.users or 1)

    def url_for(self, kind: str) -> str:
        """The URL for ``"grpc"``, ``"http"`` or ``"metrics"``; derived from ``url`` if not given.

        Raises:
            UsageError: ``url`` is invalid, or no port can be derived from its port.
        """
        from resnet_client import ConfigurationError  # not before gevent has patched
        from resnet_client.endpoints import Endpoint, bracketed

        try:
            known = Endpoint.parse(self.url)
        except ConfigurationError as exc:
            raise UsageError(str(exc)) from exc
        own = "grpc" if known.is_grpc else "http"
        if own == kind:
            return self.url
        if given := {"grpc": self.grpc_url, "http": self.http_url, "metrics": self.metrics_url}[kind]:
            return given
        port = known.port + _PORTS[kind] - _PORTS[own]
        if not 0 < port <= _LAST_PORT:
            raise UsageError(f"no default for --{kind}-url: {port}, derived from {self.url}, is not a port; set it")
        if kind == "metrics":
            return f"http://{bracketed(known.host)}:{port}/metrics"
        return str(dataclasses.replace(known, scheme=f"{kind}s" if known.is_tls else kind, port=port, path=""))

    def at(self, url: str) -> Options:
        """The same options for another server."""
        if url == self.url:
            return self
        return dataclasses.replace(self, url=url, grpc_url=None, http_url=None, metrics_url=None)

    def check(self) -> Options:
        """Validate the objectives and options that depend on each other.

        Raises:
            UsageError: the message names what is expected.
        """
        if (self.rate is None) == (self.users is None):
            raise UsageError("expected either --rate RATE (open loop) or --users N (closed loop)")
        parse_slo(self.slo)
        return self

    def to_dict(self) -> dict[str, Any]:
        """The options for workers and reports, ready for JSON; :func:`resolve` reads them."""
        return {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}


def variable(name: str) -> str:
    """``max_in_flight`` → ``RESNET_LOADTEST_MAX_IN_FLIGHT``."""
    return f"RESNET_{name.upper()}" if name in _SHARED else f"RESNET_LOADTEST_{name.upper()}"


def _flag(name: str) -> str:
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def add_to(parser: argparse.ArgumentParser, only: Collection[str] | None = None) -> None:
    """Add the options, or some of them, as flags; an option that is not given is None."""
    server = parser.add_argument_group("server")
    for option in dataclasses.fields(Options):
        if only is not None and option.name not in only:
            continue
        kind, description = option.metadata["kind"], option.metadata["help"]
        is_shown = option.default not in (None, "", False) and "default" not in description
        about = f"{description} [{variable(option.name)}{f'; default: {option.default}' if is_shown else ''}]"
        target = server if option.name in _SERVER else parser
        more = {"action": "store_true"} if option.default is False else {"metavar": kind.metavar}
        flags = [*_SHORT.get(option.name, []), _flag(option.name)]
        target.add_argument(*flags, dest=option.name, default=None, help=about, **more)


def resolve(arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Options:
    """Combine the sources: argument (unless None) > environment (unless empty) > default.

    The other addresses in the environment belong to the server of ``RESNET_URL``, not to one given as argument.

    Raises:
        UsageError: a value is invalid; the message names the flag or variable.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    url, known = arguments.get("url"), environment.get(variable("url"))
    left_out = _DERIVED if url and known and url != known else ()
    for option in dataclasses.fields(Options):
        given = arguments.get(option.name)
        if given is not None:
            values[option.name] = _parsed(option, given, _flag(option.name))
        elif option.name not in left_out and (text := environment.get(variable(option.name))):
            values[option.name] = _parsed(option, text, variable(option.name))
    return Options(**values)


def _parsed(option: dataclasses.Field[Any], given: Any, source: str) -> Any:
    kind = option.metadata["kind"]
    try:
        return kind.parse(given.strip()) if isinstance(given, str) else given
    except (ValueError, LookupError) as exc:
        raise UsageError(f"invalid {source} {given!r}: expected {kind.expected}") from exc
