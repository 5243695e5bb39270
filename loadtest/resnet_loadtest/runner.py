"""One run from beginning to end: warm up, look at the server, make the load, look again."""

from __future__ import annotations

import datetime
import time
from typing import TYPE_CHECKING

import gevent
from resnet_client import Client, ResnetClientError, ServerError

from resnet_loadtest.analysis import Run
from resnet_loadtest.errors import LoadTestError, UsageError
from resnet_loadtest.images import load
from resnet_loadtest.observer import Observer, entries_of
from resnet_loadtest.samples import merged
from resnet_loadtest.schedule import stages
from resnet_loadtest.slo import parse
from resnet_loadtest.workers import assemble
from resnet_loadtest.workloads import WORKLOADS, parse_mix

if TYPE_CHECKING:
    from collections.abc import Callable

    from resnet_loadtest.generator import Chunk
    from resnet_loadtest.options import Options
    from resnet_loadtest.schedule import Stage
    from resnet_loadtest.workers import Fleet

    Watch = Callable[[float, Stage, list[Chunk]], None]

_TICK_S = 0.25
_METRICS_S = 2.0


def conduct(options: Options, watch: Watch = lambda _time_s, _stage, _chunks: None) -> Run:
    """Do one run.

    Args:
        options: what is asked for.
        watch: called several times a second with the time in seconds, the stage, and all chunks so far.

    Raises:
        LoadTestError: it could not take place.
    """
    options.check()
    _check_objectives(options)
    chunks: list[Chunk] = []
    course = stages(options.profile, options.level, options.duration_s)
    try:
        with Client(options.url, model=options.model, timeout_s=options.timeout_s) as client:
            if options.wait_s:
                client.wait_until_ready(options.wait_s)
            entries = entries_of(_warm_up(client, options), options.model)
            fleet = assemble(options, chunks.append)
            try:
                fleet.prepare()
                observer = Observer(client, options.url_for("metrics"), entries)
                started = datetime.datetime.now().astimezone().isoformat(timespec="seconds")
                _drive(fleet, observer, course, options, lambda now_s, stage: watch(now_s, stage, chunks))
                samples = merged(chunk.samples for chunk in chunks)
                server = observer.conclude(samples)
            finally:
                fleet.close()
    except ResnetClientError as exc:
        raise LoadTestError(str(exc)) from exc
    gauges = sorted((gauge for chunk in chunks for gauge in chunk.gauges), key=lambda gauge: gauge.time_s)
    return Run(options, started, course, samples, gauges, server)


def _check_objectives(options: Options) -> None:
    try:
        parse(options.slo)
        parse_mix(options.mix)
    except ValueError as exc:
        raise UsageError(f"--slo {exc}") from exc


def _warm_up(client: Client, options: Options) -> set[str]:
    """Call every workload for a while, until each was answered; tells which models get the calls.

    It also proves that the server answers: a load test of a server that is down would prove nothing. One that
    fails now and then is tested, for the run is to tell how often.
    """
    photo = load(options.images).encoded[0]
    called: dict[bool, str] = {}
    deadline_s = time.monotonic() + options.warm_up_s
    kinds = sorted({WORKLOADS[name].sends_pixels for name in parse_mix(options.mix)})
    while True:
        failure = None
        for sends_pixels in kinds:
            try:
                answer = client.classify(photo, preprocessing="client" if sends_pixels else "server")
                called[sends_pixels] = answer.model
            except ServerError as exc:
                failure = exc
        if time.monotonic() >= deadline_s:
            if len(called) == len(kinds):
                return set(called.values())
            raise LoadTestError(f"the server does not answer: {failure}") from failure


def _drive(
    fleet: Fleet, observer: Observer, course: tuple[Stage, ...], options: Options, watch: Callable[[float, Stage], None]
) -> None:
    """Let time pass, change the number of users as the profile says, look around."""
    zero_s = time.monotonic() + fleet.begin()
    users = 0
    scraper = gevent.spawn(_scrape, observer, zero_s)
    for stage in course:
        if stage is not course[0]:
            observer.end_stage()
        while (now_s := time.monotonic() - zero_s) < stage.end_s:
            wanted = max(1, round(stage.level_at(now_s)))
            if not options.is_open_loop and wanted != users:
                users = wanted
                fleet.set_users(users)
            watch(now_s, stage)
            gevent.sleep(min(_TICK_S, stage.end_s - now_s))
    scraper.kill()
    fleet.finish()


def _scrape(observer: Observer, zero_s: float) -> None:
    while True:
        observer.read_metrics(time.monotonic() - zero_s)
        gevent.sleep(_METRICS_S)
