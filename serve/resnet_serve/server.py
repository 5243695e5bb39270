"""Starts the server, waits until it is ready, and stops it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from resnet_serve import diagnosis, guard, installation, ports
from resnet_serve.config import ServerConfig
from resnet_serve.errors import ServerError

_POLL_S = 0.05
_HTTP_TIMEOUT_S = 5.0
_PORT_ATTEMPTS = 3


@dataclasses.dataclass(frozen=True)
class ModelStatus:
    """One served model.

    Attributes:
        name: as in requests.
        versions: loaded versions, ascending.
        backend: ``python``, ``onnxruntime``, ``pytorch``, or ``ensemble``.
        max_batch_size: largest batch that it executes; 0 without batching.
        devices: where its instances run, such as ``CPU`` or ``2 x GPU``.
    """

    name: str
    versions: tuple[int, ...]
    backend: str
    max_batch_size: int
    devices: str


class TritonServer:
    """A running ``tritonserver``; use it as a context manager.

    The server ends with the block, with :meth:`stop`, and with this process, however that ends.

    Args:
        config: what to run.

    Raises:
        ServerError: on entering, if the server cannot be started; the message names cause and remedy.
    """

    def __init__(self, config: ServerConfig) -> None:
        self.config = config
        self._cleanup = contextlib.ExitStack()
        self._guard: subprocess.Popen[bytes] | None = None
        self._lifeline: int | None = None
        self._ports = [0, 0, 0]
        self.log = Path(config.log) if config.log else Path()

    @property
    def http_url(self) -> str:
        """URL for HTTP clients, such as ``http://127.0.0.1:8000``."""
        return f"http://{self.config.host}:{self._ports[0]}"

    @property
    def grpc_url(self) -> str:
        """URL for gRPC clients, such as ``grpc://127.0.0.1:8001``."""
        return f"grpc://{self.config.host}:{self._ports[1]}"

    @property
    def metrics_url(self) -> str:
        """URL of the Prometheus metrics."""
        return f"http://{self.config.host}:{self._ports[2]}/metrics"

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
        repository = _checked_repository(Path(self.config.repository))
        installed = installation.find()
        folder = Path(self._cleanup.enter_context(tempfile.TemporaryDirectory(prefix="resnet-serve-")))
        try:
            installed.compose(folder / "backends")
            self.log = Path(self.config.log) if self.config.log else folder / "triton.log"
            for attempt in range(_PORT_ATTEMPTS):
                self._choose_ports()
                self._launch(installed, repository, folder / "backends")
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
            ServerError: the server does not tell, for example because that interface is restricted.
        """
        versions: dict[str, list[int]] = {}
        try:
            index = self._http("v2/repository/index", body={"ready": True})
        except OSError as exc:
            raise ServerError(f"the server does not list its models: {exc}") from exc
        for entry in index:
            versions.setdefault(entry["name"], []).append(int(entry["version"]))
        found = [self._status(name, sorted(numbers)) for name, numbers in versions.items()]
        return sorted(found, key=lambda model: (model.backend == "ensemble", model.name))

    def _status(self, name: str, versions: list[int]) -> ModelStatus:
        config = self._http(f"v2/models/{name}/config")
        groups = [(group["count"], group["kind"].removeprefix("KIND_")) for group in config.get("instance_group", [])]
        return ModelStatus(
            name=name,
            versions=tuple(versions),
            backend=config["backend"] or config["platform"],
            max_batch_size=config["max_batch_size"],
            devices=", ".join(kind if count == 1 else f"{count} x {kind}" for count, kind in groups),
        )

    def _http(self, path: str, *, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(  # noqa: S310  # our own http:// URL
            f"{self._local_url}/{path}", data=None if body is None else json.dumps(body).encode()
        )
        with _DIRECT.open(request, timeout=_HTTP_TIMEOUT_S) as response:
            content = response.read()
        return json.loads(content) if content else None

    @property
    def _local_url(self) -> str:
        host = "127.0.0.1" if self.config.host == "0.0.0.0" else self.config.host  # noqa: S104  # comparison
        return f"http://{host}:{self._ports[0]}"

    def _choose_ports(self) -> None:
        if self.config.port == 0:
            self._ports = ports.free_ports(self.config.host, 3)
        else:
            self._ports = [self.config.port + offset for offset in range(3)]
            ports.refuse_taken(self.config.host, self._ports)

    def _launch(self, installed: installation.Installation, repository: Path, backends: Path) -> None:
        prefix = f"resnet_serve_{os.getpid()}_{self._ports[0]}_"
        command = [
            *(sys.executable, "-I", guard.__file__),
            *("--exit-timeout-s", str(self.config.exit_timeout_s)),
            *("--shm-prefix", prefix),
            *("--folder", str(backends.parent)),
        ]
        reading, self._lifeline = os.pipe()
        try:
            with self.log.open("wb") as log:
                self._guard = subprocess.Popen(
                    [
                        *command,
                        "--lifeline",
                        str(reading),
                        "--",
                        *self._command(installed, repository, backends, prefix),
                    ],
                    env=installed.environment(),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    pass_fds=[reading],
                    # Ctrl-C on a terminal must reach us, who then drain, and not the server as well.
                    start_new_session=True,
                )
        except OSError as exc:
            raise ServerError(f"the server could not be launched: {exc}") from exc
        finally:
            os.close(reading)

    def _command(
        self, installed: installation.Installation, repository: Path, backends: Path, shm_prefix: str
    ) -> list[str]:
        http, grpc, metrics = map(str, self._ports)
        flags = {
            "model-repository": str(repository),
            "backend-directory": str(backends),
            "http-address": self.config.host,
            "http-port": http,
            "grpc-address": self.config.host,
            "grpc-port": grpc,
            "metrics-address": self.config.host,
            "metrics-port": metrics,
            "exit-timeout-secs": str(self.config.exit_timeout_s),
        }
        regions = [
            f"--backend-config={name},shm-region-prefix-name={shm_prefix}"
            for name in ("python", *installation.NETWORK_BACKENDS)
        ]
        return [
            str(installed.binary),
            *(f"--{name}={value}" for name, value in flags.items()),
            # The build writes whole configurations; completing them would start every worker twice.
            "--disable-auto-complete-config",
            *regions,
            *self.config.triton_args,
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

    def _is_ready(self) -> bool:
        try:
            self._http("v2/health/ready")
        except (OSError, urllib.error.HTTPError):
            return False
        return True

    def _start_error(self, what: str) -> ServerError:
        known = diagnosis.cause(self.log)
        kind = _PortTakenError if diagnosis.port_is_taken(self.log) else ServerError
        kept = f" (all of it: {self.log})" if self.config.log else ""
        return kind(f"{known or what}\nfrom Triton's log{kept}:\n{diagnosis.errors(self.log)}")


class _PortTakenError(ServerError):
    """Another process listens on one of the ports."""


# A proxy of the environment must not be asked for this machine's own server.
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def _checked_repository(repository: Path) -> Path:
    """Refuse what cannot be served, before seconds are spent on starting."""
    if not repository.is_dir():
        raise ServerError(f"there is no model repository {repository}: run resnet-build, or name one with --repository")
    configs = sorted(repository.glob("*/config.pbtxt"))
    if not configs:
        raise ServerError(f"{repository} holds no model: run resnet-build --repository {repository}")
    for config in configs:
        versions = [path for path in config.parent.iterdir() if path.is_dir() and path.name.isdigit()]
        if not versions:
            raise ServerError(f"the model {config.parent} has no version, so its artifact is missing: run resnet-build")
    return repository.resolve()
