"""Starts the server, waits until it is ready, and stops it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from resnet_client.config import ClientConfig
from resnet_client.endpoints import bracketed

from resnet_serve import access, diagnosis, flags, installation, models, ports, watchdog
from resnet_serve.config import ALL_MODELS, LOOPBACK, PortTakenError, ServerConfig, ServerError, UnservableError
from resnet_serve.models import ModelStatus
from resnet_serve.watchdog import Api

_POLL_S = 0.05
_METRICS_TIMEOUT_S = 1.0
_PORT_ATTEMPTS = 3
# The watchdog normally ends sooner. If it hangs it is killed, and the kernel ends the server with it.
_WATCHDOG_TIMEOUT_S = watchdog.UNLOAD_TIMEOUT_S + 15


class TritonServer:
    """A running ``tritonserver``; use it as a context manager.

    The server ends with the block, with :meth:`stop`, or with this process, even if that is killed. The watchdog
    replaces workers of models that die.

    Args:
        config: what to run.

    Attributes:
        failed_models: reason of each model that could not be loaded at the last start.

    Raises:
        ServerError: on entering, if the server cannot be started; the message names cause and remedy.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self._token = access.admin_token(config)
        self._cleanup = contextlib.ExitStack()
        self._watchdog: subprocess.Popen[bytes] | None = None
        self._ports = [0, 0, 0]
        self._folder, self._lock = Path(), -1
        self._log_start = 0
        self.failed_models: dict[str, str] = {}
        self.log = Path(config.log) if config.log else Path()

    @property
    def http_url(self) -> str:
        """URL for HTTP clients, such as ``http://127.0.0.1:8000``."""
        return f"http://{bracketed(self.config.http_host)}:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        """URL for gRPC clients, such as ``grpc://127.0.0.1:8001``; ``grpcs://`` with TLS."""
        scheme = "grpcs" if self.config.tls_certificate else "grpc"
        return f"{scheme}://{bracketed(self.config.host)}:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        """URL of the Prometheus metrics."""
        return f"http://{bracketed(self.config.metrics_host)}:{self._ports[2]}/metrics"

    @property
    def admin_token(self) -> str:
        """Token that the APIs require which :attr:`ServerConfig.open_apis` does not list."""
        return self._token

    def __enter__(self) -> Self:
        """Start the server and wait until its models are loaded."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def start(self) -> None:
        """Start the server and wait until its models are loaded.

        A model that fails is listed in :attr:`failed_models`.

        Raises:
            ServerError: it cannot be started, or a model failed and a requested model is not served; the message names
                cause and remedy, and processes and files are removed.
        """
        installed = installation.find()
        access.check(self.config)
        models.check(self.config)
        installation.remove_abandoned_folders()
        self._folder, self._lock = self._cleanup.enter_context(installation.temporary_folder())
        try:
            installed.compose(self._folder / "backends")
            self.log = Path(self.config.log) if self.config.log else self._folder / "triton.log"
            self._log_start = 0
            for attempt in range(_PORT_ATTEMPTS):
                self._choose_ports()
                self._empty_log()
                self._launch(installed)
                try:
                    self._wait_until_ready()
                except PortTakenError:
                    # Another process took a port after it was found free.
                    if self.config.port != 0 or attempt == _PORT_ATTEMPTS - 1:
                        raise
                    self._end()
                else:
                    return
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Start a server again that has exited unexpectedly, with the same ports, token and log.

        Raises:
            ServerError: it cannot be started now; try again later.
            UnservableError: it cannot start until a person changes something.
        """
        self._end()
        models.check(self.config)
        self._refuse_taken_ports()
        self._log_start = self.log.stat().st_size if self.log.exists() else 0
        try:
            self._launch(installation.find())
            self._wait_until_ready()
        except BaseException:
            self._end()
            raise

    def stop(self) -> int | None:
        """Let running requests finish, then end the server; return its exit code if it was running."""
        code = self._end()
        self._cleanup.close()
        return code

    def _end(self) -> int | None:
        if self._watchdog is None:
            return None
        assert self._watchdog.stdin is not None  # noqa: S101  # the parent pipe
        self._watchdog.stdin.close()
        try:
            code = self._watchdog.wait(self.config.exit_timeout_s + _WATCHDOG_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._watchdog.kill()
            code = self._watchdog.wait()
        self._watchdog = None
        watchdog.remove(self._folder, shared_memory_only=True)
        return code

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the server ends by itself; return its exit code, or None after the timeout."""
        if self._watchdog is None:
            raise ServerError("the server is not running")
        try:
            return self._watchdog.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def models(self) -> list[ModelStatus]:
        """List the served models, ensembles last.

        Raises:
            ServerError: the server does not list them.
        """
        return models.served(self._api)

    @property
    def _api(self) -> Api:
        return Api(f"http://{bracketed(ports.reachable(self.config.http_host))}:{self._ports[0]}", self._token)

    def _choose_ports(self) -> None:
        if self.config.port == 0:
            self._ports = ports.free_ports(self.config.host, 3)
        else:
            self._ports = [self.config.port + offset for offset in range(3)]
            if self.config.no_http:
                self._ports[:1] = ports.free_ports(LOOPBACK, 1)
            self._refuse_taken_ports()

    def _refuse_taken_ports(self) -> None:
        hosts = (self.config.http_host, self.config.host, self.config.metrics_host)
        for host, port in zip(hosts, self._ports, strict=True):
            ports.refuse_taken(host, port)

    def _empty_log(self) -> None:
        try:
            self.log.write_bytes(b"")
        except OSError as exc:
            raise UnservableError(f"the log {self.log} cannot be written: {exc.strerror}") from exc

    def _launch(self, installed: installation.Installation) -> None:
        metrics_host = bracketed(ports.reachable(self.config.metrics_host))
        repository = installation.link_if_needed(Path(self.config.repository).resolve(), self._folder)
        try:
            self._watchdog = subprocess.Popen(
                [
                    # The watchdog uses the standard library only, so Python skips site-packages (-S).
                    *(sys.executable, "-I", "-S", watchdog.__file__),
                    *flags.of_watchdog(self.config, self._folder, self.log, self._ports),
                    *("--", str(installed.binary)),
                    *flags.of_server(self.config, repository, self._folder, self._ports),
                ],
                env={
                    **installed.environment(),
                    watchdog.TOKEN_VARIABLE: self._token,
                    # The model `preprocess` reads the number of waiting requests from the metrics.
                    "RESNET_METRICS_URL": f"http://{metrics_host}:{self._ports[2]}/metrics",
                    # A backend reads in this config whether a GPU is required.
                    "RESNET_MODEL_CONFIG_NAME": models.model_config_name(self.config),
                },
                stdin=subprocess.PIPE,  # the parent pipe
                stdout=subprocess.DEVNULL,
                pass_fds=[self._lock],
                # Ctrl-C on a terminal must reach this process only, which lets the server finish running requests.
                start_new_session=True,
            )
        except OSError as exc:
            raise ServerError(f"the server could not be started: {exc}") from exc

    def _wait_until_ready(self) -> None:
        assert self._watchdog is not None  # noqa: S101  # just launched
        deadline = time.monotonic() + self.config.ready_timeout_s
        # Triton opens the HTTP port when each model is loaded or has failed.
        while not self._responds("v2/health/live"):
            if self._watchdog.poll() is not None:
                raise self._start_error(f"the server ended with exit code {self._watchdog.returncode} while starting")
            if time.monotonic() > deadline:
                raise self._start_error(f"the server was not ready within {self.config.ready_timeout_s:.0f} s")
            time.sleep(_POLL_S)
        self.failed_models = self._read_failed_models()
        if self.failed_models and not all(self._responds(f"v2/models/{name}/ready") for name in self._needed_models):
            raise self._start_error(f"these models could not be loaded: {', '.join(self.failed_models)}")
        # Triton opens the metrics port some milliseconds after it is ready, and never with --allow-metrics=false.
        deadline = time.monotonic() + _METRICS_TIMEOUT_S
        metrics = ports.reachable(self.config.metrics_host), self._ports[2]
        while not ports.accepts(*metrics, timeout_s=_METRICS_TIMEOUT_S) and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    @property
    def _needed_models(self) -> tuple[str, ...]:
        """Models without which a start fails: those requested by name, else the default model."""
        needed = models.requested(self.config)
        return (ClientConfig.model,) if needed == ALL_MODELS else needed

    def _responds(self, path: str) -> bool:
        try:
            self._api.request(path)
        except OSError:
            return False
        return True

    def _read_failed_models(self) -> dict[str, str]:
        found = {}
        with contextlib.suppress(OSError):  # the user's own flags may restrict the index
            for entry in self._api.request("v2/repository/index", {}):
                name = entry["name"]
                # The index has no reason if the config is invalid, a step failed, or loading was not requested.
                why = entry.get("reason") or diagnosis.first_error(self.log, name, self._log_start)
                if why and entry.get("state") != "READY":
                    found[name] = self._with_repository(why.partition("\n")[0])
        return found

    def _with_repository(self, text: str) -> str:
        return text.replace(str(self._folder / "models"), str(self.config.repository))

    def _start_error(self, what: str) -> ServerError:
        cause = diagnosis.cause(self.log, self._log_start) or ServerError(what)
        kept = f" ({self.log})" if self.config.log else ""
        message = f"{cause}\nerrors in Triton's log{kept}:\n{diagnosis.error_lines(self.log, self._log_start)}"
        return type(cause)(self._with_repository(message))
