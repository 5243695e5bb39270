"""Runs one ``tritonserver``: ends it with its parent, replaces workers that die, and protects its shared memory.

It starts the server before any thread of its own. The kernel kills the server if the watchdog dies (PDEATHSIG). On
SIGTERM and SIGINT, and when the parent pipe closes, it lets the server finish running requests and end. It kills a
server that no longer accepts gRPC connections, so that it can be started again: cancelled requests can bring Triton
2.51 into that state (server#6899, server#7368; fixed in 25.01).

It is a single file that uses the standard library only, so that a container can run it as ``resnet-serve`` does:

    python3 -I watchdog.py -- tritonserver --model-repository=/models --model-control-mode=explicit …
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import functools
import http.client
import json
import math
import os
import re
import resource
import secrets
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TOKEN_VARIABLE = "RESNET_ADMIN_TOKEN"  # noqa: S105  # a name, not a token
TOKEN_HEADER = "admin-key"  # noqa: S105  # likewise
TOKEN_FORM = r"[A-Za-z0-9._~-]{16,}"  # noqa: S105  # Triton splits its flags at other characters
TOKEN_RULE = "the admin token must have 16 or more letters, digits, and any of . _ ~ -"  # noqa: S105  # likewise
# Triton's names of APIs that can harm the server. Clients that classify do not need them.
CLOSED_APIS = ("model-repository", "shared-memory", "trace", "logging")
# The metrics, which need no token, show the same counters as the statistics.
OPEN_APIS = ("metadata", "model-config", "statistics")
ALL_APIS = ("health", "inference", *OPEN_APIS, *CLOSED_APIS)
UNLOAD_TIMEOUT_S = 15  # after Triton's own limit for running requests: unloading models and ending workers

_PR_SET_PDEATHSIG = 1
_STOP, _START_FAILED = b".", b"!"  # what is written to the pipe that ends the server
_LOAD_TIMEOUT_S = 600.0  # a network that is compiled for a GPU takes minutes
_LOOK_EVERY_S = 0.1
_WORKERS_EVERY_S = 0.25  # less than most workers need to become ready; the load of one that dies before that fails
_MOST_CHILDREN_BYTES = 1 << 16
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
# Deeply nested JSON and many small chunks crash Triton 2.51 by a stack overflow. A large limit costs no memory, because
# the kernel allocates only the part of a stack that is used.
_STACK_BYTES = 1 << 30
_SHARED_MEMORY = Path("/dev/shm")  # noqa: S108  # where Triton's Python backend keeps its regions
_REGION_PREFIX = "triton_python_backend_shm_region_"  # unless the server's flags name another
_MOST_REGION_BYTES = 256 << 20  # a batch of 32 large images

Server = subprocess.Popen[bytes]
Report = Callable[[str], None]


class Api:
    """Triton's HTTP API at a URL such as ``http://127.0.0.1:8000``, called with the admin token."""

    def __init__(self, url: str, token: str) -> None:
        self._address, self._headers = url.removeprefix("http://"), {TOKEN_HEADER: token}

    def request(self, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = 5.0) -> Any:
        """Return the JSON response to a GET, or to a POST if there is a body; None if the response is empty.

        Raises:
            OSError: the server cannot be reached, or refuses; the message contains its reason.
        """
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
        try:
            with contextlib.closing(http.client.HTTPConnection(self._address, timeout=timeout_s)) as connection:
                connection.request(method, f"/{path}", content, self._headers)
                response = connection.getresponse()
                text = response.read()
        except http.client.HTTPException as exc:
            raise OSError(f"{type(exc).__name__}: {exc}") from exc
        if response.status != http.HTTPStatus.OK:
            raise OSError(f"{response.status} {text.decode(errors='replace')}")
        return json.loads(text) if text else None


def workers_of(server: int) -> dict[int, tuple[str, str]]:
    """Return model and version of each living worker of a server, by process id."""
    threads = f"/proc/{server}/task"
    children: list[bytes] = []
    with contextlib.suppress(OSError):  # the server has ended
        for thread in os.listdir(threads):  # noqa: PTH208  # a server has hundreds; files as objects take twice as long
            with contextlib.suppress(OSError):  # the thread has ended
                file = os.open(f"{threads}/{thread}/children", os.O_RDONLY)
                try:
                    children += os.read(file, _MOST_CHILDREN_BYTES).split()
                finally:
                    os.close(file)
    return {child: served for child in map(int, children) if (served := _served_by(child))}


def _served_by(process: int) -> tuple[str, str] | None:
    """Return model and version of a worker, whose first argument is ``…/<model>/<version>/<file>``."""
    with contextlib.suppress(OSError):  # it has ended
        program, *arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        if program.endswith(b"triton_python_backend_stub"):
            version = Path(os.fsdecode(arguments[0])).parent
            return version.parent.name, version.name
    return None


class WorkerWatcher:
    """Loads models again whose workers died, until ``stopping`` is set.

    The Python backend runs each instance of a model in a worker process. When one dies, Triton still reports the
    model as ready but answers none of its requests. The watchdog does not unload the model first, because that would
    also stop its ensembles: Triton loads the model again and then replaces the broken one.
    """

    def __init__(self, server: int, api: Api, report: Report) -> None:
        self.stopping = threading.Event()
        self.has_replaced = False
        self._server, self._api, self._report = server, api, report
        self._workers: dict[int, tuple[str, str]] = {}
        self._incomplete: set[str] = set()
        self._has_listed_models = False
        # Model → when it may be loaded next, and the pause before that.
        self._next_load: dict[str, tuple[float, float]] = {}

    def run(self) -> None:
        """Look again and again."""
        while not self.stopping.wait(_WORKERS_EVERY_S):
            self.look()

    def look(self) -> None:
        """Find workers that have ended, and load their models again unless it is too early."""
        living = workers_of(self._server)
        self._incomplete |= {model for worker, (model, _) in self._workers.items() if worker not in living}
        self._workers = living
        if not self._has_listed_models:  # a worker may have died before the first look
            with contextlib.suppress(OSError, ValueError):  # the server is starting
                self._incomplete |= {
                    entry["name"] for entry in self._api.request("v2/repository/index", {"ready": True})
                }
                self._has_listed_models = True
        for model in sorted(self._incomplete):
            due_s, pause_s = self._next_load.get(model, (-math.inf, 0.0))
            if self.stopping.is_set() or time.monotonic() < due_s:
                continue
            # A server that does not respond is starting or stopping, so the next look tries again.
            with contextlib.suppress(OSError, ValueError, LookupError):
                if self._lacks_workers(model):
                    # The first pause again, if its workers have lived for a while.
                    has_lasted = time.monotonic() - due_s >= _LONGEST_PAUSE_S
                    pause_s = _FIRST_PAUSE_S if has_lasted else min(2 * pause_s, _LONGEST_PAUSE_S)
                    self.load_again(model, "died", pause_s)
                    self._next_load[model] = time.monotonic() + pause_s, pause_s
                else:
                    self._incomplete.discard(model)

    def _lacks_workers(self, model: str) -> bool:
        """Whether a ready version has fewer workers than instances; a version that is being unloaded is not ready."""
        for entry in self._api.request("v2/repository/index", {"ready": True}):
            if entry["name"] == model:
                config = self._api.request(f"v2/models/{model}/versions/{entry['version']}/config")
                if config.get("backend") != "python" and config.get("runtime") != "model.py":
                    return False  # an ensemble, or a model of a C++ backend
                wanted = sum(group["count"] * max(1, len(group.get("gpus", []))) for group in config["instance_group"])
                # Counted again, because a regular load may have replaced the worker since.
                if list(workers_of(self._server).values()).count((model, entry["version"])) < wanted:
                    return True
        return False

    def load_again(self, model: str, what: str, pause_s: float) -> None:
        """Load a model with its present config, which keeps the settings of earlier loads, such as its versions.

        Args:
            model: its name.
            what: what happened to a worker, for the report.
            pause_s: seconds to the next try, for the report.
        """
        started_s, self.has_replaced = time.monotonic(), True
        try:
            config = self._api.request(f"v2/models/{model}/config")
            config["model_warmup"] = config.get("model_warmup", [])[:1]  # short, because clients are waiting
            # Triton loads a model only if its config has changed.
            config.setdefault("parameters", {})["loaded_again"] = {"string_value": time.asctime()}
            body = {"parameters": {"config": json.dumps(config)}}
            self._api.request(f"v2/repository/models/{model}/load", body, timeout_s=_LOAD_TIMEOUT_S)
            result = f"the model was loaded again in {time.monotonic() - started_s:.1f} s"
        except OSError as exc:
            if self.stopping.is_set():
                return
            result = f"loading the model again failed ({exc}); next try in {pause_s:g} s"
        self._report(f"a worker of {model} {what}; {result}")


def _watch_start(api: Api, model: str, stopping: threading.Event, report: Report, request_stop: int) -> None:
    """End a server that starts without the default model."""
    while not stopping.wait(_LOOK_EVERY_S):
        with contextlib.suppress(OSError):  # Triton opens HTTP when each model is loaded or has failed
            entries = api.request("v2/repository/index", {})
            if not any(entry["name"] == model and entry.get("state") == "READY" for entry in entries):
                # An ensemble has no reason of its own, but its network has.
                reasons = {entry["name"]: entry["reason"].splitlines()[0] for entry in entries if entry.get("reason")}
                why = [f"{name}: {reason}" for name, reason in reasons.items()]
                report("; ".join([f"the default model {model} could not be loaded, so the server ends", *why]))
                os.write(request_stop, _START_FAILED)
            return


def _watch_grpc(server: Server, address: str, timeout_s: float, stopping: threading.Event, report: Report) -> None:
    """Kill a server that listens at the address but does not send the first byte of a connection in time."""
    host, _, port = address.rpartition(":")
    while not stopping.wait(timeout_s / 6):
        end_s = time.monotonic() + timeout_s
        try:
            with socket.create_connection((host.strip("[]"), int(port)), timeout_s) as connection:
                connection.settimeout(max(0.01, end_s - time.monotonic()))
                connection.recv(1)  # HTTP/2 begins with the server's SETTINGS
        except TimeoutError:
            if not stopping.is_set():
                report("tritonserver no longer accepts gRPC connections; it is killed")
                server.kill()
        except OSError:  # the server is starting, or the name cannot be resolved at the moment
            continue


def _watch_shared_memory(server: Server, watcher: WorkerWatcher, prefix: str) -> None:
    """Make the server's shared memory private, and replace a worker whose region has become large by a huge request.

    Triton's Python backend creates regions that every user can read, and never shrinks one.
    """
    next_s = 0.0
    while not watcher.stopping.wait(_LOOK_EVERY_S):
        large = []
        for region in os.scandir(_SHARED_MEMORY):
            with contextlib.suppress(OSError):  # it has been removed
                if region.name.startswith(prefix):
                    os.chmod(region.path, 0o600)  # noqa: PTH101  # pathlib takes ten times as long
                    if region.stat().st_blocks * 512 > _MOST_REGION_BYTES:
                        large.append(os.fsencode(region))
        if large and time.monotonic() > next_s:
            models = {
                model
                for worker, (model, _) in workers_of(server.pid).items()
                if any(region in _mapped_files(worker) for region in large)
            }
            for model in models:
                watcher.load_again(
                    model, f"keeps over {_MOST_REGION_BYTES >> 20} MiB of shared memory", _LONGEST_PAUSE_S
                )
            next_s = time.monotonic() + _LONGEST_PAUSE_S


def _mapped_files(process: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/maps").read_bytes()
    return b""


def main() -> int:
    """Run a server until it ends; return its exit code, or 128 plus the signal that ended it."""
    parser = _parser()
    args, parent = parser.parse_args(), os.getppid()
    token = os.environ.pop(TOKEN_VARIABLE, "") or secrets.token_urlsafe(32)
    if not re.fullmatch(TOKEN_FORM, token):
        parser.error(TOKEN_RULE)
    stop_requested, request_stop = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(request_stop, _STOP))
    server = _start(
        [*_named_models(args.command), *_restrictions(args.closed_apis, token, no_http=args.no_http)], args.log
    )
    report, api = functools.partial(_report, args.log), Api(args.http, token)
    watcher = WorkerWatcher(server.pid, api, report)
    prefix = f"{args.folder.name}_" if args.folder else _REGION_PREFIX
    _in_thread(watcher.run)
    _in_thread(_watch_shared_memory, server, watcher, prefix)
    if args.default_model:
        _in_thread(_watch_start, api, args.default_model, watcher.stopping, report, request_stop)
    if args.grpc:
        _in_thread(_watch_grpc, server, args.grpc, args.grpc_timeout_s, watcher.stopping, report)
    ended = os.pidfd_open(server.pid)
    events, *_ = select.select([ended, stop_requested, *([sys.stdin] if args.parent_pipe else [])], [], [])
    start_failed = stop_requested in events and os.read(stop_requested, 1) == _START_FAILED
    watcher.stopping.set()
    code = _end(server, args.exit_timeout_s, may_hang=watcher.has_replaced)
    if args.folder:
        remove(args.folder, shared_memory_only=os.getppid() == parent)
    return code or int(start_failed)


def _in_thread(function: Callable[..., None], *arguments: Any) -> None:
    threading.Thread(target=function, args=arguments, daemon=True).start()


def _named_models(command: list[str]) -> list[str]:
    """Replace ``*`` in ``--load-model=*`` by the models of the repository.

    Otherwise Triton ends if the repository has another folder, such as ``lost+found`` or ``.git``.
    """
    folders = [flag.partition("=")[2] for flag in command if flag.startswith("--model-repository=")]
    models = sorted(path.parent.name for folder in folders for path in Path(folder).glob("[!.]*/config.pbtxt"))
    named = [f"--load-model={model}" for model in models]
    return [new for flag in command for new in (named if named and flag == "--load-model=*" else [flag])]


def _restrictions(closed_apis: str, token: str, *, no_http: bool) -> list[str]:
    """Return the flags of ``tritonserver`` that require the token for these APIs; with ``no_http`` for all of HTTP."""
    key = f"{TOKEN_HEADER}={token}"
    http_apis = ",".join(ALL_APIS) if no_http else closed_apis
    flags = [f"--http-restricted-api={http_apis}:{key}"] if http_apis else []
    return [*flags, f"--grpc-restricted-protocol={closed_apis}:{key}"] if closed_apis else flags


def _start(command: list[str], log: str | None) -> Server:
    with Path(log).open("ab") if log else contextlib.nullcontext() as output:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # a process group of its own, so that its workers can be killed with it
            preexec_fn=_prepare,  # noqa: PLW1509  # this process has only one thread at this point
        )


def _prepare() -> None:
    """In the server's process: set the signal for the parent's death, and a large stack limit."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    _, hard = resource.getrlimit(resource.RLIMIT_STACK)
    soft = _STACK_BYTES if hard == resource.RLIM_INFINITY else min(_STACK_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_STACK, (soft, hard))


def _workers_now(server: int) -> dict[int, tuple[str, str]]:
    """Read the workers twice if there seem to be none: the kernel's list misses some while one of them ends."""
    return workers_of(server) or workers_of(server)


def _end(server: Server, exit_timeout_s: int, *, may_hang: bool) -> int:
    """Let the server finish running requests; when that is done or takes too long, kill it and its workers.

    Triton ends its workers after the last response. Triton 2.51 then takes two more seconds to end. If a worker died
    during a request, Triton may wait for it without end.
    """
    begin_s, workers, has_finished = time.monotonic(), _workers_now(server.pid), False
    deadline_s = begin_s + exit_timeout_s + UNLOAD_TIMEOUT_S
    # More time if the server writes traces at its end, or if its workers do not show whether it has finished.
    leftover_s = 3.0 if not workers or "--trace" in str(server.args) else 0.2
    server.terminate()
    while (workers or may_hang) and not has_finished and time.monotonic() - begin_s < exit_timeout_s:
        time.sleep(_LOOK_EVERY_S)
        has_finished = not _workers_now(server.pid)
    if has_finished:
        deadline_s = time.monotonic() + leftover_s
    try:
        code = server.wait(max(0.0, deadline_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        code = 0 if has_finished else -signal.SIGKILL
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    return 128 - code if code < 0 else code


def remove(folder: Path, *, shared_memory_only: bool = False) -> None:
    """Remove the temporary folder of a server, and the shared memory that has its name as prefix."""
    for region in _SHARED_MEMORY.glob(f"{folder.name}_*"):
        with contextlib.suppress(OSError):  # another user may have made a file of this name
            region.unlink()
    if not shared_memory_only:
        shutil.rmtree(folder, ignore_errors=True)


def _report(log: str | None, line: str) -> None:
    """Print a line to standard error, and append it to the server's log if that is a file."""
    with contextlib.suppress(OSError):  # standard error is closed, or the disk is full
        print(f"watchdog: {line}", file=sys.stderr, flush=True)  # noqa: T201  # a command
    with contextlib.suppress(OSError), Path(log or os.devnull).open("a", encoding="utf-8") as stream:
        stream.write(f"watchdog: {line}\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="watchdog", description="Run tritonserver and replace workers that die.")
    add = parser.add_argument
    add("--http", default="http://127.0.0.1:8000", metavar="URL", help="Address of Triton's HTTP API")
    add("--default-model", metavar="MODEL", help="End the server, with exit code 1, if it starts without this model")
    about = "Address of Triton's gRPC port, without TLS; if it accepts no connections, the server is killed"
    add("--grpc", metavar="HOST:PORT", help=about)
    about = "How long a gRPC connection may take (default: %(default)s)"
    add("--grpc-timeout-s", type=float, default=30.0, metavar="SECONDS", help=about)
    about = "APIs that require the admin token (default: %(default)s)"
    add("--closed-apis", default=",".join(CLOSED_APIS), metavar="NAMES", help=about)
    add("--no-http", action="store_true", help="Require the admin token for every request over HTTP")
    about = "The value of tritonserver's --exit-timeout-secs (default: %(default)s)"
    add("--exit-timeout-s", type=int, default=30, metavar="SECONDS", help=about)
    add("--log", metavar="FILE", help="Append the server's output to FILE (default: standard output)")
    add("--parent-pipe", action="store_true", help="Stop the server when standard input closes")
    about = "Temporary folder, whose name is the prefix of the shared memory; removed if the parent has ended"
    add("--folder", type=Path, metavar="DIR", help=about)
    add("command", nargs="+", metavar="COMMAND", help="tritonserver and its flags, after --")
    return parser


if __name__ == "__main__":
    sys.exit(main())
