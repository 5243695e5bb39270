"""``resnet-client doctor``: find common faults of a running server, with the fix."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os

from resnet_client import doctor
from resnet_client.cli.exit_codes import ExitCode
from resnet_client.cli.options import client_options
from resnet_client.config import ClientConfig, environment_name
from resnet_client.endpoints import Endpoint, bracketed
from resnet_client.errors import ConfigurationError
from resnet_client.printing import show

NAME = "doctor"
HELP = "Check a server for common faults; print each with its fix"

_METRICS_VARIABLE = environment_name("metrics_url")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the server, the metrics endpoint, checks to skip and the output format."""
    parser.add_argument("where", nargs="?", metavar="URL", help="Server URL, the same as --url")
    parser.add_argument(
        "--metrics-url",
        metavar="URL",
        help=f"Metrics endpoint, or none [{_METRICS_VARIABLE}; default: port + 1 for gRPC, + 2 for HTTP, /metrics]",
    )
    parser.add_argument(
        "--ignore",
        action="append",
        default=[],
        metavar="CHECK",
        choices=[check.name for check in doctor.CHECKS],
        help=f"Skip a check; may be repeated. Checks: {', '.join(check.name for check in doctor.CHECKS)}",
    )
    parser.add_argument("--json", action="store_true", help="Print one JSON object")


def run(options: argparse.Namespace) -> ExitCode:
    """Read the server, run the checks, print the report."""
    config = ClientConfig.resolve(client_options(options) | {"url": options.where or options.url})
    if len(config.endpoints) != 1 or config.endpoints[0].is_name:
        raise ConfigurationError(f"{config.url}: doctor checks one server; pass its URL")
    snapshot = doctor.take(config, _metrics_url(config.endpoints[0], options.metrics_url))
    report = doctor.examine(snapshot, ignored=options.ignore)
    if options.json:
        show(json.dumps(dataclasses.asdict(report), indent=2, ensure_ascii=False))
    else:
        _print(report, config.url)
    return ExitCode.SOME_FAILED if report.findings else ExitCode.OK


def _metrics_url(endpoint: Endpoint, option: str | None) -> str | None:
    """Argument > environment (set by ``resnet-serve --run``) > Triton's default port; None for ``none``."""
    url = option or os.environ.get(_METRICS_VARIABLE)
    if not url:
        return f"http://{bracketed(endpoint.host)}:{endpoint.port + (1 if endpoint.is_grpc else 2)}/metrics"
    if url != "none" and not url.startswith(("http://", "https://")):
        raise ConfigurationError(
            f"invalid --metrics-url or {_METRICS_VARIABLE} {url!r}: expected an http:// or https:// URL, or none"
        )
    return None if url == "none" else url


def _print(report: doctor.Report, url: str) -> None:
    for finding in report.findings:
        show(f"{finding.kind}\t{finding.subject}: {finding.problem}  [{finding.check}]\n\tfix: {finding.fix}")
    for reason in dict.fromkeys(report.not_checked.values()):
        checks = [check for check, why in report.not_checked.items() if why == reason]
        show(f"not checked\t{', '.join(checks)}: {reason}")
    count = len(report.findings)
    found = f"{count or 'no'} fault{'s' * (count != 1)} found"
    show(f"{url}: {len(doctor.CHECKS) - len(report.not_checked)} checks run, {found}")
