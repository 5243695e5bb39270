"""The processes that make the load: this one alone, or workers that Locust's master commands."""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Protocol

import gevent
from locust.env import Environment

from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.generator import Chunk, Generator
from resnet_loadtest.users import weighted
from resnet_loadtest.workloads import parse_mix

if TYPE_CHECKING:
    from collections.abc import Callable

    from locust.rpc import Message

    from resnet_loadtest.options import Options

PREPARE, PREPARED, BEGIN, FINISH, CHUNK, FINISHED, FAILED = (
    f"resnet_{word}" for word in ("prepare", "prepared", "begin", "finish", "chunk", "finished", "failed")
)
_CONNECT_S = 60.0
_PREPARE_S = 60.0
_STOP_S = 30.0
# Workers get the word at slightly different times; none should begin in the past.
_LEAD_S = 0.2


class Fleet(Protocol):
    """Makes the load that it is told to."""

    def prepare(self) -> None:
        """Have every process load its photos and connect."""

    def begin(self) -> float:
        """Start the clocks; returns how many seconds from now."""

    def set_users(self, count: int) -> None:
        """Closed loop: this many users from now on."""

    def finish(self) -> None:
        """Wait until every process has its last answer and has told all."""

    def close(self) -> None:
        """End the processes."""


def assemble(options: Options, collect: Callable[[Chunk], None]) -> Fleet:
    """The fleet that the options ask for."""
    return Workers(options, collect) if options.worker_count else Alone(options, collect)


class Alone:
    """No workers: the process does it all."""

    def __init__(self, options: Options, collect: Callable[[Chunk], None]) -> None:
        self._options = options
        self._collect = collect
        self._environment = Environment(user_classes=[*weighted(parse_mix(options.mix))])
        self._environment.stop_timeout = options.timeout_s
        self._runner = self._environment.create_local_runner()

    def prepare(self) -> None:
        """Load photos, connect."""
        self._generator = Generator(self._options, self._environment, tell=self._collect)

    def begin(self) -> float:
        """Start the clock."""
        self._generator.begin(_LEAD_S)
        return _LEAD_S

    def set_users(self, count: int) -> None:
        """Have Locust start or stop users."""
        self._runner.start(count, spawn_rate=self._options.spawn_rate)

    def finish(self) -> None:
        """Wait for the last answer."""
        self._generator.finish()

    def close(self) -> None:
        """Stop the users, whose clients are closed then."""
        self._runner.quit()


class Workers:
    """Several processes, here or on other machines."""

    def __init__(self, options: Options, collect: Callable[[Chunk], None]) -> None:
        self._options = options
        self._collect = collect
        self._done: dict[str, set[str]] = {PREPARED: set(), FINISHED: set()}
        self._failure: str | None = None
        self._told = self._announced = 0
        self._environment = Environment(user_classes=[*weighted(parse_mix(options.mix))])
        self._environment.stop_timeout = options.timeout_s
        host = "*" if options.expect_workers else "127.0.0.1"
        self._runner = self._environment.create_master_runner(host, options.master_port)
        for kind, handler in {
            PREPARED: self._on_done, FINISHED: self._on_done, CHUNK: self._on_chunk, FAILED: self._on_failed
        }.items():  # fmt: skip
            self._runner.register_message(kind, handler)
        command = [sys.executable, "-m", "resnet_loadtest", "worker", "--master-port", str(options.master_port)]
        self._processes = [subprocess.Popen(command) for _ in range(options.processes)]

    def prepare(self) -> None:
        """Wait for the workers, number them, have each load photos and connect."""
        count = self._options.worker_count
        self._wait(lambda: self._runner.worker_count >= count, _CONNECT_S, f"{count} workers to connect")
        self._ids = sorted(self._runner.clients)[:count]
        for index, client_id in enumerate(self._ids):
            plan = {"options": self._options.to_dict(), "index": index, "count": count}
            self._runner.send_message(PREPARE, plan, client_id)
        self._wait(lambda: len(self._done[PREPARED]) == count, _PREPARE_S, "the workers to get ready")

    def begin(self) -> float:
        """Start their clocks."""
        for client_id in self._ids:
            self._runner.send_message(BEGIN, {"lead_s": _LEAD_S}, client_id)
        return _LEAD_S

    def set_users(self, count: int) -> None:
        """Have Locust spread users over the workers."""
        gevent.spawn(self._runner.start, count, spawn_rate=self._options.spawn_rate)

    def finish(self) -> None:
        """Wait until each has told all, and nothing got lost on the way."""
        for client_id in self._ids:
            self._runner.send_message(FINISH, {}, client_id)
        wait_s = self._options.timeout_s + _STOP_S
        self._wait(lambda: len(self._done[FINISHED]) == len(self._ids), wait_s, "the workers to finish")
        if self._told != self._announced:
            raise LoadTestError(f"of {self._announced} samples only {self._told} arrived from the workers")

    def close(self) -> None:
        """Send the workers home."""
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
        self._told += len(chunk.samples)
        self._collect(chunk)

    def _on_failed(self, environment: Environment, msg: Message) -> None:
        del environment
        self._failure = str(msg.data["reason"])

    def _wait(self, is_done: Callable[[], bool], timeout_s: float, what: str) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not is_done():
            if self._failure:
                raise LoadTestError(f"a worker failed: {self._failure}")
            if any(process.poll() for process in self._processes):
                raise LoadTestError("a worker process ended by itself; its message is above")
            if time.monotonic() > deadline_s:
                raise LoadTestError(f"waited {timeout_s:.0f} s for {what}")
            gevent.sleep(0.05)
