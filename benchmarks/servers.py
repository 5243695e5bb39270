"""Measure all servers and the in-process limit in turns, with one caller and with 16."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from resnet_client.preprocessing import prepare

from benchmarks import CORES, ROOT, images, processes
from benchmarks.closed_loop import Sender, measure, responses
from benchmarks.networks import PEER_VARIANT, open_network
from benchmarks.programs import PEERS, Program, ours
from benchmarks.repository import Repository
from benchmarks.results import IN_PROCESS, Record, best_settings, progress

_CALLERS = (16, 1)
# The first class of these images leads by so much that rounding cannot change it.
_CLEAR_LEAD = 0.1
_SAME_CLASSES = 0.97
_AWAKE_S = 0.3
# Short, because each server has answered all images before, and the first response of a caller is not measured.
_WARM_S = 0.1


@dataclasses.dataclass(frozen=True)
class Candidate:
    """What is measured.

    Attributes:
        name: of the server; ``in process`` is the limit.
        variant: its network.
        protocol: how it is called; empty for the limit.
        measure: measures with a number of callers, for some seconds: ``images_per_s``, ``p50_ms``.
    """

    name: str
    variant: str
    protocol: str
    measure: Callable[[int, float], Record]


def run(repository: Repository, *, rounds: int, seconds: float, names: Sequence[str] = ()) -> dict[str, list[Record]]:
    """Measure each candidate ``rounds`` times for ``seconds`` with 16 callers, and two thirds of it with one.

    Returns:
        ``measurements``, one for each candidate, round and number of callers; and ``starts``, one for each server.

    Raises:
        SystemExit: a server does not start, fails, or returns other classes.
    """
    measurements = []
    with started(repository, images.standard(), names) as (candidates, starts):
        for turn in range(rounds):
            # Each round begins with another candidate, so that the order changes.
            first = turn * len(candidates) // rounds
            for candidate, callers in itertools.product(candidates[first:] + candidates[:first], _CALLERS):
                what = {"name": candidate.name, "variant": candidate.variant, "protocol": candidate.protocol}
                with _failing(what):
                    measured = candidate.measure(callers, seconds if callers > 1 else seconds * 2 / 3)
                progress(f"round {turn + 1} of {rounds}", {**what, "callers": callers}, measured)
                measurements.append({**what, "callers": callers, "round": turn, **measured})
    return {"measurements": measurements, "starts": starts}


@contextlib.contextmanager
def started(
    repository: Repository, jpegs: list[bytes], names: Sequence[str] = ()
) -> Iterator[tuple[list[Candidate], list[Record]]]:
    """Start and check all candidates, or those with these names."""
    classes = expected(repository, jpegs)
    candidates, starts = [], []
    with contextlib.ExitStack() as stack:
        for variant in repository.variants:
            settings = best_settings(IN_PROCESS, variant)
            candidates.append(stack.enter_context(in_process(repository, variant, settings["batch"])))
        for program in _programs(repository, jpegs, names):
            served, start = stack.enter_context(serve(program, classes))
            candidates += served
            starts.append(start)
        # Those of one network follow each other: the speed of a machine changes within minutes.
        yield sorted(candidates, key=lambda each: repository.variants.index(each.variant)), starts


def _programs(repository: Repository, jpegs: list[bytes], names: Sequence[str]) -> list[Program]:
    found = []
    for variant in repository.variants:
        found += ours(repository, variant, jpegs)
    if PEER_VARIANT in repository.variants:
        wanted = [peer for peer in PEERS if not names or peer.name in names]
        found += [peer.program(repository, best_settings(peer.name, PEER_VARIANT), jpegs) for peer in wanted]
    return [program for program in found if not names or program.name in names]


@contextlib.contextmanager
def in_process(repository: Repository, variant: str, batch: int) -> Iterator[Candidate]:
    """The in-process limit, in a process of its own that waits between measurements."""
    command = [sys.executable, "-m", "benchmarks.in_process", variant, str(repository.file(variant))]
    command += [repository.preprocess_config.to_json(), str(batch)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        stdin, stdout = process.stdin, process.stdout

        def measured(callers: int, seconds: float) -> Record:
            print(callers, seconds, file=stdin, flush=True)
            line = stdout.readline() if stdout else ""
            if not line:
                raise SystemExit(f"{' '.join(command)} has failed; its error is printed above")
            found: Record = json.loads(line)
            return found

        measured(1, 0.1)  # so that it does not load while servers start
        yield Candidate(IN_PROCESS, variant, "", measured)


@contextlib.contextmanager
def serve(program: Program, classes: npt.NDArray[np.int64]) -> Iterator[tuple[list[Candidate], Record]]:
    """Start a server and compare its classes with the expected ones; it may be paused until it is measured.

    Raises:
        SystemExit: it does not start, or classes differ.
    """
    first, _ = next(iter(program.senders.values()))
    with processes.serve(program.command, program.environment, partial(responses, first, 1)) as (pid, start_s):
        what = {"name": program.name, "variant": program.variant}
        paused_pid = pid if program.is_paused else None
        candidates = []
        for protocol, (sender, top1) in program.senders.items():
            with _failing(what):
                found = np.array([top1(response) for response in responses(sender)])
            same = float((found == classes)[classes >= 0].mean())
            if same < _SAME_CLASSES:
                raise SystemExit(f"{program.name} over {protocol} has only {same:.0%} of the FP32 network's classes")
            candidates.append(
                Candidate(program.name, program.variant, protocol, partial(_measured, paused_pid, sender))
            )
        start = {"start_s": start_s, "memory_mib": processes.memory_mib(pid)}
        progress("started", what, start)
        if paused_pid:
            processes.pause(paused_pid)
        yield candidates, {**what, **start}


def _measured(paused_pid: int | None, sender: Sender, callers: int, seconds: float) -> Record:
    """Measure a server; it is resumed meanwhile if it is paused."""
    if paused_pid:
        processes.resume(paused_pid)
        # Otherwise the first of several workers to resume would accept all connections.
        time.sleep(_AWAKE_S)
    sample = measure(sender, callers=callers, seconds=seconds, warm_s=_WARM_S)
    if paused_pid:
        processes.pause(paused_pid)
    return {
        "images_per_s": sample.throughput,
        "p50_ms": sample.percentile_ms(50),
        "generator_core_ms": 1e3 * sample.cpu_s,
    }


@contextlib.contextmanager
def _failing(what: Record) -> Iterator[None]:
    """Name the server whose request fails."""
    try:
        yield
    except OSError as exc:
        raise SystemExit(f"{', '.join(what.values())}: {exc}") from exc


def expected(repository: Repository, jpegs: list[bytes]) -> npt.NDArray[np.int64]:
    """The FP32 network's class of each image, or -1 if rounding might change it."""
    config = repository.preprocess_config
    probabilities = open_network("onnx", repository.file("onnx"), CORES)(
        np.stack([prepare(jpeg, config) for jpeg in jpegs])
    )
    second, first = np.sort(probabilities, axis=1)[:, -2:].T
    return np.where(first - second >= _CLEAR_LEAD, probabilities.argmax(axis=1), -1)
