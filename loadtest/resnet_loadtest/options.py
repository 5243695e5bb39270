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
_DERIVED = ("grpc_url", "http_url", "metrics_url")
_SERVER = ("url", "grpc_url", "http_url", "metrics_url", "timeout_s", "wait_s")
_SHORT = {"users": "-u", "spawn_rate": "-r", "duration_s": "-t"}
_FLAGS = {"duration_s": "--duration"}  # its value has a unit, like that of Locust's --run-time
_TIME = re.compile(r"^(?P<number>[0-9.]+)(?P<unit>s|m|h|)$")
_UNIT_S = {"": 1, "s": 1, "m": 60, "h": 3600}
# The client parses URLs too, but is imported only after gevent has patched the standard library.
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


def _timeout(text: str) -> float:
    return _positive_float(float(text))


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
    """A number, or ``dns:NAME`` for the number of addresses of a name: in compose, the containers of a service."""
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
    _per_second: "a number above 0",
    _duration: "a duration (90s or 10m)",
    _timeout: "seconds, above 0",
    _seconds: "seconds, 0 or more",
    _number: "a whole number, 0 or more",
    _positive: "a whole number, 1 or more",
    _port: "a port number",
    _workers: "a whole number, or dns:NAME with a name that resolves",
    _yes: "yes or no",
}


def _option(
    default: Any, parse: Callable[[str], Any], metavar: str, description: str, choices: Iterable[str] = ()
) -> Any:
    choices = tuple(choices)
    metavar = f"{{{','.join(choices)}}}" if choices else metavar
    metadata = {"parse": parse, "metavar": metavar, "help": description, "choices": choices}
    return field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class Options:
    """The options of a run; the help texts describe the fields."""

    url: str = _option("grpc://localhost:8001", str, "URL", "Server URL")
    grpc_url: str | None = _option(None, str, "URL", "URL for gRPC users, if --url is HTTP (default: its port + 1)")
    http_url: str | None = _option(None, str, "URL", "URL for HTTP users, if --url is gRPC (default: its port - 1)")
    metrics_url: str | None = _option(None, str, "URL", "Metrics endpoint (default: HTTP port + 2, /metrics)")
    model: str = _option("resnet50", str, "NAME", "Model to use")
    mix: str = _option(
        "ClassifyGrpc",
        str,
        "USERS",
        "Locust user classes with optional weights, such as ClassifyGrpc=3,EmbedHttp=1. A name is a task (Classify, "
        "Embed, Batch, or Pixels, which the client crops) and a protocol (Grpc, Http). Mixed is both of Classify",
    )
    batch: int = _option(8, _positive, "N", "Images per request of Batch… users")
    images: Path | None = _option(None, Path, "FOLDER", "Folder with images (default: images from installed packages)")  # noqa: RUF009  # a field
    profile: str = _option(
        "steady",
        str,
        "",
        "Load over time: constant (steady, 60 s; soak, 600 s), 0 to 100%% (ramp), in 5 steps, or with a peak (spike)",
        PROFILES,
    )
    duration_s: float | None = _option(
        None, _duration, "TIME", "Duration, such as 90s or 10m (default: set by the profile)"
    )
    rate: float | None = _option(
        None,
        _rate,
        "RATE",
        "Open loop: send on a schedule, whatever the response times; give either --rate or --users. Requests per "
        "second, such as 20/s, or auto for the measured capacity",
    )
    arrivals: str = _option("poisson", str, "", "Open loop: distribution of arrivals", ("poisson", "constant"))
    max_in_flight: int = _option(
        256,
        _positive,
        "N",
        "Open loop: limit on unanswered requests; at the limit, further requests are not sent and count as failed",
    )
    users: int | None = _option(None, _positive, "N", "Closed loop: users, each of which waits for its response")
    spawn_rate: float = _option(100.0, _per_second, "N", "Closed loop: users started per second")
    seed: int = _option(1, _number, "N", "Seed of arrivals and image order")
    timeout_s: float = _option(30.0, _timeout, "SECONDS", "Timeout of a request")
    wait_s: float = _option(0.0, _seconds, "SECONDS", "How long to wait for a server that starts")
    warm_up_s: float = _option(2.0, _seconds, "SECONDS", "Warm-up before the measurement")
    slo: str = _option("", str, "SLO", "Objectives, such as p99<=150ms,error_rate<=0.1%%,throughput>=15/s")
    slo_per: str = _option("run", str, "", "Evaluate objectives for the whole run or for every stage", ("run", "stage"))
    shared_server: bool = _option(
        False, _yes, "", "Accept that other clients use the server during the run; otherwise the run is INVALID"
    )
    processes: int = _option(
        0, _number, "N", "Worker processes on this machine (default: 0, requests are sent by this process)"
    )
    expect_workers: int = _option(
        0,
        _workers,
        "N",
        "Worker processes that connect from other machines: a number, or dns:NAME for as many workers as NAME has IP "
        "addresses in DNS",
    )
    master_port: int = _option(5557, _port, "PORT", "Port for workers")
    out: Path = _option(Path("loadtest-results"), Path, "FOLDER", "Folder for reports")  # noqa: RUF009  # a field
    name: str | None = _option(None, str, "NAME", "Name of the reports (default: profile or command, and time)")

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

    @property
    def worker_count(self) -> int:
        """Worker processes; 0 when this process sends."""
        return self.processes + self.expect_workers

    def url_for(self, kind: str) -> str:
        """The URL for ``"grpc"``, ``"http"`` or ``"metrics"``; derived from ``url`` if not given."""
        given = {"grpc": self.grpc_url, "http": self.http_url, "metrics": self.metrics_url}[kind]
        if given and not self.url.startswith(kind):
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
            derived = first + _PORTS[kind]
            raise UsageError(
                f"no default for --{kind}-url: the port derived from --url {self.url!r}, {derived}, is not between 1 "
                f"and {_LAST_PORT}; set --{kind}-url"
            )
        if kind == "metrics":
            return f"http://{host}:{first + _PORTS[kind]}/metrics"
        return f"{kind}{tls}://{host}:{first + _PORTS[kind]}"

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
        self.url_for("metrics")
        return self

    def to_dict(self) -> dict[str, Any]:
        """The options for workers and reports, ready for JSON."""
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
    return _FLAGS.get(name, "--" + name.replace("_", "-"))


def add_to(parser: argparse.ArgumentParser, only: Collection[str] | None = None) -> None:
    """Add the options, or some of them, as flags; an option that is not given is None."""
    server = parser.add_argument_group("server")
    for option in dataclasses.fields(Options):
        if only is not None and option.name not in only:
            continue
        target = server if option.name in _SERVER else parser
        flags = [short] if (short := _SHORT.get(option.name)) else []
        flags.append(_flag(option.name))
        default = (
            ""
            if option.default in (None, "", False) or "default" in option.metadata["help"]
            else f"; default: {option.default}"
        )
        about = f"{option.metadata['help']} [{variable(option.name)}{default}]"
        if option.default is False:
            target.add_argument(*flags, dest=option.name, action="store_true", default=None, help=about)
        else:
            metavar = option.metadata["metavar"]
            target.add_argument(*flags, dest=option.name, metavar=metavar, default=None, help=about)


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
