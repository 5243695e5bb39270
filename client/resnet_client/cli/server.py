"""``resnet-client health``, ``models``, ``load`` and ``metadata``."""

from __future__ import annotations

import argparse
import json

from resnet_client.cli.exit_codes import ExitCode, code_of
from resnet_client.cli.options import client_options, open_client
from resnet_client.config import ClientConfig, check_timeout
from resnet_client.printing import show, warn


class Health:
    """``resnet-client health``."""

    NAME = "health"
    HELP = "Print whether server and model are ready, and whether the model classifies a test image"

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Add the wait and the output format."""
        parser.add_argument(
            "--wait-s", type=_seconds, metavar="SECONDS", help="Wait up to this long until the model is ready"
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON object")

    @staticmethod
    def run(options: argparse.Namespace) -> ExitCode:
        """Print the flags and the result of the test image."""
        with open_client(options) as client:
            if options.wait_s is not None:
                client.wait_until_ready(options.wait_s)
            health = client.health()
        findings = {
            "server_live": health.server_live,
            "server_ready": health.server_ready,
            "model_ready": health.model_ready,
            "model_answers": health.answer is not None,
        }
        if options.json:
            error = None if health.error is None else str(health.error)
            show(json.dumps({**findings, "error": error}))
        else:
            for name, found in findings.items():
                show(f"{name.replace('_', ' ')}\t{'yes' if found else 'no'}")
            if health.error is not None:
                warn(f"resnet-client: {health.error}")
        if health.ok:
            return ExitCode.OK
        return code_of(health.error) if health.error is not None else ExitCode.NOT_READY


class Models:
    """``resnet-client models``."""

    NAME = "models"
    HELP = "List the models that the server has loaded, with the number of images that each has processed"

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Add the output format."""
        parser.add_argument("--json", action="store_true", help="Print one JSON object per model, one per line")

    @staticmethod
    def run(options: argparse.Namespace) -> ExitCode:
        """Print one line for each version of each model."""
        with open_client(options) as client:
            loaded = client.statistics()
        for model in loaded:
            row = {"model": model.model, "version": model.model_version, "images": model.inference_count}
            line = f"{model.model}\tversion {model.model_version}\t{model.inference_count} images"
            show(json.dumps(row) if options.json else line)
        return ExitCode.OK


class Load:
    """``resnet-client load``."""

    NAME = "load"
    HELP = "Load models of the repository that the server has not loaded; requires the admin token"

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Add the models."""
        about = "Model, such as resnet50_torchscript; those that an ensemble uses are loaded, too"
        parser.add_argument("models", nargs="+", metavar="MODEL", help=about)

    @staticmethod
    def run(options: argparse.Namespace) -> ExitCode:
        """Load one model after another, and print a line for each."""
        from resnet_client.admin import ModelControl

        with ModelControl(ClientConfig.resolve(client_options(options))) as control:
            for model in options.models:
                control.load(model)
                show(f"{model}\tloaded")
        return ExitCode.OK


class Metadata:
    """``resnet-client metadata``."""

    NAME = "metadata"
    HELP = "Print server and model metadata as JSON"

    @staticmethod
    def add_options(parser: argparse.ArgumentParser) -> None:
        """Add nothing: this command has no options of its own."""

    @staticmethod
    def run(options: argparse.Namespace) -> ExitCode:
        """Print the metadata."""
        with open_client(options) as client:
            metadata = client.metadata()
        show(json.dumps(metadata, indent=2))
        return ExitCode.OK


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
        check_timeout(seconds)
    except ValueError as exc:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number of seconds, at most 1e9") from exc
    return seconds
