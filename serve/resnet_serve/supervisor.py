"""Runs ``tritonserver``, closes what strangers have no business with, and replaces workers that died.

The Python backend runs each instance of a model in a worker process. When one dies, Triton goes on to call the
model ready and answers nothing. So the supervisor watches the workers; when one is gone although its model is
«ready», it has Triton load the model once more, beside the broken one, which then makes way. Unloading first
would take the ensembles around the model away with it, and their callers would be told at once, and as fast as
they ask, that there is no such model; the broken one fails slowly, a batch a second, until the new one is there.

It passes SIGTERM and SIGINT on, and returns the server's exit code. One file of the standard library alone,
so that a container can run it as `resnet-serve` does:

    python3 -I supervisor.py -- tritonserver --model-repository=/models --model-control-mode=explicit …
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import json
import os
import re
import secrets
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TOKEN_VARIABLE = "RESNET_ADMIN_TOKEN"  # noqa: S105  # a name, no token
TOKEN_HEADER = "admin-key"  # noqa: S105  # likewise
TOKEN_FORM = r"[A-Za-z0-9._~-]{16,}"  # noqa: S105  # Triton splits its flags at other characters
TOKEN_RULE = "the admin token must have 16 or more letters, digits, and any of . _ ~ -"  # noqa: S105  # likewise
# What nobody needs for classifying, and what could be used against a server. Triton's names.
CLOSED_APIS = ("model-repository", "shared-memory", "statistics", "trace", "logging")

_STUB = "triton_python_backend_stub"
_PR_SET_PDEATHSIG = 1
# Loading a network with its warm-up can take minutes where there is a GPU to compile for.
_LOAD_TIMEOUT_S = 600.0
# Often enough to see a worker before it is ready, which takes a tenth of a second with all files in memory: one that
# dies before that fails its own load, one that dies later unseen would not be missed.
_PEEK_EVERY_S = 0.1
_LOOK_EVERY_S = 0.2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
# Beyond the server's own limit for running requests: unloading models and ending workers.
_UNLOAD_TIMEOUT_S = 15
_REMNANT_TIMEOUT_S = 3


class Api:
    """Triton's HTTP API on this machine, at a URL such as ``http://127.0.0.1:8000``, asked with the admin token."""

    def __init__(self, url: str, token: str) -> None:
        self._address, self._headers = url.removeprefix("http://"), {TOKEN_HEADER: token}

    def ask(self, path: str, body: dict[str, Any] | None = None, *, timeout_s: float = 5.0) -> Any:
        """Return the answer to a GET, or to a POST if there is a body; None if it is empty.

        Raises:
            OSError: the server cannot be reached, or refuses; the message holds its reason.
        """
        import http.client  # slower to import than all else here, and not needed before the server runs

        connection = http.client.HTTPConnection(self._address, timeout=timeout_s)
        method, content = ("GET", None) if body is None else ("POST", json.dumps(body))
        try:
            connection.request(method, f"/{path}", content, self._headers)
            response = connection.getresponse()
            answer = response.read()
        except http.client.HTTPException as exc:
            raise OSError(f"{type(exc).__name__}: {exc}") from exc
        finally:
            connection.close()
        if response.status != http.HTTPStatus.OK:
            raise OSError(f"{response.status} {answer.decode(errors='replace')}")
        return json.loads(answer) if answer else None


def restriction_flags(token: str, closed: list[str]) -> list[str]:
    """Flags of ``tritonserver`` that open the named APIs to the token only; gRPC wants a prefix to the header."""
    if not closed:
        return []
    rule = f"{','.join(closed)}:{TOKEN_HEADER}={token}"
    return [f"--http-restricted-api={rule}", f"--grpc-restricted-protocol={rule}"]


def workers_of(server: int) -> dict[int, tuple[str, str]]:
    """Model and version of each living worker of a server, by process id."""
    found = {}
    for thread in Path(f"/proc/{server}/task").glob("*/children"):
        with contextlib.suppress(OSError):  # the thread has ended
            for child in map(int, thread.read_text(encoding="ascii").split()):
                if artifact := _artifact_of(child):
                    found[child] = (artifact.parent.parent.name, artifact.parent.name)
    return found


def _artifact_of(process: int) -> Path | None:
    """Path of what a worker serves, ``…/<model>/<version>/<file>``; a zombie has no arguments any more."""
    with contextlib.suppress(OSError):
        arguments = Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0")
        if arguments[0].endswith(_STUB.encode()):
            return Path(os.fsdecode(arguments[1]))
    return None


def _parent_of(process: int) -> int | None:
    """Process id of the parent; None if the process is gone."""
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[1])
    return None


class Watcher(threading.Thread):
    """Watches a server's workers until ``stopping`` is set, and has models loaded again whose workers died.

    Args:
        server: process id of ``tritonserver``.
        api: its HTTP API.
        say: takes one line for people.
    """

    def __init__(self, server: int, api: Api, say: Callable[[str], None]) -> None:
        super().__init__(name="watcher", daemon=True)
        self.has_healed = False
        self._server, self._api, self._say = server, api, say
        self.stopping = threading.Event()
        self._workers: dict[int, tuple[str, str]] = {}
        self._strangers: set[int] = set()
        self._suspects: set[str] = set()
        self._pause_s: dict[str, float] = {}
        self._not_before_s: dict[str, float] = {}

    def run(self) -> None:
        """Look whenever a worker begins or ends, and once in a while as long as something is to be mended."""
        has_ended = False
        while not self.stopping.is_set():
            if has_ended or self._suspects or self._has_new_child():
                self.look()
            has_ended = _wait_for_an_end(list(self._workers), _LOOK_EVERY_S if self._suspects else _PEEK_EVERY_S)

    def _has_new_child(self) -> bool:
        """Whether the server has a child that is no worker, or none yet.

        A server has 200 threads, and to ask each for its children takes 3 ms; to list all processes, 0.1 ms.
        """
        present = {int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()}
        unknown = present - self._strangers - self._workers.keys()
        children = {process for process in unknown if _parent_of(process) == self._server}
        self._strangers = present - children - self._workers.keys()
        return bool(children)

    def look(self) -> None:
        """Find out which workers have ended; load their models again where that is due."""
        alive = workers_of(self._server)
        self._suspects |= {model for worker, (model, _) in self._workers.items() if worker not in alive}
        self._workers = alive
        for model in sorted(self._suspects):
            if self.stopping.is_set() or time.monotonic() < self._not_before_s.get(model, 0.0):
                continue
            # What does not answer is starting, stopping or gone: not the time to do anything.
            with contextlib.suppress(OSError, ValueError, LookupError):
                if self._lacks_workers(model):
                    self._load_again(model)
                else:
                    self._suspects.discard(model)

    def _lacks_workers(self, model: str) -> bool:
        """Whether a ready version has fewer workers than instances; one that somebody unloads is not ready."""
        for entry in self._api.ask("v2/repository/index", {}):
            if entry["name"] == model and entry.get("state") == "READY":
                config = self._api.ask(f"v2/models/{model}/versions/{entry['version']}/config")
                wanted = sum(group["count"] * max(1, len(group.get("gpus", []))) for group in config["instance_group"])
                # Counted anew: a worker that has just been replaced by an orderly load is there.
                if list(workers_of(self._server).values()).count((model, entry["version"])) < wanted:
                    return True
        return False

    def _load_again(self, model: str) -> None:
        started_s = time.monotonic()
        pause_s = self._next_pause_s(model)
        self.has_healed = True
        try:
            config = _changed(self._api.ask(f"v2/models/{model}/config"))
            body = {"parameters": {"config": json.dumps(config)}}
            self._api.ask(f"v2/repository/models/{model}/load", body, timeout_s=_LOAD_TIMEOUT_S)
        except OSError as exc:
            if not self.stopping.is_set():
                self._say(f"a worker of {model} died, and loading it again failed ({exc}); next try in {pause_s:g} s")
        else:
            self._say(f"a worker of {model} died; {model} is loaded again after {time.monotonic() - started_s:.1f} s")
        self._not_before_s[model] = time.monotonic() + pause_s

    def _next_pause_s(self, model: str) -> float:
        """How long to leave a model alone after this time: longer each time, until it has held for a while."""
        has_held = time.monotonic() - self._not_before_s.get(model, 0.0) >= _LONGEST_PAUSE_S
        longer_s = _FIRST_PAUSE_S if has_held or model not in self._pause_s else 2 * self._pause_s[model]
        self._pause_s[model] = min(longer_s, _LONGEST_PAUSE_S)
        return self._pause_s[model]


def _changed(config: dict[str, Any]) -> dict[str, Any]:
    """The present configuration, which keeps what an earlier load has set, such as the versions to serve.

    Changed, for Triton loads nothing that has not; and warmed up with the first batch only, for callers wait.
    """
    now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    parameters = {**config.get("parameters", {}), "loaded_again": {"string_value": now}}
    return {**config, "parameters": parameters, "model_warmup": config.get("model_warmup", [])[:1]}


def _wait_for_an_end(processes: list[int], timeout_s: float) -> bool:
    """Wait until one of the processes has ended, a zombie included, and return True; or until the time is up."""
    with contextlib.ExitStack() as opened, contextlib.suppress(ProcessLookupError):
        watched = [opened.enter_context(_ending(process)) for process in processes]
        return bool(select.select(watched, [], [], timeout_s)[0])
    return True


@contextlib.contextmanager
def _ending(process: int) -> Iterator[int]:
    """A file descriptor that can be read from once a process has ended."""
    descriptor = os.pidfd_open(process)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def hide_argument(server: int, secret: str) -> None:
    """Overwrite a secret in a process's arguments, which all users can read, where the kernel allows it.

    Waits until the server has read them, which it has when it starts its second thread.
    """
    with contextlib.suppress(OSError):
        while len(list(Path(f"/proc/{server}/task").iterdir())) == 1:
            time.sleep(0.01)
        fields = Path(f"/proc/{server}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end; state is the third of all
        with Path(f"/proc/{server}/mem").open("r+b", buffering=0) as memory:
            memory.seek(begin)
            arguments = memory.read(end - begin)
            memory.seek(begin)
            memory.write(arguments.replace(secret.encode(), b"*" * len(secret)))


def main() -> int:
    """Run a server until it ends; return its exit code, 128 and more for one that a signal ended."""
    parser = _parser()
    args = parser.parse_args()
    token = os.environ.pop(TOKEN_VARIABLE, "") or secrets.token_urlsafe(32)
    if not re.fullmatch(TOKEN_FORM, token):
        parser.error(TOKEN_RULE)
    wake, asked = os.pipe()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os.write(asked, b"."))
    closed = [name for name in args.closed_apis.split(",") if name]
    with Path(args.log).open("ab") if args.log else contextlib.nullcontext() as log:
        server = subprocess.Popen(
            [*args.command, *restriction_flags(token, closed)],
            stdout=log,
            stderr=log,
            # A group of its own: Ctrl-C is ours to pass on, and its workers can be ended with it.
            start_new_session=True,
            preexec_fn=_die_with_parent,  # noqa: PLW1509  # there is one thread yet
        )
    threading.Thread(target=hide_argument, args=(server.pid, token), daemon=True).start()
    watcher = Watcher(server.pid, Api(args.http, token), lambda line: _say(args.log, line))
    watcher.start()
    with _ending(server.pid) as ended:
        select.select([ended, wake], [], [])
    watcher.stopping.set()
    return _end(server, args.exit_timeout_s, has_remnants=watcher.has_healed)


def _end(server: subprocess.Popen[bytes], exit_timeout_s: int, *, has_remnants: bool) -> int:
    """Let the server finish; if it does not, end it; end its workers, which would outlive it."""
    limit_s = time.monotonic() + exit_timeout_s + _UNLOAD_TIMEOUT_S
    with contextlib.suppress(ProcessLookupError):
        server.send_signal(signal.SIGTERM)
    is_done = False
    if has_remnants:
        # Of a worker that died at work something can be left that Triton waits for in vain. It ends the
        # living workers only after the last request, so when they are gone there is nothing to wait for.
        while server.poll() is None and not is_done and time.monotonic() < limit_s:
            time.sleep(0.1)
            is_done = not workers_of(server.pid)
        limit_s = min(limit_s, time.monotonic() + _REMNANT_TIMEOUT_S)
    try:
        code = server.wait(max(0.0, limit_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        code = 0 if is_done else -signal.SIGKILL
    with contextlib.suppress(ProcessLookupError):
        os.killpg(server.pid, signal.SIGKILL)
    server.wait()
    return 128 - code if code < 0 else code


def _say(log: str | None, line: str) -> None:
    """Say a line on standard error, and in the server's log where that is elsewhere."""
    with contextlib.suppress(OSError):  # nobody listens there any more, or the disk is full
        print(f"supervisor: {line}", file=sys.stderr, flush=True)  # noqa: T201  # a command
    with contextlib.suppress(OSError), Path(log or os.devnull).open("a", encoding="utf-8") as stream:
        stream.write(f"supervisor: {line}\n")


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="supervisor", description="Run tritonserver and keep its workers alive.")
    parser.add_argument("--http", default="http://127.0.0.1:8000", metavar="URL", help="where its HTTP API will be")
    parser.add_argument("--closed-apis", default=",".join(CLOSED_APIS), metavar="NAMES", help="default: %(default)s")
    parser.add_argument("--exit-timeout-s", type=int, default=30, metavar="S", help="as --exit-timeout-secs")
    parser.add_argument("--log", metavar="FILE", help="the server's output is appended here (default: ours)")
    parser.add_argument("command", nargs="+", help="tritonserver and its flags")
    return parser


if __name__ == "__main__":
    sys.exit(main())
