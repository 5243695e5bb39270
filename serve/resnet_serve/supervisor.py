"""One run of ``resnet-serve``: prints models and addresses, runs the command of ``--run``, restarts after crashes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from resnet_client import printing
from resnet_client.named_configs import config_files, models_with
from resnet_client.printing import report

from resnet_serve import access, diagnosis, models
from resnet_serve.config import ServerConfig, ServerError, UnservableError
from resnet_serve.server import TritonServer
from resnet_serve.watchdog import TOKEN_VARIABLE

EXIT_ENDED = 1

_LOOK_EVERY_S = 0.2
_LONGEST_PAUSE_S = 30.0
# How long the command of ``--run`` may take to end by itself.
_ENDING_S = 5.0
# After a run of this length, the pauses before restarts begin again with the shortest.
_STEADY_S = 120.0


class StopRequested(Exception):  # noqa: N818  # not an error
    """SIGTERM or SIGINT has arrived.

    Attributes:
        number: of the signal.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


def warn(line: str) -> None:
    """Print a line about a problem, with the name of the command."""
    printing.warn(f"resnet-serve: {line}")


class Supervisor:
    """One run of the command.

    Args:
        server: a server that has not been started.
        restart: whether to start the server again after a crash.
    """

    def __init__(self, server: TritonServer, *, restart: bool) -> None:
        self._server, self._restart = server, restart
        self._pauses = _pauses_s()
        self._started_s = 0.0
        # When to start the server again; None while it runs.
        self._due_s: float | None = None

    def start(self) -> None:
        """Start the server.

        Raises:
            ServerError: it cannot be started.
        """
        self._started_s = time.monotonic()
        report(f"starting tritonserver on {self._server.config.repository} …")
        self._server.start()

    def show(self) -> None:
        """Print the models and addresses of the server."""
        config = self._server.config
        self._show_models()
        self._show_failed_models()
        self._show_model_config()
        report(f"ready in {time.monotonic() - self._started_s:.1f} s")
        report(f"  {'gRPC':<8} {self._server.grpc_url}{_encryption(config)}")
        if not config.no_http:
            report(f"  {'HTTP':<8} {self._server.http_url}")
        report(f"  {'metrics':<8} {self._server.metrics_url}")
        for warning in access.warnings(config):
            warn(f"warning: {warning}")
        report(f"  {'log':<8} {self._server.log}")

    def _show_models(self) -> None:
        try:
            served = self._server.models()
        except ServerError as exc:
            report(f"  {exc}")
            return
        for model in served:
            versions = ",".join(map(str, model.versions))
            batch = f"batch up to {model.max_batch_size}" if model.max_batch_size else "no batching"
            report(f"  {model.name:<22} version {versions:<4} {model.backend:<12} {batch:<15} {model.devices}".rstrip())
        self._show_other_models({model.name for model in served})
        for warning in diagnosis.warnings(served):
            warn(f"warning: {warning}")

    def _show_other_models(self, served: set[str]) -> None:
        config = self._server.config
        missing = models.without_package(config)
        for name, package in missing.items():
            report(f"  {name:<22} not served: {package} is not installed (pip install {package})")
        others = config_files(Path(config.repository), "").keys() - {*served, *missing, *self._server.failed_models}
        if others:
            report(f"  not loaded: {', '.join(sorted(others))}")
            report("  to load one: resnet-client load NAME (needs the admin token), or start with --models NAME")

    def _show_failed_models(self) -> None:
        for name, reason in self._server.failed_models.items():
            report(f"  {name:<22} failed: {reason}")

    def _show_model_config(self) -> None:
        config = self._server.config
        if name := models.model_config_name(config):
            having = models_with(Path(config.repository), name)
            report(f"  using configs/{name}.pbtxt: {', '.join(having) or 'not found; all models use config.pbtxt'}")

    def run(self, command: list[str]) -> int:
        """Run the command of ``--run`` while the server runs; return its exit code.

        Raises:
            ServerError: the command cannot be started, or the server ended and cannot be started again.
        """
        server = self._server
        added = {
            "RESNET_URL": server.grpc_url,
            **({} if server.config.no_http else {"RESNET_HTTP_URL": server.http_url}),
            "RESNET_METRICS_URL": server.metrics_url,
            TOKEN_VARIABLE: server.admin_token,
        }
        try:
            process = subprocess.Popen(command, env={**os.environ, **added})
        except OSError as exc:
            raise ServerError(f"the command of --run could not be started: {exc}") from exc
        try:
            if self._restart:
                self._keep_running(process)
            process.wait()
        except BaseException as exc:
            # On a terminal, Ctrl-C has reached the command as well.
            _end(process, got_signal=isinstance(exc, StopRequested) and exc.number == signal.SIGINT)
            raise
        if process.returncode:
            warn(f"the command of --run ended with exit code {process.returncode}")
        return process.returncode

    def wait(self) -> int:
        """Wait until the server has ended and is not restarted; return the exit code of ``resnet-serve``.

        Raises:
            ServerError: with restarts, the server cannot be started again until a person changes something.
        """
        if self._restart:
            self._keep_running()
        code = self._server.wait()
        end = diagnosis.tail(self._server.log)
        warn(f"tritonserver exited unexpectedly with exit code {code}; the end of its log:\n{end}")
        return EXIT_ENDED

    def _keep_running(self, command: subprocess.Popen[bytes] | None = None) -> None:
        """Start the server again after each crash, until the command has ended if there is one.

        Raises:
            UnservableError: the server cannot start until a person changes something.
        """
        while command is None or command.poll() is None:
            if self._due_s is None:
                if (code := self._server.wait(_LOOK_EVERY_S)) is not None:
                    if time.monotonic() - self._started_s > _STEADY_S:
                        self._pauses = _pauses_s()
                    self._pause(f"tritonserver exited unexpectedly with exit code {code}")
            elif time.monotonic() < self._due_s:
                time.sleep(_LOOK_EVERY_S)
            else:
                self._start_again()

    def _pause(self, why: str) -> None:
        pause_s = next(self._pauses)
        self._due_s = time.monotonic() + pause_s
        warn(f"{why}; restart in {pause_s:.0f} s")

    def _start_again(self) -> None:
        self._started_s = time.monotonic()
        try:
            self._server.restart()
        except UnservableError:
            raise
        except ServerError as exc:
            self._pause(f"tritonserver did not start: {str(exc).splitlines()[0]}")
        else:
            self._due_s = None
            report(f"ready again after {time.monotonic() - self._started_s:.1f} s, at the same addresses")
            self._show_failed_models()


def _pauses_s() -> Iterator[float]:
    """Yield 1, 2, 4, … 30 seconds."""
    pause_s = 1.0
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _end(process: subprocess.Popen[bytes], *, got_signal: bool) -> None:
    """End a command: first let it react to Ctrl-C, if it got that, then terminate it, then kill it."""
    try:
        with contextlib.suppress(subprocess.TimeoutExpired):
            if got_signal:
                process.wait(_ENDING_S)
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_ENDING_S)
    finally:
        process.kill()
        process.wait()


def _encryption(config: ServerConfig) -> str:
    if config.tls_certificate is None:
        return ""
    return "  (TLS, with client certificates)" if config.tls_client_ca else "  (TLS)"
