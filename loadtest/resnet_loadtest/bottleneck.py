"""Describe the bottleneck of a run in one message."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from resnet_loadtest.metrics import CPU_LIMIT, Metrics
from resnet_loadtest.server_statistics import Step

if TYPE_CHECKING:
    from resnet_loadtest.analysis import Run

_DECODING = "preprocess"

_LONG_QUEUE = 0.4
_BUSY = 0.7
_SATURATED = 0.9
_MOSTLY_OUTSIDE = 0.5


def describe(run: Run) -> str:
    """Name the bottleneck in the stage with the highest load, and a remedy."""
    part, steps = max(zip(run.parts, run.server.stage_steps, strict=True), key=lambda each: each[0].level)
    # The times of an ensemble are those of its steps.
    working = [step for name, step in steps.items() if step.succeeded and name not in run.server.ensembles]
    message = _limit(run, part, working) if working and part.mean_service_s > 0 else "Unknown: no request succeeded."
    return f"{message} Measured at {part.name}." if len({each.level for each in run.parts}) > 1 else message


def _limit(run: Run, part: Metrics, working: Sequence[Step]) -> str:
    wall_s = run.wall_s - part.start_s if part is run.parts[-1] else part.duration_s
    cpu = run.server.cpu(part.start_s, part.end_s) or 0.0
    shares = {step.model: step.share_of(part.answered) / part.mean_service_s for step in working}
    queue = {step.model: step.mean_queue_s * shares[step.model] for step in working}
    compute = {step.model: step.mean_compute_s * shares[step.model] for step in working}
    slowest = max(working, key=lambda step: queue[step.model])
    busiest = max(working, key=lambda step: step.busy(wall_s))
    busy = f"{busiest.model} is busy {min(busiest.busy(wall_s), 1):.0%} of the time"
    waiting = f"requests wait for {slowest.model} for {queue[slowest.model]:.0%} of their time, and it is busy "
    waiting += f"{min(slowest.busy(wall_s), 1):.0%} of the time"
    is_waiting = queue[slowest.model] >= _LONG_QUEUE
    rest = 1 - sum(queue.values()) - sum(compute.values())
    if is_waiting and slowest.busy(wall_s) >= _BUSY:
        return _saturated(slowest, waiting)
    # On a busy machine the generator is late because it gets no CPU, not because it needs too much.
    is_starved = cpu >= _SATURATED and run.generator_cpu(part) <= CPU_LIMIT
    if not is_starved and (findings := run.generator_findings(part)):
        message = f"The load generator, not the server: {findings[0]}."
    elif cpu >= _SATURATED and busiest.busy(wall_s) < _SATURATED:
        message = f"CPU: the server's machine is {cpu:.0%} busy, although {busy}. Stop other processes on it; the load "
        message += "generator is one of them if it runs there."
    elif is_waiting:
        message = f"Queueing: {waiting}. Lower --max-queue-delay-us of resnet-build, or raise --instances."
    elif rest >= _MOSTLY_OUTSIDE:
        message = f"Outside the models ({rest:.0%} of request time). Try gRPC, smaller images, or run the generator "
        message += "closer to the server."
    elif busiest.busy(wall_s) >= _SATURATED:
        message = _saturated(busiest, busy)
    else:
        longest = max(working, key=lambda step: compute[step.model])
        what = "decoding" if longest.model == _DECODING else f"computing in {longest.model}"
        message = f"None: the server is not saturated; {compute[longest.model]:.0%} of request time is {what}."
    return message


def _saturated(step: Step, reason: str) -> str:
    if step.model == _DECODING:
        return f"Decoding: {reason}. Raise --preprocess-instances of resnet-build, or let clients decode."
    return f"Compute: {reason}. Use a faster variant (INT8, FP16), a GPU, or more machines."
