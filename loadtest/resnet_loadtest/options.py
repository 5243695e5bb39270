"""The options, each written once: a field here is a flag, an environment variable and an argument.

``max_in_flight`` is the flag ``--max-in-flight`` and the variable ``RESNET_LOADTEST_MAX_IN_FLIGHT``; those
that say who is called keep the names that the client and ``resnet-serve`` have for them (``RESNET_URL``,
``RESNET_METRICS_URL``, ``RESNET_MODEL``, …). The one rule of precedence: argument > environment > default.
"""

from __future__ import annotations

import dataclasses
import math
import os
import re
import socket
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_loadtest.errors import UsageError
from resnet_loadtest.schedule import PROFILES

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Collection, Mapping

AUTO_RATE = math.inf

_SHARED = ("url", "grpc_url", "http_url", "metrics_url", "model", "timeout_s")
_SHORT = {"users": "-u", "spawn_rate": "-r", "duration_s": "-t"}
_TIME = re.compile(r"^(?P<number>[0-9.]+)(?P<unit>s|m|h|)$")
_LAST_PORT = 65535
_PORTS = {"grpc": 1, "http": 0, "metrics": 2}


def _rate(text: str) -> float:
    return AUTO_RATE if text.strip() == "auto" else _per_second(text)


def _per_second(text: str) -> float:
    number = float(text.strip().removesuffix("/s"))
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def _duration(text: str) -> float:
    found = _TIME.match(text.strip())
    seconds = float(found["number"]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found["unit"]] if found else 0.0
    if not 0 < seconds < math.inf:
        raise ValueError(text)
    return seconds


def _seconds(text: str) -> float:
    if not 0 <= (seconds := float(text)) < math.inf:
        raise ValueError(text)
    return seconds


def _number(text: str) -> int:
    if (number := int(text)) < 0:
        raise ValueError(text)
    return number


def _is_port(number: str | int) -> bool:
    return len(str(number)) <= len(str(_LAST_PORT)) and 0 < int(number) <= _LAST_PORT


def _port(text: str) -> int:
    if not _is_port(text):
        raise ValueError(text)
    return int(text)


def _positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError(text)
    return number


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(text)
        return text

    return parse


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


def _about(parse: Callable[[str], Any], description: str) -> dict[str, Any]:
    return {"parse": parse, "help": description}


@dataclasses.dataclass(frozen=True)
class Options:
    """What is asked of a run; the help texts say what each field means."""

    url: str = field(default="grpc://localhost:8001", metadata=_about(str, "server URL"))
    grpc_url: str | None = field(
        default=None, metadata=_about(str, "where gRPC users go, if --url is HTTP (default: its port + 1)")
    )
    http_url: str | None = field(
        default=None, metadata=_about(str, "where HTTP users go, if --url is gRPC (default: its port - 1)")
    )
    metrics_url: str | None = field(
        default=None, metadata=_about(str, "metrics endpoint (default: HTTP port + 2, /metrics)")
    )
    model: str = field(default="resnet50", metadata=_about(str, "name of the served model"))
    mix: str = field(
        default="ClassifyGrpc",
        metadata=_about(
            str,
            "who calls: ClassifyGrpc, ClassifyHttp, Mixed, Embed…, Batch…, Pixels…; several with weights: "
            "ClassifyGrpc=3,EmbedHttp=1",
        ),
    )
    batch: int = field(default=8, metadata=_about(_positive, "photos per request of Batch… users"))
    images: Path | None = field(
        default=None, metadata=_about(Path, "folder with photos (default: those that packages ship)")
    )
    profile: str = field(
        default="steady", metadata=_about(_one_of(*PROFILES), "course of the load: " + ", ".join(PROFILES))
    )
    duration_s: float | None = field(
        default=None, metadata=_about(_duration, "how long, such as 90s or 10m (default: the profile's)")
    )
    rate: float | None = field(
        default=None, metadata=_about(_rate, "open loop: requests per second, such as 20/s; auto measures capacity")
    )
    arrivals: str = field(
        default="poisson", metadata=_about(_one_of("poisson", "constant"), "open loop: poisson or constant gaps")
    )
    max_in_flight: int = field(
        default=256, metadata=_about(_positive, "open loop: more requests than this under way count as failed")
    )
    users: int | None = field(
        default=None, metadata=_about(_positive, "closed loop: users, each sending when it has its answer")
    )
    spawn_rate: float = field(default=100.0, metadata=_about(_per_second, "closed loop: users started per second"))
    seed: int = field(default=1, metadata=_about(_number, "of arrivals and of the choice of photos"))
    timeout_s: float = field(default=30.0, metadata=_about(_duration, "longest wait for one answer"))
    wait_s: float = field(default=0.0, metadata=_about(_duration, "wait as long for a server that is still starting"))
    warm_up_s: float = field(default=2.0, metadata=_about(_seconds, "seconds of requests before the clock starts"))
    slo: str = field(
        default="", metadata=_about(str, "objectives, such as p99<=150ms,error_rate<=0.1%%,throughput>=15/s")
    )
    slo_per: str = field(
        default="run", metadata=_about(_one_of("run", "stage"), "judge the whole run, or every stage of it")
    )
    shared_server: bool = field(
        default=False, metadata=_about(_yes, "others call the server, too: it may count more than the clients")
    )
    processes: int = field(
        default=0, metadata=_about(_number, "worker processes on this machine (default: this one sends by itself)")
    )
    expect_workers: int = field(
        default=0,
        metadata=_about(
            _workers,
            "worker processes that connect from elsewhere: how many, or dns:NAME for one per address of a name",
        ),
    )
    master_port: int = field(default=5557, metadata=_about(_port, "port for workers"))
    out: Path = field(default=Path("loadtest-results"), metadata=_about(Path, "folder for the reports"))
    name: str | None = field(default=None, metadata=_about(str, "name of the reports (default: profile and time)"))

    @property
    def is_open_loop(self) -> bool:
        """Whether requests are sent by a schedule."""
        return self.rate is not None

    @property
    def level(self) -> float:
        """Requests per second, or users."""
        return float(self.rate if self.rate is not None else self.users or 1)

    @property
    def worker_count(self) -> int:
        """Worker processes; 0 when this process does all itself."""
        return self.processes + self.expect_workers

    def url_for(self, kind: str) -> str:
        """The URL for ``"grpc"``, ``"http"`` or ``"metrics"``, where not given derived from ``url``."""
        given = {"grpc": self.grpc_url, "http": self.http_url, "metrics": self.metrics_url}[kind]
        if given:
            return given
        found = re.match(r"^(grpc|http)(s?)://(.*?)(?::([0-9]+))?/?$", self.url)
        if not found or not found[3] or (found[4] and not _is_port(found[4])):
            raise UsageError(f"{self.url!r} is no server URL; write grpc://HOST:8001 or http://HOST:8000")
        own, tls, host, port = found.groups()
        if own == kind:
            return self.url
        base = int(port or 8000 + _PORTS[own]) - _PORTS[own]
        if not _is_port(base + _PORTS[kind]):
            raise UsageError(f"{self.url!r} leaves no port for {kind}; say where it is with --{kind}-url")
        if kind == "metrics":
            return f"http://{host}:{base + _PORTS[kind]}/metrics"
        return f"{kind}{tls}://{host}:{base + _PORTS[kind]}"

    def check(self) -> Options:
        """Refuse what makes no sense together.

        Raises:
            UsageError: the message says what would.
        """
        if (self.rate is None) == (self.users is None):
            raise UsageError("choose one: --rate R (open loop) or --users N (closed loop)")
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


def add_to(parser: argparse.ArgumentParser, only: Collection[str] | None = None) -> None:
    """Declare the options, or some of them, as flags; what is not given stays None."""
    for option in dataclasses.fields(Options):
        if only is not None and option.name not in only:
            continue
        flags = [short] if (short := _SHORT.get(option.name)) else []
        flags.append("--" + option.name.replace("_", "-").removesuffix("-s"))
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
        UsageError: a value cannot be read; the message names the flag or variable.
    """
    environment = os.environ if environment is None else environment
    values: dict[str, Any] = {}
    for option in dataclasses.fields(Options):
        given = arguments.get(option.name)
        if given is not None:
            values[option.name] = _parsed(option, given, "--" + option.name.replace("_", "-"))
        elif text := environment.get(variable(option.name)):
            values[option.name] = _parsed(option, text, variable(option.name))
    return Options(**values)


def _parsed(option: dataclasses.Field[Any], given: Any, source: str) -> Any:
    if not isinstance(given, str):
        return given
    try:
        return option.metadata["parse"](given)
    except (ValueError, KeyError) as exc:
        about = option.metadata["help"].replace("%%", "%")
        raise UsageError(f"{source} {given!r} makes no sense; it is: {about}") from exc
