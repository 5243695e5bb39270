"""The options, each written once: a field here is a flag, an environment variable and an argument.

``max_in_flight`` is the flag ``--max-in-flight`` and the variable ``RESNET_LOADTEST_MAX_IN_FLIGHT``; those
that name the server keep the names that the client and ``resnet-serve`` have for them (``RESNET_URL``,
``RESNET_METRICS_URL``, ``RESNET_MODEL``, …). Precedence: argument > environment > default.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import re
import socket
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import field
from pathlib import Path
from typing import Any

from resnet_loadtest.errors import UsageError
from resnet_loadtest.schedule import PROFILES
from resnet_loadtest.slo import parse as parse_slo

AUTO_RATE = math.inf

_SHARED = ("url", "grpc_url", "http_url", "metrics_url", "model", "timeout_s")
_SHORT = {"users": "-u", "spawn_rate": "-r", "duration_s": "-t"}
_TIME = re.compile(r"^(?P<number>[0-9.]+)(?P<unit>s|m|h|)$")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600}
# The client takes URLs apart too, but is imported only after gevent has patched the standard library.
_URL = re.compile(r"^(grpc|http)(s?)://(.*?)(?::([0-9]+))?/?$")
_LAST_PORT = 65535
_PORTS = {"grpc": 1, "http": 0, "metrics": 2}


def _rate(text: str) -> float:
    return AUTO_RATE if text.strip() == "auto" else _per_second(text)


def _per_second(text: str) -> float:
    return _positive_float(float(text.strip().removesuffix("/s")))


def _duration(text: str) -> float:
    found = _TIME.match(text.strip())
    return _positive_float(float(found["number"]) * _UNIT_S[found["unit"]] if found else 0.0)


def _positive_float(number: float) -> float:
    if not 0 < number < math.inf:
        raise ValueError(number)
    return number


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < math.inf:
        raise ValueError(text)
    return seconds


def _number(text: str) -> int:
    return _within(text, 0)


def _positive(text: str) -> int:
    return _within(text, 1)


def _port(text: str) -> int:
    return _within(text, 1, _LAST_PORT)


def _within(text: str, lowest: int, highest: float = math.inf) -> int:
    if not lowest <= (number := int(text)) <= highest:
        raise ValueError(text)
    return number


def _workers(text: str) -> int:
    """A number, or as many as a name has addresses: in compose, the containers of a scaled service."""
    if not text.startswith("dns:"):
        return _number(text)
    try:
        found = socket.getaddrinfo(text.removeprefix("dns:"), None, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise ValueError(text) from exc
    return len({address for *_, address in found})


def _yes(text: str) -> bool:
    return {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}[text.lower()]


_EXPECTED = {
    _rate: "requests per second (20/s) or auto",
    _per_second: "a number per second, above 0",
    _duration: "a duration (90s or 10m)",
    _seconds: "seconds, 0 or more",
    _number: "a whole number, 0 or more",
    _positive: "a whole number, 1 or more",
    _port: "a port",
    _workers: "a whole number, or dns:NAME with a name that resolves",
    _yes: "yes or no",
}


def _option(default: Any, parse: Callable[[str], Any], description: str, choices: Iterable[str] = ()) -> Any:
    return field(default=default, metadata={"parse": parse, "help": description, "choices": tuple(choices)})


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a run; the help texts describe the fields."""

    url: str = _option("grpc://localhost:8001", str, "server URL")
    grpc_url: str | None = _option(None, str, "URL for gRPC users, if --url is HTTP (default: its port + 1)")
    http_url: str | None = _option(None, str, "URL for HTTP users, if --url is gRPC (default: its port - 1)")
    metrics_url: str | None = _option(None, str, "metrics endpoint (default: HTTP port + 2, /metrics)")
    model: str = _option("resnet50", str, "name of the served model")
    mix: str = _option(
        "ClassifyGrpc",
        str,
        "users: ClassifyGrpc, ClassifyHttp, Mixed, Embed…, Batch…, Pixels…; several with weights: "
        "ClassifyGrpc=3,EmbedHttp=1",
    )
    batch: int = _option(8, _positive, "images per request of Batch… users")
    images: Path | None = _option(None, Path, "folder with images (default: those that packages ship)")  # noqa: RUF009  # a field
    profile: str = _option("steady", str, "load over time: " + ", ".join(PROFILES), PROFILES)
    duration_s: float | None = _option(None, _duration, "how long, such as 90s or 10m (default: the profile's)")
    rate: float | None = _option(None, _rate, "open loop: requests per second, such as 20/s; auto measures capacity")
    arrivals: str = _option("poisson", str, "open loop: poisson or constant gaps", ("poisson", "constant"))
    max_in_flight: int = _option(256, _positive, "open loop: more requests in flight than this count as failed")
    users: int | None = _option(None, _positive, "closed loop: users, each sending when it has its response")
    spawn_rate: float = _option(100.0, _per_second, "closed loop: users started per second")
    seed: int = _option(1, _number, "seed of the arrivals and of the choice of images")
    timeout_s: float = _option(30.0, _duration, "longest wait for one response")
    wait_s: float = _option(0.0, _duration, "longest wait for a server that is still starting")
    warm_up_s: float = _option(2.0, _seconds, "seconds of requests before the clock starts")
    slo: str = _option("", str, "objectives, such as p99<=150ms,error_rate<=0.1%%,throughput>=15/s")
    slo_per: str = _option("run", str, "evaluate the whole run, or every stage of it", ("run", "stage"))
    shared_server: bool = _option(False, _yes, "other clients call the server too, so it may count more requests")
    processes: int = _option(0, _number, "worker processes on this machine (default: this process sends)")
    expect_workers: int = _option(
        0,
        _workers,
        "worker processes that connect from elsewhere: how many, or dns:NAME for one per address of a name",
    )
    master_port: int = _option(5557, _port, "port for workers")
    out: Path = _option(Path("loadtest-results"), Path, "folder for the reports")  # noqa: RUF009  # a field
    name: str | None = _option(None, str, "name of the reports (default: profile and time)")

    @property
    def is_open_loop(self) -> bool:
        """Whether requests are sent by a schedule."""
        return self.rate is not None

    @property
    def loop(self) -> str:
        """Open or closed loop, for reports."""
        return f"open loop, {self.arrivals} arrivals" if self.is_open_loop else "closed loop"

    @property
    def level(self) -> float:
        """Requests per second, or users."""
        return float(self.rate if self.rate is not None else self.users or 1)

    @property
    def worker_count(self) -> int:
        """Worker processes; 0 when this process sends."""
        return self.processes + self.expect_workers

    def url_for(self, kind: str) -> str:
        """The URL for ``"grpc"``, ``"http"`` or ``"metrics"``, where not given derived from ``url``."""
        given = {"grpc": self.grpc_url, "http": self.http_url, "metrics": self.metrics_url}[kind]
        if given:
            return given
        expected = f"invalid --url {self.url!r}: expected grpc://HOST:8001 or http://HOST:8000"
        if not (found := _URL.match(self.url)) or not found[3]:
            raise UsageError(expected)
        own, tls, host, port = found.groups()
        try:
            first = (_port(port) if port else 8000 + _PORTS[own]) - _PORTS[own]
        except ValueError as exc:
            raise UsageError(expected) from exc
        if own == kind:
            return self.url
        if not 0 < first + _PORTS[kind] <= _LAST_PORT:
            raise UsageError(f"--url {self.url!r} leaves no port for {kind}; add --{kind}-url")
        if kind == "metrics":
            return f"http://{host}:{first + _PORTS[kind]}/metrics"
        return f"{kind}{tls}://{host}:{first + _PORTS[kind]}"

    def check(self) -> Options:
        """Validate the objectives and options that depend on each other.

        Raises:
            UsageError: the message says what is expected.
        """
        if (self.rate is None) == (self.users is None):
            raise UsageError("expected one of --rate R (open loop) or --users N (closed loop)")
        parse_slo(self.slo)
        self.url_for("metrics")
        return self

    def to_dict(self) -> dict[str, Any]:
        """For workers and reports, ready for JSON."""
        plain = {name: str(value) if isinstance(value, Path) else value for name, value in vars(self).items()}
        return dict(sorted(plain.items()))

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Options:
        """Read what :meth:`to_dict` wrote."""
        paths = {name: Path(plain[name]) for name in ("images", "out") if plain.get(name) is not None}
        return cls(**{**plain, **paths})


def variable(name: str) -> str:
    """``max_in_flight`` → ``RESNET_LOADTEST_MAX_IN_FLIGHT``."""
    return f"RESNET_{name.upper()}" if name in _SHARED else f"RESNET_LOADTEST_{name.upper()}"


def _flag(name: str) -> str:
    return "--" + name.removesuffix("_s").replace("_", "-")


def add_to(parser: argparse.ArgumentParser, only: Collection[str] | None = None) -> None:
    """Declare the options, or some of them, as flags; what is not given stays None."""
    for option in dataclasses.fields(Options):
        if only is not None and option.name not in only:
            continue
        flags = [short] if (short := _SHORT.get(option.name)) else []
        flags.append(_flag(option.name))
        default = (
            ""
            if option.default in (None, "", False) or "default" in option.metadata["help"]
            else f"; default: {option.default}"
        )
        about = f"{option.metadata['help']} [{variable(option.name)}{default}]"
        if option.default is False:
            parser.add_argument(*flags, dest=option.name, action="store_true", default=None, help=about)
        else:
            metavar = option.name.upper().removesuffix("_S")
            parser.add_argument(*flags, dest=option.name, metavar=metavar, default=None, help=about)


def resolve(arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> Options:
    """Combine the sources: argument (unless None) > environment (unless empty) > default.

    Raises:
        UsageError: a value is not valid; the message names the flag or variable.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for option in dataclasses.fields(Options):
        given = arguments.get(option.name)
        if given is not None:
            values[option.name] = _parsed(option, given, _flag(option.name))
        elif text := environment.get(variable(option.name)):
            values[option.name] = _parsed(option, text, variable(option.name))
    return Options(**values)


def _parsed(option: dataclasses.Field[Any], given: Any, source: str) -> Any:
    if not isinstance(given, str):
        return given
    parse, choices = option.metadata["parse"], option.metadata["choices"]
    try:
        value = parse(given)
    except (ValueError, LookupError) as exc:
        raise UsageError(f"invalid {source} {given!r}: expected {_EXPECTED[parse]}") from exc
    if choices and value not in choices:
        raise UsageError(f"invalid {source} {given!r}: expected {', '.join(choices[:-1])} or {choices[-1]}")
    return value
