"""Describe the bottleneck of a run in one message."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from resnet_loadtest.server_statistics import Step

_DECODING = "preprocess"

_LONG_QUEUE = 0.4
_BUSY = 0.7
_SATURATED = 0.9
_MOSTLY_OUTSIDE = 0.5


def describe(
    steps: Mapping[str, Step],
    ensembles: Collection[str],
    *,
    answered: int,
    service_s: float,
    wall_s: float,
    cpu: float | None = None,
    generator: str = "",
) -> str:
    """Name the bottleneck and a remedy.

    Args:
        steps: what each model did.
        ensembles: models whose times are those of their steps.
        answered: images that clients received a response for.
        service_s: mean service time measured by the clients, in seconds.
        wall_s: seconds until the last response.
        cpu: utilization of the server's machine, 0 to 1; None if unknown.
        generator: why the load generator was too slow; empty if it was not.
    """
    working = [step for name, step in steps.items() if step.succeeded and name not in ensembles]
    if not working or not service_s > 0:
        return "Unknown: no request succeeded."
    queue = {step.model: step.mean_queue_s * step.share_of(answered) / service_s for step in working}
    compute = {step.model: step.mean_compute_s * step.share_of(answered) / service_s for step in working}
    slowest = max(working, key=lambda step: queue[step.model])
    busiest = max(working, key=lambda step: step.busy(wall_s))
    busy = f"{busiest.model} is busy {min(busiest.busy(wall_s), 1):.0%} of the time"
    waiting = f"requests wait for {slowest.model} for {queue[slowest.model]:.0%} of their time, and it is busy "
    waiting += f"{min(slowest.busy(wall_s), 1):.0%} of the time"
    is_waiting = queue[slowest.model] >= _LONG_QUEUE
    rest = 1 - sum(queue.values()) - sum(compute.values())
    if is_waiting and slowest.busy(wall_s) >= _BUSY:
        return _saturated(slowest, waiting)
    if generator:
        message = f"The load generator, not the server: {generator}."
    elif (cpu or 0.0) >= _SATURATED and busiest.busy(wall_s) < _SATURATED:
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
