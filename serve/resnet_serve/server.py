"""Starts the server, waits until it is ready, and stops it."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from resnet_serve import access, diagnosis, flags, guard, installation, models, ports, supervisor
from resnet_serve.config import LOOPBACK, ServerConfig
from resnet_serve.errors import ServerError, UnservableError
from resnet_serve.models import ModelStatus
from resnet_serve.supervisor import Api

_POLL_S = 0.05
_METRICS_TIMEOUT_S = 1.0
_PORT_ATTEMPTS = 3


class TritonServer:
    """A running ``tritonserver``; use it as a context manager.

    The server ends with the block, with :meth:`stop`, and with this process, however that ends. Workers of
    models that die are replaced.

    Args:
        config: what to run.

    Raises:
        ServerError: on entering, if the server cannot be started; the message names cause and remedy.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self._token = access.admin_token(config)
        self._cleanup = contextlib.ExitStack()
        self._guard: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._ports = [0, 0, 0]
        self._folder = Path()
        self._log_start = 0
        self.log = Path(config.log) if config.log else Path()

    @property
    def http_url(self) -> str:
        """URL for HTTP clients, such as ``http://127.0.0.1:8000``; with TLS, for this machine only."""
        return f"http://{self.config.http_host}:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        """URL for gRPC clients, such as ``grpc://127.0.0.1:8001``; ``grpcs://`` with TLS."""
        scheme = "grpcs" if self.config.tls_certificate else "grpc"
        return f"{scheme}://{self.config.host}:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        """URL of the Prometheus metrics."""
        return f"http://{self.config.metrics_host}:{self._ports[2]}/metrics"

    @property
    def admin_token(self) -> str:
        """Opens the APIs that :attr:`ServerConfig.open_apis` does not list."""
        return self._token

    def __enter__(self) -> Self:
        """Start the server and wait until every model is ready."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop the server."""
        self.stop()

    def start(self) -> None:
        """Start the server and wait until every model is ready.

        Raises:
            ServerError: it cannot be started; the message names cause and remedy, and nothing is left behind.
        """
        access.check(self.config)
        _checked_repository(Path(self.config.repository))
        installed = installation.find()
        self._folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="resnet-serve-")))
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
                except _PortTakenError:
                    # Somebody took a port between our looking and the server's listening.
                    if self.config.port != 0 or attempt == _PORT_ATTEMPTS - 1:
                        raise
                    self._end()
                else:
                    return
        except BaseException:
            self.stop()
            raise

    def restart(self) -> None:
        """Start a server again that has ended by itself: same ports, same token, its log goes on.

        Raises:
            ServerError: it cannot be started now; try again later.
            UnservableError: nor later, until somebody mends something.
        """
        self._end()
        _checked_repository(Path(self.config.repository))
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
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        if self._guard is None:
            return None
        code = self._guard.wait()
        self._guard = None
        guard.remove_shared_memory(self._shm_prefix)  # which a guard that was killed has left
        return code

    def wait(self, timeout_s: float | None = None) -> int | None:
        """Wait until the server ends by itself; return its exit code, or None after the timeout."""
        if self._guard is None:
            raise ServerError("the server is not running")
        try:
            return self._guard.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return None

    def models(self) -> list[ModelStatus]:
        """List the served models, ensembles last.

        Raises:
            ServerError: the server does not tell.
        """
        return models.served(self._api)

    @property
    def _api(self) -> Api:
        return Api(self._local_url, self._token)

    @property
    def _local_url(self) -> str:
        return f"http://{_reachable(self.config.http_host)}:{self._ports[0]}"

    @property
    def _local_metrics_url(self) -> str:
        return f"http://{_reachable(self.config.metrics_host)}:{self._ports[2]}/metrics"

    def _choose_ports(self) -> None:
        if self.config.port == 0:
            self._ports = ports.free_ports(self.config.host, 3)
        else:
            self._ports = [self.config.port + offset for offset in range(3)]
            self._refuse_taken_ports()

    def _refuse_taken_ports(self) -> None:
        hosts = (self.config.http_host, self.config.host, self.config.metrics_host)
        for host, port in zip(hosts, self._ports, strict=True):
            ports.refuse_taken(host, [port])

    def _empty_log(self) -> None:
        try:
            self.log.write_bytes(b"")
        except OSError as exc:
            raise UnservableError(f"the log {self.log} cannot be written: {exc.strerror}") from exc

    def _launch(self, installed: installation.Installation) -> None:
        self._shm_prefix = f"resnet_serve_{os.getpid()}_{self._ports[0]}_"
        reading, self._lifeline = os.pipe()
        try:
            self._guard = subprocess.Popen(
                [
                    *self._guard_command(reading),
                    *("--", *self._supervisor_command()),
                    *("--", str(installed.binary)),
                    *flags.of(
                        self.config,
                        Path(self.config.repository).resolve(),
                        self._folder / "backends",
                        self._ports,
                        self._shm_prefix,
                    ),
                ],
                env={
                    **installed.environment(),
                    supervisor.TOKEN_VARIABLE: self._token,
                    # The model `preprocess` counts there what waits.
                    "RESNET_METRICS_URL": self._local_metrics_url,
                },
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[reading],
                # Ctrl-C on a terminal must reach us, who then drain, and not the server as well.
                start_new_session=True,
            )
        except OSError as exc:
            raise ServerError(f"the server could not be launched: {exc}") from exc
        finally:
            os.close(reading)

    def _guard_command(self, lifeline: int) -> list[str]:
        # Neither script imports packages, so Python need not look for any (-S).
        return [
            *(sys.executable, "-I", "-S", guard.__file__),
            *("--lifeline", str(lifeline)),
            *("--exit-timeout-s", str(self.config.exit_timeout_s)),
            *("--shm-prefix", self._shm_prefix),
            *("--folder", str(self._folder)),
            # With TLS the caller has to speak first: waiting in vain for the server would mean nothing.
            *([] if self._has_tls else ["--grpc", f"{_reachable(self.config.host)}:{self._ports[1]}"]),
        ]

    @property
    def _has_tls(self) -> bool:
        """Whether gRPC is encrypted, by our options or by Triton's own flags."""
        is_passed = any(flag.startswith("--grpc-use-ssl") for flag in self.config.triton_args)
        return is_passed or self.config.tls_certificate is not None

    def _supervisor_command(self) -> list[str]:
        return [
            *(sys.executable, "-I", "-S", supervisor.__file__),
            *("--http", self._local_url),
            *("--closed-apis", ",".join(self.config.closed_apis)),
            *("--exit-timeout-s", str(self.config.exit_timeout_s)),
            *("--log", str(self.log.resolve())),
        ]

    def _wait_until_ready(self) -> None:
        assert self._guard is not None  # noqa: S101  # just launched
        deadline = time.monotonic() + self.config.ready_timeout_s
        while not self._is_ready():
            if self._guard.poll() is not None:
                raise self._start_error(f"the server ended with exit code {self._guard.returncode} while starting")
            if time.monotonic() > deadline:
                raise self._start_error(f"the server was not ready within {self.config.ready_timeout_s:.0f} s")
            time.sleep(_POLL_S)
        # Triton opens the metrics last, some milliseconds after it is ready; by a flag of its own, not at all.
        deadline = time.monotonic() + _METRICS_TIMEOUT_S
        while not self._has_metrics() and time.monotonic() < deadline:
            time.sleep(_POLL_S)

    def _has_metrics(self) -> bool:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.settimeout(_METRICS_TIMEOUT_S)
            probe.connect((_reachable(self.config.metrics_host), self._ports[2]))
            return True
        return False

    def _is_ready(self) -> bool:
        try:
            self._api.ask("v2/health/ready")
        except OSError:
            return False
        return True

    def _start_error(self, what: str) -> ServerError:
        known = diagnosis.cause(self.log, self._log_start)
        kept = f" (all of it: {self.log})" if self.config.log else ""
        kind = ServerError
        if diagnosis.port_is_taken(self.log, self._log_start):
            kind = _PortTakenError
        elif known is not None and known.is_lasting:
            kind = UnservableError
        sentence = known.sentence if known else what
        return kind(f"{sentence}\nfrom Triton's log{kept}:\n{diagnosis.errors(self.log, self._log_start)}")


class _PortTakenError(ServerError):
    """Another process listens on one of the ports."""


def _reachable(host: str) -> str:
    """From this machine, a server that listens everywhere."""
    return LOOPBACK if host == "0.0.0.0" else host  # noqa: S104  # comparison


def _checked_repository(repository: Path) -> None:
    """Refuse what cannot be served, before seconds are spent on starting."""
    if not repository.is_dir():
        raise UnservableError(
            f"there is no model repository {repository}: run resnet-build, or name one with --repository"
        )
    configs = sorted(repository.glob("*/config.pbtxt"))
    if not configs:
        raise UnservableError(f"{repository} holds no model: run resnet-build --repository {repository}")
    for config in configs:
        versions = [path for path in config.parent.iterdir() if path.is_dir() and path.name.isdigit()]
        if not versions:
            raise UnservableError(
                f"the model {config.parent} has no version, so its artifact is missing: run resnet-build"
            )
