"""What happens between the start of ``resnet-serve`` and its end: models, addresses, ``--then``, restarts."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from resnet_serve import diagnosis, selection
from resnet_serve.config import ServerConfig
from resnet_serve.errors import ServerError, StopRequested, UnservableError
from resnet_serve.server import TritonServer
from resnet_serve.supervisor import TOKEN_VARIABLE

EXIT_ENDED = 1
# As a shell says it of a command that is not there.
EXIT_NOT_RUN = 127

_LOOK_EVERY_S = 0.2
_LONGEST_PAUSE_S = 30.0
# For the command of ``--then`` to end by itself.
_ENDING_S = 5.0
# After this time a crash has nothing to do with the one before.
_STEADY_S = 120.0


class Session:
    """One run of the command.

    Args:
        server: not started yet.
        say: takes one line for people who watch.
        complain: takes one line about what went wrong.
        restart: whether a server that has crashed is started again.
    """

    def __init__(
        self, server: TritonServer, say: Callable[[str], None], complain: Callable[[str], None], *, restart: bool
    ) -> None:
        self._server, self._say, self._complain, self._restart = server, say, complain, restart
        self._pauses = _pauses_s()
        self._started_s = 0.0
        # Why the server does not run, until it does again.
        self._down: str | None = None

    def start(self) -> None:
        """Start the server; show its models and addresses.

        Raises:
            ServerError: it cannot be started.
        """
        self._started_s = time.monotonic()
        self._say(f"starting tritonserver on {self._server.config.repository} …")
        self._server.start()
        _show_models(self._server, self._say)
        for name, package in selection.without_package(Path(self._server.config.repository)).items():
            self._say(f"  {name:<22} is not served: {package} is not installed")
        _show_model_config(self._server.config, self._say)
        self._say(f"ready in {time.monotonic() - self._started_s:.1f} s")
        urls = {"gRPC": self._server.grpc_url, "HTTP": self._server.http_url, "metrics": self._server.metrics_url}
        for name, url in urls.items():
            self._say(f"  {name:<8} {url}{_reach(self._server.config, name)}")
        self._say(f"  {'log':<8} {self._server.log}")

    def run(self, command: list[str]) -> int:
        """Run the command of ``--then`` while the server is kept running; return its exit code.

        Raises:
            ServerError: the server ended for good meanwhile.
        """
        server = self._server
        added = {
            "RESNET_URL": server.grpc_url,
            "RESNET_HTTP_URL": server.http_url,
            "RESNET_METRICS_URL": server.metrics_url,
            TOKEN_VARIABLE: server.admin_token,
        }
        try:
            process = subprocess.Popen(command, env={**os.environ, **added})
        except OSError as exc:
            self._complain(f"--then could not be run: {exc}")
            return EXIT_NOT_RUN
        try:
            while process.poll() is None:
                if self._restart and self._server.wait(_LOOK_EVERY_S) is not None:
                    self._start_again(process)
                else:
                    _wait(process, _LOOK_EVERY_S)
        except BaseException as exc:
            # Ctrl-C has reached the command as well.
            _end(process, is_told=isinstance(exc, StopRequested) and exc.number == signal.SIGINT)
            raise
        if process.returncode:
            self._complain(f"the command of --then ended with exit code {process.returncode}")
        return process.returncode

    def wait(self) -> int:
        """Wait until the server has ended by itself, and for good; return the exit code of the command.

        Raises:
            ServerError: with restarts, it cannot be started again until somebody mends something.
        """
        while self._restart:
            self._start_again()
        code = self._server.wait()
        end = diagnosis.tail(self._server.log)
        self._complain(f"tritonserver ended by itself with exit code {code}; the end of its log:\n{end}")
        return EXIT_ENDED

    def _start_again(self, command: subprocess.Popen[bytes] | None = None) -> None:
        """Wait for a crash and start the server again, trying for ever, or until the command that needs it has ended.

        Raises:
            UnservableError: no further try could succeed.
        """
        if self._down is None:
            self._down = f"tritonserver ended by itself with exit code {self._server.wait()}"
            if time.monotonic() - self._started_s > _STEADY_S:
                self._pauses = _pauses_s()
        while not _has_ended(command):
            pause_s = next(self._pauses)
            self._complain(f"{self._down}; starting it again in {pause_s:.0f} s")
            if command is None:
                time.sleep(pause_s)
            else:
                _wait(command, pause_s)
            if _has_ended(command):
                return
            self._started_s = time.monotonic()
            try:
                self._server.restart()
            except UnservableError:
                raise
            except ServerError as exc:
                self._down = f"it did not start: {str(exc).splitlines()[0]}"
            else:
                self._down = None
                self._say(f"ready again after {time.monotonic() - self._started_s:.1f} s, at the same addresses")
                self._started_s = time.monotonic()
                return


def _pauses_s() -> Iterator[float]:
    """1, 2, 4, … 30 seconds."""
    pause_s = 1.0
    while True:
        yield pause_s
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _has_ended(command: subprocess.Popen[bytes] | None) -> bool:
    return command is not None and command.poll() is not None


def _wait(process: subprocess.Popen[bytes], timeout_s: float) -> None:
    try:
        process.wait(timeout_s)
    except subprocess.TimeoutExpired:
        return


def _end(process: subprocess.Popen[bytes], *, is_told: bool) -> None:
    """Let a command write its report and end its own children; end it if it does not, or on another signal."""
    try:
        if is_told:
            _wait(process, _ENDING_S)
        if process.poll() is None:
            process.terminate()
            _wait(process, _ENDING_S)
    finally:
        process.kill()
        process.wait()


def _reach(config: ServerConfig, name: str) -> str:
    """Tell that Triton encrypts gRPC only, so that the rest stays on this machine."""
    if config.tls_certificate is None:
        return ""
    if name == "gRPC":
        return "  (TLS, with client certificates)" if config.tls_client_ca else "  (TLS)"
    return "  (no TLS here, so for this machine only)"


def _show_model_config(config: ServerConfig, say: Callable[[str], None]) -> None:
    if name := selection.model_config_name(config):
        models = selection.models_with_config(name, Path(config.repository))
        say(f"  model config {name}: {', '.join(models) or 'no model has it; all use config.pbtxt'}")


def _show_models(server: TritonServer, say: Callable[[str], None]) -> None:
    try:
        models = server.models()
    except ServerError as exc:
        say(f"  {exc}")
        return
    for model in models:
        versions = ",".join(map(str, model.versions))
        batch = f"batch up to {model.max_batch_size}" if model.max_batch_size else "no batching"
        say(f"  {model.name:<22} version {versions:<4} {model.backend:<12} {batch:<15} {model.devices}".rstrip())
