"""The processes that generate the load: this process, or workers that Locust's master controls."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Protocol

import gevent
from locust.env import Environment
from locust.rpc import Message
from locust.runners import STATE_MISSING

from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.generator import Generator
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Chunk
from resnet_loadtest.users import USERS, weighted
from resnet_loadtest.workloads import parse_mix

_PREPARE, _PREPARED, _BEGIN, _FINISH, _CHUNK, _FINISHED, _FAILED = (
    f"resnet_{word}" for word in ("prepare", "prepared", "begin", "finish", "chunk", "finished", "failed")
)
_CONNECT_S = 60.0
_PREPARE_S = 60.0
_STOP_S = 30.0
# Workers receive the message at slightly different times; the start must be in the future for all.
_LEAD_S = 0.2


class Workers(Protocol):
    """The processes of one run."""

    def prepare(self) -> None:
        """Load the images and connect, in every process."""

    def begin(self) -> float:
        """Start the clocks; returns the seconds until they start."""

    def set_users(self, count: int) -> None:
        """Closed loop: change the number of users."""

    def lost(self) -> str:
        """Why a process was lost; empty if none was."""

    def finish(self, *, early: bool) -> None:
        """Wait until every process has its last response and has reported all samples.

        Args:
            early: send no further requests, although the schedule has some.
        """

    def close(self) -> None:
        """End the processes."""


def create(options: Options, collect: Callable[[Chunk], None]) -> Workers:
    """Create the processes of a run."""
    return WorkerProcesses(options, collect) if options.worker_count else LocalWorker(options, collect)


class LocalWorker:
    """Generates all the load in this process."""

    def __init__(self, options: Options, collect: Callable[[Chunk], None]) -> None:
        self._options = options
        self._collect = collect
        self._environment = Environment(user_classes=[*weighted(parse_mix(options.mix))], host=options.url)
        self._environment.stop_timeout = options.timeout_s
        self._runner = self._environment.create_local_runner()

    def prepare(self) -> None:
        """Load the images and connect."""
        self._generator = Generator(self._options, self._environment, report=self._collect)

    def begin(self) -> float:
        """Start the clock."""
        self._generator.begin(_LEAD_S)
        return _LEAD_S

    def set_users(self, count: int) -> None:
        """Let Locust start or stop users."""
        self._runner.start(count, spawn_rate=self._options.spawn_rate)

    def lost(self) -> str:
        """Never lost."""
        return ""

    def finish(self, *, early: bool) -> None:
        """Wait for the last response."""
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
        self._failure: str | None = None
        self._ids: set[str] = set()
        self._received = self._announced = 0
        self._environment = Environment(user_classes=[*weighted(parse_mix(options.mix))], host=options.url)
        self._environment.stop_timeout = options.timeout_s
        host = "*" if options.expect_workers else "127.0.0.1"
        self._runner = self._environment.create_master_runner(host, options.master_port)
        self._runner.register_message(_PREPARED, self._on_done)
        self._runner.register_message(_FINISHED, self._on_done)
        self._runner.register_message(_CHUNK, self._on_chunk)
        self._runner.register_message(_FAILED, self._on_failed)
        command = [sys.executable, "-m", "resnet_loadtest", "worker", "--master-port", str(options.master_port)]
        # In a process group of their own, because Ctrl-C must not end them before they have reported.
        self._processes = [subprocess.Popen(command, process_group=0) for _ in range(options.processes)]

    def prepare(self) -> None:
        """Wait for the workers; have each load images and connect."""
        count = self._options.worker_count
        self._wait(lambda: self._runner.worker_count >= count, _CONNECT_S, f"{count} workers to connect")
        chosen = sorted(self._runner.clients)[:count]
        self._ids = set(chosen)
        for index, client_id in enumerate(chosen):
            part = {"options": self._options.to_dict(), "index": index, "count": count}
            self._runner.send_message(_PREPARE, part, client_id)
        self._wait(lambda: len(self._done[_PREPARED]) == count, _PREPARE_S, "the workers to get ready")

    def begin(self) -> float:
        """Start their clocks."""
        for client_id in self._ids:
            self._runner.send_message(_BEGIN, {"lead_s": _LEAD_S}, client_id)
        return _LEAD_S

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
        """Wait until each worker that is left has reported all samples; fail if samples were lost on the way."""
        for client_id in self._ids:
            self._runner.send_message(_FINISH, {"early": early}, client_id)
        wait_s = self._options.timeout_s + _STOP_S
        self._wait(self._are_finished, wait_s, "the workers to finish", needs_all=False)
        if not self.lost() and self._received != self._announced:
            raise LoadTestError(f"the workers sent {self._announced} samples, but {self._received} arrived")

    def close(self) -> None:
        """Stop the workers."""
        self._runner.quit()
        for process in self._processes:
            try:
                process.wait(timeout=5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _on_done(self, environment: Environment, msg: Message) -> None:
        del environment
        self._announced += msg.data.get("samples", 0)
        self._done[msg.type].add(msg.node_id)

    def _on_chunk(self, environment: Environment, msg: Message) -> None:
        del environment
        chunk = Chunk.from_message(msg.data)
        self._received += len(chunk.samples)
        self._collect(chunk)

    def _on_failed(self, environment: Environment, msg: Message) -> None:
        del environment
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


class Worker:
    """The process of ``resnet-loadtest worker``: works for the master until it quits."""

    def __init__(self, master_host: str, master_port: int) -> None:
        """Connect; raises ``ConnectionError`` if the master does not answer within a minute."""
        self._environment = Environment(user_classes=[*USERS])
        self._runner = self._environment.create_worker_runner(master_host, master_port)
        self._generator: Generator | None = None
        self._sent = 0
        # `concurrent`, so that a handler that waits does not block Locust's own messages.
        self._runner.register_message(_PREPARE, self._on_prepare, concurrent=True)
        self._runner.register_message(_BEGIN, self._on_begin)
        self._runner.register_message(_FINISH, self._on_finish, concurrent=True)

    def run(self) -> None:
        """Work until the master quits."""
        self._runner.greenlet.join()

    def _on_prepare(self, environment: Environment, msg: Message) -> None:
        options = Options.from_dict(msg.data["options"])
        index, count = msg.data["index"], msg.data["count"]
        self._sent = 0
        try:
            self._generator = Generator(options, environment, index=index, count=count, report=self._send)
        except Exception as exc:  # noqa: BLE001  # the master reports it
            self._runner.send_message(_FAILED, {"reason": f"{type(exc).__name__}: {exc}"})
        else:
            self._runner.send_message(_PREPARED, {})

    def _on_begin(self, environment: Environment, msg: Message) -> None:
        del environment
        self._prepared().begin(msg.data["lead_s"])

    def _on_finish(self, environment: Environment, msg: Message) -> None:
        del environment
        self._prepared().finish(early=msg.data["early"])
        self._runner.send_message(_FINISHED, {"samples": self._sent})

    def _send(self, chunk: Chunk) -> None:
        self._sent += len(chunk.samples)
        self._runner.send_message(_CHUNK, chunk.to_message())

    def _prepared(self) -> Generator:
        if self._generator is None:
            raise RuntimeError(
                "the master started the load before this worker was prepared; restart master and workers"
            )
        return self._generator
