"""The whole of ``resnet-build tune``, step by step: costs → predictions → contest → configurations."""

from __future__ import annotations

import argparse
import dataclasses
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from resnet_build import photos
from resnet_build.errors import BuildError, UsageError
from resnet_build.options import SCHEDULE, ServingOptions
from resnet_build.schedule import instances, preferred_batch_size, with_preferred_batch
from resnet_build.tensors import PIXELS
from resnet_build.tuning import calibration, candidates, contest, ladder, prediction, record, report, slo
from resnet_build.tuning.contest import Entry
from resnet_build.tuning.control import Control, Ensemble
from resnet_build.tuning.costs import Costs, Layout
from resnet_build.tuning.load import Caller, Photo

_FINALISTS = 4
_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_MOST_PHOTOS = 64
_SENDER_LIMIT = 0.8


def check(args: argparse.Namespace) -> None:
    """Refuse what cannot be tuned before a server is started.

    Raises:
        UsageError: options that make no sense, alone or together.
        BuildError: no ensemble of that name, or one whose schedule cannot be written; no photos.
    """
    if args.slo and args.grid:
        raise UsageError("--grid compares throughput: leave --slo out")
    if not 0 < args.round_s < math.inf:  # neither is nan
        raise UsageError("--round-s must be above 0, and end")
    ensemble = Ensemble.read(args.repository, args.model)
    # What would fail when it is written fails before anything is measured.
    current = ensemble.options(record.known_options(args.repository))
    if ensemble.network not in record.rescheduled(args.repository, current):
        raise BuildError(
            f"{ensemble.network} is no network that resnet-build writes ({PIXELS} is none of its inputs), "
            "so its schedule cannot be chosen"
        )
    _photos(args.images)


def run(args: argparse.Namespace, target: str, token: str | None, *, is_ours: bool) -> int:
    """Tune a server that runs; return the exit code.

    Args:
        args: the command's options.
        target: host and port of the server's gRPC.
        token: its admin token.
        is_ours: whether it is there for this run only; another gets its configurations back.

    Raises:
        BuildError: nothing was written; the message names the cause.
    """
    check(args)
    ensemble = Ensemble.read(args.repository, args.model)
    current = ensemble.options(record.known_options(args.repository))
    with Control(target, token, ensemble) as control:
        try:
            return _Tuning(args, control, ensemble, current).run()
        finally:
            if not is_ours:
                control.restore(Ensemble.read(args.repository, args.model))


class _Tuning:
    def __init__(self, args: argparse.Namespace, control: Control, ensemble: Ensemble, current: ServingOptions) -> None:
        self._args, self._control = args, control
        self._caller = Caller(control.client, ensemble.name, ensemble.network, _photos(args.images))
        self._ensemble = ensemble
        self._backend = ensemble.configs[ensemble.network].backend
        self._cores = len(os.sched_getaffinity(0))
        self._gpus = control.gpus()
        self._written, self._current = current, self._explicit(current)
        self._slo = slo.parse(args.slo) if args.slo else None
        self._console = Console(highlight=False)
        self._started_s = time.monotonic()

    def run(self) -> int:
        self._say(f"{self._ensemble.name} ends in {self._ensemble.network}; now {report.describe(self._current)}")
        self._caller.check_photos()
        costs = self._calibrate()
        among = candidates.settings(self._current, list(costs.measured_s), self._cores)
        found = self._with_slo(costs, among) if self._slo else self._with_callers(costs, among)
        if found is None:
            return 1
        chosen, measured, note = found
        self._say(f"chosen: {report.describe(chosen)}")
        if self._args.dry_run:
            self._say("nothing was written (--dry-run)")
            return 0
        self._write(chosen, note, costs, measured)
        return 0

    def _explicit(self, options: ServingOptions) -> ServingOptions:
        """Say what a setting leaves open: the network's batch and instances, and on the CPU the threads of several."""
        count, preferred = instances(options, self._backend), preferred_batch_size(options, self._backend)
        threads = options.threads
        if count > 1 and not threads and not self._gpus:
            threads = max(1, self._cores // count)
        elif count == 1 and threads == self._cores:
            threads = 0  # one instance with as many threads as there are cores has all of them
        return dataclasses.replace(options, instances=count, threads=threads, preferred_batch_size=preferred)

    def _calibrate(self) -> Costs:
        layouts = candidates.layouts(self._current, self._cores, self._gpus)
        costs = calibration.calibrate(
            self._control,
            self._caller,
            self._current,
            layouts=layouts,
            cores=self._cores,
            gpus=self._gpus,
            report=self._say,
        )
        report.show_curves(costs, self._current.max_batch_size, self._console)
        return costs

    def _with_callers(self, costs: Costs, among: Sequence[ServingOptions]) -> _Found | None:
        callers = self._args.callers
        predicted = prediction.throughputs(costs, among, callers)
        few = candidates.promising(predicted, self._current, _FINALISTS)
        self._say(f"{len(among)} settings predicted, {len(few)} of them are measured")
        entries = [Entry(options, predicted[options], options == self._current) for options in few]
        chosen = contest.hold(entries, self._throughput, self._args.rounds, self._say)
        report.show_contest(entries, chosen, callers, self._console)
        if self._caller.busiest > _SENDER_LIMIT:
            self._say("the sender is at the limit of one core: what lies above it cannot be told apart here")
        if self._args.grid:
            self._grid(chosen.options, predicted)
        note = f"{chosen.median:.1f} photos/s from {callers} callers"
        return chosen.options, [_plain(entry) for entry in entries], note

    def _throughput(self, options: ServingOptions) -> float:
        self._control.apply(options, likely_batch=min(self._args.callers, options.preferred_batch_size))
        return self._caller.closed_loop(self._args.callers, self._args.round_s)

    def _grid(self, chosen: ServingOptions, predicted: dict[ServingOptions, float]) -> None:
        """Measure what one would without a prediction, and the best of that against the choice."""
        self._say("tuned; now the whole grid")
        started_s = time.monotonic()
        grid = [options for options in predicted if candidates.is_in_grid(options)]
        entries = [Entry(options, predicted[options]) for options in grid]
        for entry in entries:
            entry.rounds += [self._throughput(entry.options) for _ in range(self._args.rounds)]
        best = contest.best_of(entries)
        report.show_contest(entries, best, self._args.callers, self._console)
        self._say(f"the grid of {len(grid)} settings took {time.monotonic() - started_s:.0f} s")
        pair = [Entry(options, predicted[options]) for options in (chosen, best.options)]
        contest.hold(pair, self._throughput, 2 * self._args.rounds, self._say, drop=False)
        report.show_duel(pair[0], pair[1], self._console)

    def _with_slo(self, costs: Costs, among: Sequence[ServingOptions]) -> _Found | None:
        objective = self._slo
        assert objective is not None  # noqa: S101  # for the type checker
        few = prediction.promising_within(costs, among, objective, self._current, _FINALISTS)
        if not any(few.values()):
            raise BuildError(f"no setting is predicted to keep {objective.text} at any load; nothing was written")
        self._say(f"{len(among)} settings predicted, {len(few)} of them are measured")
        climbers = [ladder.Climber(options, rate, options == self._current) for options, rate in few.items()]
        chosen = ladder.climb(climbers, self._latencies, objective, self._say)
        report.show_ladder(climbers, chosen, objective.text, self._console)
        if chosen is None:
            self._say(f"no setting kept {objective.text}; nothing was written")
            return None
        note = f"{objective.text} up to {chosen.rate:.1f} photos/s"
        return chosen.options, [_plain(climber) for climber in climbers], note

    def _latencies(self, options: ServingOptions, rate: float, seed: int) -> list[float]:
        assert self._slo is not None  # noqa: S101  # for the type checker
        likely = math.ceil(rate * self._slo.bound_s)  # more cannot wait
        self._control.apply(options, likely_batch=min(likely, options.preferred_batch_size))
        return self._caller.poisson(rate, ladder.seconds_for(self._slo, rate, self._args.round_s), seed)

    def _write(self, chosen: ServingOptions, note: str, costs: Costs, measured: list[dict[str, Any]]) -> None:
        # What was left open stays so: networks of other engines, and other machines, fill it in differently.
        if Layout.of(chosen) == Layout.of(self._current):
            chosen = dataclasses.replace(chosen, instances=self._written.instances, threads=self._written.threads)
        as_written = dataclasses.replace(chosen, preferred_batch_size=self._written.preferred_batch_size)
        chosen = with_preferred_batch(as_written, self._backend, chosen.preferred_batch_size)
        where = record.circumstances()
        on = f"{costs.gpus} GPU{'s' * (costs.gpus > 1)} and " if costs.gpus else ""
        content = {
            "note": f"Tuned on {where['measured_at'][:10]} for {self._ensemble.name}: {note}, on {on}{self._cores} "
            f"cores of {where['processor']}; manifest.json tells more.",
            "model": self._ensemble.name,
            "network": self._ensemble.network,
            "objective": self._slo.text if self._slo else f"throughput with {self._args.callers} callers",
            **where,
            "gpus": costs.gpus,
            "server": self._control.server(),
            "took_s": round(time.monotonic() - self._started_s),
            "decode_ms": round(costs.decode_s * 1000, 3),
            "around_ms": round(costs.around_s * 1000, 3),
            "batch_ms": [
                {**layout._asdict(), "measured": {size: round(1000 * s, 3) for size, s in times.items()}}
                for layout, times in costs.measured_s.items()
            ],
            "measured": measured,
        }
        record.write(self._args.repository, chosen, content, self._say)
        self._say(f"wrote {self._args.repository}")

    def _say(self, sentence: str) -> None:
        self._console.print(f"\\[{time.monotonic() - self._started_s:5.1f} s] {sentence}", soft_wrap=True)


# The setting, what was measured of all, and what it reached.
_Found = tuple[ServingOptions, list[dict[str, Any]], str]


def _plain(entry: Any) -> dict[str, Any]:
    content: dict[str, Any] = dataclasses.asdict(entry)
    content["options"] = {name: content["options"][name] for name in SCHEDULE}
    return content


def _photos(folder: Path | None) -> list[Photo]:
    if folder is None:
        paths = [path for path in photos.shipped_photos() if path.suffix == ".jpg"]
        if not paths:
            raise BuildError(
                "tuning needs photos: install scikit-image or scikit-learn, which ship some, "
                "or name a folder with --images"
            )
    else:
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in _SUFFIXES)[:_MOST_PHOTOS]
        if not paths:
            raise UsageError(f"tuning needs photos: {folder} holds none ({', '.join(sorted(_SUFFIXES))})")
    try:
        return [Photo(str(path), path.read_bytes()) for path in paths]
    except OSError as exc:
        raise BuildError(f"a photo cannot be read: {exc}") from exc
