"""Run a load test: warm up, read the server's statistics, generate the load, read the statistics again."""

from __future__ import annotations

import dataclasses
import datetime
import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

import gevent
from resnet_client import Client, ResnetClientError, ServerError
from rich.console import Console

from resnet_loadtest import workers
from resnet_loadtest.analysis import Run
from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.options import AUTO_RATE, Options
from resnet_loadtest.samples import Chunk, merged
from resnet_loadtest.schedule import Stage, stages
from resnet_loadtest.server_metrics import Observer
from resnet_loadtest.session import check_server, load_images
from resnet_loadtest.workers import Workers
from resnet_loadtest.workloads import WORKLOADS, parse_mix

Watch: TypeAlias = Callable[[float, Stage, list[Chunk]], None]

_TICK_S = 0.25
_METRICS_S = 2.0
_CAPACITY_USERS = 16
_CAPACITY_S = 8.0


def run(options: Options, watch: Watch = lambda _time_s, _stage, _chunks: None) -> Run:
    """Run a load test.

    Args:
        options: of the run.
        watch: called several times a second with the time in seconds, the stage, and all chunks so far.

    Raises:
        LoadTestError: the load test could not run.
    """
    options.check()
    mix = parse_mix(options.mix)
    chunks: list[Chunk] = []
    course = stages(options.profile, options.level, options.duration_s)
    try:
        with Client(options.url, model=options.model, timeout_s=options.timeout_s) as client:
            if options.wait_s:
                client.wait_until_ready(options.wait_s)
            check_server(options)
            entries = _warm_up(client, options, mix)
            processes = workers.create(options, chunks.append)
            try:
                processes.prepare()
                observer = Observer(client, options.url_for("metrics"), entries)
                started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
                _drive(processes, observer, course, options, lambda now_s, stage: watch(now_s, stage, chunks))
                samples = merged(chunk.samples for chunk in chunks)
                server = observer.conclude(samples)
            finally:
                processes.close()
    except ResnetClientError as exc:
        raise LoadTestError(str(exc)) from exc
    generator = sorted((metrics for chunk in chunks for metrics in chunk.metrics), key=lambda metrics: metrics.time_s)
    return Run(options, started, course, samples, generator, server)


def measure_capacity(options: Options) -> float:
    """Measure the throughput of closed-loop users, in requests per second."""
    trial = dataclasses.replace(
        options,
        rate=None,
        users=_CAPACITY_USERS,
        profile="steady",
        duration_s=_CAPACITY_S,
        slo="",
        processes=0,
        expect_workers=0,
    )
    whole = run(trial).whole
    answered = whole.requests - sum(whole.failures.values())
    if not answered:
        raise LoadTestError("all requests failed while the capacity was measured")
    return round(answered / whole.duration_s, 2)


def with_measured_rate(options: Options, console: Console) -> Options:
    """Replace the rate ``auto`` by the measured capacity."""
    if options.rate != AUTO_RATE:
        return options
    console.print(f"measuring capacity: {_CAPACITY_USERS} users, {_CAPACITY_S:.0f} s …")
    rate = measure_capacity(options)
    console.print(f"capacity: about {rate:.1f} requests per second", highlight=False)
    return dataclasses.replace(options, rate=rate)


def _warm_up(client: Client, options: Options, mix: Iterable[str]) -> dict[str, str]:
    """Send every workload for the warm-up time, and until each has succeeded.

    Returns model that gets requests → ensemble of which it is a step, if that gets requests too; empty for none.
    Some failures are accepted, because the run measures how often the server fails.
    """
    image = load_images(options.images)[0]
    called: dict[bool, str] = {}
    deadline_s = time.monotonic() + options.warm_up_s
    kinds = sorted({WORKLOADS[name].sends_pixels for name in mix})
    while True:
        failure = None
        for sends_pixels in kinds:
            try:
                result = client.classify(image, preprocessing="client" if sends_pixels else "server")
                called[sends_pixels] = result.model
            except ServerError as exc:
                failure = exc
        if time.monotonic() >= deadline_s:
            if len(called) == len(kinds):
                models = set(called.values())
                ensemble = options.model if options.model in models else ""
                return {name: ensemble if name != options.model else "" for name in models}
            raise LoadTestError(f"the server does not answer: {failure}") from failure


def _drive(
    processes: Workers,
    observer: Observer,
    course: tuple[Stage, ...],
    options: Options,
    watch: Callable[[float, Stage], None],
) -> None:
    """Follow the stages: change the number of users and read the server's metrics."""
    zero_s = time.monotonic() + processes.begin()
    users = 0
    scraper = gevent.spawn(_scrape, observer, zero_s)
    for stage in course:
        if stage is not course[0]:
            observer.end_stage()
        while (now_s := time.monotonic() - zero_s) < stage.end_s:
            wanted = max(1, round(stage.level_at(now_s)))
            if not options.is_open_loop and wanted != users:
                users = wanted
                processes.set_users(users)
            watch(now_s, stage)
            gevent.sleep(min(_TICK_S, stage.end_s - now_s))
    scraper.kill()
    processes.finish()


def _scrape(observer: Observer, zero_s: float) -> None:
    while True:
        observer.read_metrics(time.monotonic() - zero_s)
        gevent.sleep(_METRICS_S)
