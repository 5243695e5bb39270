"""Servers that may be killed, callers that never stop, and the results that each promise is held to."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self

import pytest
from resnet_client import Client, ResnetClientError
from resnet_serve import ServerConfig, TritonServer

_RESULTS = pytest.StashKey[list[str]]()


def pytest_configure(config: pytest.Config) -> None:
    """Make room for the results."""
    config.stash.setdefault(_RESULTS, [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what was measured, one line for each promise."""
    if results := terminalreporter.config.stash[_RESULTS]:
        terminalreporter.section("results")
        for note in results:
            terminalreporter.write_line(note)


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note a measured note; all are printed after the run."""
    results = request.config.stash[_RESULTS]
    return lambda text: results.append(f"{request.node.name}: {text}")


@pytest.fixture
def start_server(repository: Path) -> Iterator[Callable[..., TritonServer]]:
    """Start a server of the test's own on free ports, by default with ``resnet50`` only; it ends with the test."""
    with contextlib.ExitStack() as running:

        def start(folder: Path = repository, **options: object) -> TritonServer:
            return running.enter_context(TritonServer(ServerConfig(folder, port=0, **options)))

        yield start


@dataclasses.dataclass(frozen=True)
class Call:
    """One call of a caller.

    Attributes:
        sent_s: when it began, on the monotonic clock.
        duration_s: how long it took.
        index: the class found; None where it failed.
        error: what it raised; None where it went well.
    """

    sent_s: float
    duration_s: float
    index: int | None = None
    error: ResnetClientError | None = None


class Callers:
    """Threads that classify one image again and again, each with at most one call in flight.

    >>> with Callers(client, image, count=4) as callers:
    ...     callers.wait_for(50)
    ... callers.failed
    """

    def __init__(self, client: Client, image: bytes | Path, *, count: int, **options: object) -> None:
        self.calls: list[Call] = []
        self._client, self._image, self._options = client, image, options
        self._grown = threading.Condition()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._call_again_and_again) for _ in range(count)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def failed(self) -> list[Call]:
        """The calls that raised."""
        return [call for call in self.calls if call.error is not None]

    def wait_for(self, count: int, *, timeout_s: float = 120.0) -> None:
        """Wait until ``count`` more calls have ended."""
        aim = len(self.calls) + count
        with self._grown:
            assert self._grown.wait_for(lambda: len(self.calls) >= aim, timeout_s), "the callers stand still"

    def _call_again_and_again(self) -> None:
        while not self._stop.is_set():
            call = self._one()
            with self._grown:
                self.calls.append(call)
                self._grown.notify_all()

    def _one(self) -> Call:
        sent_s = time.monotonic()
        try:
            found = self._client.classify(self._image, **self._options)
        except ResnetClientError as exc:
            return Call(sent_s, time.monotonic() - sent_s, error=exc)
        return Call(sent_s, time.monotonic() - sent_s, index=found.top.index)
