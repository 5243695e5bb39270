"""The processes that generate the load: this process, or workers that Locust's master controls."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any, TypeAlias

import gevent
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_MISSING

from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.generator import Generator
from resnet_loadtest.options import Options, resolve
from resnet_loadtest.samples import Chunk
from resnet_loadtest.users import USERS, weighted
from resnet_loadtest.workloads import parse_mix

_PREPARE, _PREPARED, _BEGIN, _FINISH, _CHUNK, _FINISHED, _FAILED = (
    f"resnet_{word}" for word in ("prepare", "prepared", "begin", "finish", "chunk", "finished", "failed")
)
_READY_S = 60.0
_STOP_S = 30.0
# Workers receive the message at slightly different times; the start must be in the future for all.
LEAD_S = 0.2


class LocalWorker:
    """Generates all the load in this process."""

    def __init__(self, options: Options, collect: Callable[[Chunk], None]) -> None:
        self._options = options
        self._collect = collect
        self._environment = _environment(options)
        self._runner = self._environment.create_local_runner()

    def prepare(self) -> None:
        """Load the images and connect."""
        self._generator = Generator(self._options, self._environment, self._collect)

    def begin(self) -> None:
        """Start the clock in ``LEAD_S`` seconds."""
        self._generator.begin(LEAD_S)

    def set_users(self, count: int) -> None:
        """Closed loop: let Locust start or stop users."""
        self._runner.start(count, spawn_rate=self._options.spawn_rate)

    def lost(self) -> str:
        """Never lost."""
        return ""

    def finish(self, *, early: bool) -> None:
        """Wait for the last response; ``early``: send no further requests, although the schedule has some."""
        self._generator.finish(early=early)

    def close(self) -> None:
        """Stop the users and their clients."""
        self._runner.quit()


class WorkerProcesses:
    """Generates the load in several processes, on this or on other machines."""

    def __init__(self, options: Options, collect: Callable[[Chunk], None]) -> None:
        self._options = options
        self._collect = collect
        self._done: dict[str, set[str]] = {_PREPARED: set(), _FINISHED: set()}
        self._failure = ""
        self._ids: set[str] = set()
        host = "*" if options.expect_workers else "127.0.0.1"
        self._runner = _environment(options).create_master_runner(host, options.master_port)
        self._runner.register_message(_PREPARED, self._on_done)
        self._runner.register_message(_FINISHED, self._on_done)
        self._runner.register_message(_CHUNK, self._on_chunk)
        self._runner.register_message(_FAILED, self._on_failed)
        command = [sys.executable, "-m", "resnet_loadtest", "worker", "--master-port", str(options.master_port)]
        # In a process group of their own, because Ctrl-C must not end them before they have reported.
        self._processes = [subprocess.Popen(command, process_group=0) for _ in range(options.processes)]

    def prepare(self) -> None:
        """Wait for the workers; have each load images and connect."""
        count = self._options.processes + self._options.expect_workers
        self._wait(lambda: self._runner.worker_count >= count, _READY_S, f"{count} workers to connect")
        chosen = sorted(self._runner.clients)[:count]
        self._ids = set(chosen)
        for index, client_id in enumerate(chosen):
            part = {"options": self._options.to_dict(), "index": index, "count": count}
            self._runner.send_message(_PREPARE, part, client_id)
        self._wait(lambda: len(self._done[_PREPARED]) == count, _READY_S, "the workers to get ready")

    def begin(self) -> None:
        """Start their clocks in ``LEAD_S`` seconds."""
        for client_id in self._ids:
            self._runner.send_message(_BEGIN, {}, client_id)

    def set_users(self, count: int) -> None:
        """Let Locust spread users over the workers."""
        gevent.spawn(self._runner.start, count, spawn_rate=self._options.spawn_rate)

    def lost(self) -> str:
        """Why a worker was lost: its process has ended, or Locust no longer gets its heartbeat."""
        for process in self._processes:
            if process.poll() is not None:
                return f"a worker process ended with exit code {process.returncode}"
        lost = self._ids - self._living()
        return f"the worker {min(lost)} no longer answers" if lost else ""

    def finish(self, *, early: bool) -> None:
        """Wait until each worker that is left has reported all samples."""
        for client_id in self._ids:
            self._runner.send_message(_FINISH, {"early": early}, client_id)
        self._wait(self._are_finished, self._options.timeout_s + _STOP_S, "the workers to finish", needs_all=False)

    def close(self) -> None:
        """Stop the workers."""
        self._runner.quit()
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _on_done(self, msg: Message, **_: Any) -> None:
        self._done[msg.type].add(msg.node_id)

    def _on_chunk(self, msg: Message, **_: Any) -> None:
        self._collect(Chunk.from_message(msg.data))

    def _on_failed(self, msg: Message, **_: Any) -> None:
        self._failure = str(msg.data["reason"])

    def _are_finished(self) -> bool:
        return self._done[_FINISHED] >= self._ids & self._living()

    def _living(self) -> set[str]:
        return {client.id for client in self._runner.clients.values() if client.state != STATE_MISSING}

    def _wait(self, is_done: Callable[[], bool], timeout_s: float, what: str, *, needs_all: bool = True) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not is_done():
            if self._failure:
                raise LoadTestError(f"a worker failed: {self._failure}")
            if needs_all and (reason := self.lost()):
                raise LoadTestError(f"{reason}; see its message above")
            if time.monotonic() > deadline_s:
                raise LoadTestError(f"timeout after {timeout_s:.0f} s: waited for {what}")
            gevent.sleep(0.05)


Workers: TypeAlias = LocalWorker | WorkerProcesses
"""The processes of one run."""


def create(options: Options, collect: Callable[[Chunk], None]) -> Workers:
    """Create the processes of a run."""
    kind = WorkerProcesses if options.processes or options.expect_workers else LocalWorker
    return kind(options, collect)


def _environment(options: Options) -> Environment:
    environment = Environment(user_classes=[*weighted(parse_mix(options.mix))], host=options.url)
    environment.stop_timeout = options.timeout_s
    return environment


class Worker:
    """The process of ``resnet-loadtest worker``: works for the master until it quits."""

    def __init__(self, master_host: str, master_port: int) -> None:
        """Connect; raises ``ConnectionError`` if the master does not answer within a minute."""
        self._environment = Environment(user_classes=[*USERS.values()])
        self._runner = self._environment.create_worker_runner(master_host, master_port)
        # `concurrent`, so that a handler that waits does not block Locust's own messages.
        self._runner.register_message(_PREPARE, self._on_prepare, concurrent=True)
        self._runner.register_message(_BEGIN, self._on_begin)
        self._runner.register_message(_FINISH, self._on_finish, concurrent=True)

    def run(self) -> None:
        """Work until the master quits."""
        self._runner.greenlet.join()

    def _on_prepare(self, environment: Environment, msg: Message) -> None:
        options = resolve(msg.data["options"], {})
        try:
            self._generator = Generator(options, environment, self._report, msg.data["index"], msg.data["count"])
        except Exception as exc:  # noqa: BLE001  # the master reports it
            self._runner.send_message(_FAILED, {"reason": f"{type(exc).__name__}: {exc}"})
        else:
            self._runner.send_message(_PREPARED, {})

    def _on_begin(self, **_: Any) -> None:
        self._generator.begin(LEAD_S)

    def _on_finish(self, msg: Message, **_: Any) -> None:
        self._generator.finish(early=msg.data["early"])
        self._runner.send_message(_FINISHED, {})

    def _report(self, chunk: Chunk) -> None:
        self._runner.send_message(_CHUNK, chunk.to_message())
