"""Run a load test: warm up, read the server's statistics, generate the load, read the statistics again."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import signal
import time
from collections.abc import Callable, Iterator
from typing import TypeAlias

import gevent
import numpy as np
from resnet_client import Client, ResnetClientError, ServerError
from rich.console import Console

from resnet_loadtest import workers
from resnet_loadtest.analysis import Ending, Run, Verdict
from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.options import AUTO_RATE, Options
from resnet_loadtest.samples import NEVER_SENT, UNANSWERED, Chunk, merged
from resnet_loadtest.schedule import Stage, stages, until
from resnet_loadtest.server_metrics import Observer
from resnet_loadtest.session import check_server, load_images
from resnet_loadtest.workers import Workers
from resnet_loadtest.workloads import WORKLOADS, parse_mix

Watch: TypeAlias = Callable[[float, Stage, list[Chunk]], None]
Record: TypeAlias = Callable[[Run], None]

_TICK_S = 0.25
_METRICS_S = 2.0
_RECORD_S = 1.0
_SHORTEST_S = 0.01
_CAPACITY_USERS = 16
_CAPACITY_S = 8.0


def _ignore(*_: object) -> None:
    pass


def run(options: Options, watch: Watch = _ignore, record: Record = _ignore) -> Run:
    """Run a load test, to its end or until Ctrl-C, SIGTERM, or the loss of the server or a worker.

    Args:
        options: of the run.
        watch: called several times a second with the time in seconds, the stage, and all chunks so far.
        record: called about once a second with a run that holds only what was measured since the last call.

    Raises:
        LoadTestError: the load test could not run.
    """
    metrics_url = options.check().url_for("metrics")
    try:
        with Client(options.url, model=options.model, timeout_s=options.timeout_s) as client:
            check_server(options)
            entries = _warm_up(client, options)
            chunks: list[Chunk] = []
            processes = workers.create(options, chunks.append)
            try:
                processes.prepare()
                observer = Observer(client, metrics_url, entries)
                return _drive(processes, _SoFar(options, chunks, observer, watch, record))
            finally:
                processes.close()
    except ResnetClientError as exc:
        raise LoadTestError(str(exc)) from exc


class _SoFar:
    """What a run has measured so far; shown to ``watch`` and, once a second, recorded."""

    def __init__(self, options: Options, chunks: list[Chunk], observer: Observer, watch: Watch, record: Record) -> None:
        self.options, self.observer = options, observer
        self._watch, self._record = watch, record
        self.course = stages(options.profile, options.level, options.duration_s)
        self._chunks = chunks
        self._started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
        self._taken, self._next_s = (0, 0), _RECORD_S
        self._looked_at, self._answered_s = 0, 0.0

    def tick(self, now_s: float, stage: Stage) -> None:
        """Call ``watch``; call ``record`` with what was measured since the last call, if a second has passed."""
        self._watch(now_s, stage, self._chunks)
        if now_s >= self._next_s:
            self._next_s = now_s + _RECORD_S
            self._record(self.run(now_s, *self._taken))
            self._taken = len(self._chunks), len(self.observer.readings)

    def run(self, end_s: float, chunk: int = 0, reading: int = 0, ended: Ending | None = None) -> Run:
        """The run until now, without the chunks and readings before these numbers."""
        chunks = self._chunks[chunk:]
        server = self.observer.server_side(first_reading=reading)
        generator = [each for part in chunks for each in part.metrics]
        samples = merged(part.samples for part in chunks)
        return Run(self.options, self._started, until(self.course, end_s), samples, generator, server, ended)

    def concluded(self, end_s: float, ended: Ending | None) -> Run:
        """The finished run, with the last statistics of the server."""
        try:
            self.observer.conclude(merged(chunk.samples for chunk in self._chunks))
        except ResnetClientError as exc:
            ended = ended or Ending("UNREACHABLE", str(exc))
        return self.run(end_s, ended=ended)

    def silence_s(self) -> float:
        """Seconds since the server last answered a request or returned its statistics."""
        for chunk in self._chunks[self._looked_at :]:
            if not np.isin(chunk.samples["status"], (*UNANSWERED, *NEVER_SENT)).all():
                self._answered_s = time.monotonic()
        self._looked_at = len(self._chunks)
        return time.monotonic() - max(self._answered_s, self.observer.answered_s)


def complete(options: Options) -> Run:
    """Run a load test to its end.

    Raises:
        LoadTestError: it could not run, or lost the server or a worker.
        KeyboardInterrupt: it was interrupted.
    """
    finished = run(options)
    if finished.verdict is Verdict.INTERRUPTED:
        raise KeyboardInterrupt
    if finished.ended:
        raise LoadTestError(finished.ended.reason)
    return finished


def with_measured_rate(options: Options, console: Console) -> Options:
    """Replace the rate ``auto`` by the measured throughput of closed-loop users.

    Raises:
        LoadTestError: the capacity could not be measured.
    """
    if options.rate != AUTO_RATE:
        return options
    console.print(f"measuring capacity: {_CAPACITY_USERS} users, {_CAPACITY_S:.0f} s …")
    local = dataclasses.replace(options, profile="steady", slo="", processes=0, expect_workers=0)
    whole = complete(dataclasses.replace(local, rate=None, users=_CAPACITY_USERS, duration_s=_CAPACITY_S)).whole
    answered = whole.requests - sum(whole.failures.values())
    if not answered:
        raise LoadTestError(
            "all requests failed while the capacity was measured; check the server with resnet-client doctor"
        )
    rate = round(answered / whole.duration_s, 2)
    console.print(f"capacity: about {rate:.1f} requests per second")
    return dataclasses.replace(options, rate=rate)


def _warm_up(client: Client, options: Options) -> dict[str, str]:
    """Send every workload for the warm-up time, and until each has succeeded.

    Returns model that gets requests → ensemble of which it is a step, if that gets requests too; empty for none.
    Some failures are accepted, because the run measures how often the server fails.
    """
    image = load_images(options.images)[0]
    called: dict[bool, str] = {}
    deadline_s = time.monotonic() + options.warm_up_s
    kinds = sorted({WORKLOADS[name].sends_pixels for name in parse_mix(options.mix)})
    while True:
        failure = None
        for sends_pixels in kinds:
            try:
                result = client.classify(image, preprocessing="client" if sends_pixels else "server")
                called[sends_pixels] = result.model
            except ServerError as exc:
                failure = exc
        if time.monotonic() >= deadline_s:
            if len(called) < len(kinds):
                raise LoadTestError(f"no request succeeded during the warm-up: {failure}") from failure
            models = set(called.values())
            ensemble = options.model if options.model in models else ""
            return {name: ensemble if name != options.model else "" for name in models}


def _drive(processes: Workers, so_far: _SoFar) -> Run:
    """Follow the stages, to the end or until there is a reason to end early."""
    processes.begin()
    zero_s = time.monotonic() + workers.LEAD_S
    scraper = gevent.spawn(_scrape, so_far.observer, zero_s)
    users, ended, end_s = 0, None, 0.0
    with collected_signals() as received:
        for stage in so_far.course:
            if stage is not so_far.course[0]:
                so_far.observer.end_stage()
            while not ended and (now_s := time.monotonic() - zero_s) < stage.end_s:
                wanted = max(1, round(stage.level_at(now_s)))
                if not so_far.options.is_open_loop and wanted != users:
                    users = wanted
                    processes.set_users(users)
                so_far.tick(now_s, stage)
                gevent.sleep(min(_TICK_S, stage.end_s - now_s))
                ended = _early_end(received, processes, so_far, now_s)
            end_s = stage.end_s
            if ended:
                end_s = max(time.monotonic() - zero_s, stage.start_s + _SHORTEST_S)
                break
    scraper.kill()
    processes.finish(early=ended is not None)
    return so_far.concluded(end_s, ended)


def _early_end(received: list[int], processes: Workers, so_far: _SoFar, now_s: float) -> Ending | None:
    when = f"after {max(0.0, now_s):.0f} s"
    if received:
        return Ending("INTERRUPTED", f"{signal.Signals(received[0]).name} {when}")
    if reason := processes.lost():
        return Ending("WORKER_LOST", f"{reason} {when}")
    if (silence_s := so_far.silence_s()) > so_far.options.timeout_s:
        return Ending("UNREACHABLE", f"no response from the server after {max(0.0, now_s - silence_s):.0f} s")
    return None


@contextlib.contextmanager
def collected_signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM; as exceptions, they would end the greenlet that happens to run."""
    received: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = [signal.signal(number, lambda number, _: received.append(number)) for number in numbers]
    try:
        yield received
    finally:
        for number, handler in zip(numbers, previous, strict=True):
            signal.signal(number, handler)


def _scrape(observer: Observer, zero_s: float) -> None:
    while True:
        observer.read(time.monotonic() - zero_s)
        gevent.sleep(_METRICS_S)
