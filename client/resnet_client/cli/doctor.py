"""``resnet-client doctor``: what is wrong or slow about a live server, and what to do."""

from __future__ import annotations

import dataclasses
import http.client
import json
import os
import sys
import urllib.request
from contextlib import ExitStack
from typing import TYPE_CHECKING

from resnet_client import _doctor
from resnet_client._doctor._access import is_loopback
from resnet_client.cli.exit_codes import ExitCode
from resnet_client.client import connect
from resnet_client.config import ClientConfig, environment_name
from resnet_client.errors import ConfigurationError

if TYPE_CHECKING:
    import argparse

    from resnet_client._doctor import Examination
    from resnet_client._doctor._collect import Ask
    from resnet_client.endpoints import Endpoint

NAME = "doctor"
HELP = "what is wrong or slow about a server, each with cause and remedy"

_METRICS_TIMEOUT_S = 5.0
_METRICS_VARIABLE = environment_name("metrics_url")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Where to look, what to leave out, for people or for programs."""
    parser.add_argument("where", nargs="?", metavar="URL", help="the same as --url")
    parser.add_argument(
        "--metrics-url",
        metavar="URL",
        help=f"metrics endpoint, or none [{_METRICS_VARIABLE}; default: port + 1 for gRPC, + 2 for HTTP, /metrics]",
    )
    parser.add_argument(
        "--cores", type=int, metavar="N", help="CPU cores of the server (default: this machine's, if it is local)"
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="CHECK",
        choices=[check.name for check in _doctor.CHECKS],
        help="leave a check out; may be repeated",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object")


def run(options: argparse.Namespace) -> ExitCode:
    """Look, check, show."""
    config = _config(options)
    examination = _doctor.examine(_look(config, options), ignored=options.ignore)
    if options.json:
        sys.stdout.write(json.dumps(dataclasses.asdict(examination), indent=2, ensure_ascii=False) + "\n")
    else:
        _show(examination, config.url)
    return ExitCode.SOME_FAILED if examination.findings else ExitCode.OK


def _config(options: argparse.Namespace) -> ClientConfig:
    names = {field.name for field in dataclasses.fields(ClientConfig)}
    given = {name: value for name, value in vars(options).items() if name in names}
    config = ClientConfig.resolve({**given, "url": options.where or options.url})
    if len(config.endpoints) != 1 or config.endpoints[0].is_name:
        raise ConfigurationError(f"{config.url}: the doctor looks at one server at a time; name one")
    return config


def _look(config: ClientConfig, options: argparse.Namespace) -> _doctor.Snapshot:
    (endpoint,) = config.endpoints
    with ExitStack() as connections:

        def door(config: ClientConfig) -> Ask:
            transport = connect(config, endpoint)
            connections.callback(transport.close)
            return lambda request: transport.send(request, config.timeout_s)

        stranger = door(dataclasses.replace(config, admin_token=None))
        return _doctor.collect(
            _doctor.Place(
                endpoint=endpoint,
                model=config.model,
                stranger=stranger,
                admin=stranger if config.admin_token is None else door(config),
                has_token=config.admin_token is not None,
                metrics_url=_metrics_url(endpoint, options.metrics_url),
                fetch=_fetch,
                cores=options.cores or (_own_cores() if is_loopback(endpoint) else None),
            )
        )


def _own_cores() -> int | None:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _metrics_url(endpoint: Endpoint, given: str | None) -> str:
    """Argument > environment, where ``resnet-serve --then`` puts it > Triton's own port."""
    if given is None:
        given = os.environ.get(_METRICS_VARIABLE) or None
    if given is not None:
        return "" if given == "none" else given
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"http://{host}:{endpoint.port + (1 if endpoint.is_grpc else 2)}/metrics"


def _fetch(url: str) -> str:
    """Read a page; like the client's own requests it goes through no proxy."""
    if not url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"--metrics-url or {_METRICS_VARIABLE} must be an http:// or https:// URL, or none, not {url!r}"
        )
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with direct.open(url, timeout=_METRICS_TIMEOUT_S) as answer:
            return str(answer.read().decode(errors="replace"))
    except (http.client.HTTPException, ValueError) as exc:  # whoever listens there speaks no HTTP; no such port
        raise OSError(str(exc) or type(exc).__name__) from exc


def _show(examination: Examination, url: str) -> None:
    for finding in examination.findings:
        sys.stdout.write(
            f"{finding.kind}\t{finding.subject}: {finding.what}  [{finding.check}]\n"
            f"\twhy: {finding.cause}\n"
            f"\tdo:  {finding.remedy}\n"
        )
    reasons: dict[str, list[str]] = {}
    for check, reason in examination.unchecked.items():
        reasons.setdefault(reason, []).append(check)
    for reason, checks in reasons.items():
        sys.stdout.write(f"not checked\t{', '.join(checks)}: {reason}\n")
    count = len(examination.findings)
    found = "nothing found" if not count else f"{count} finding{'s' * (count > 1)}"
    sys.stdout.write(f"{url}: {found} by {len(_doctor.CHECKS) - len(examination.unchecked)} checks\n")
