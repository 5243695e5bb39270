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
) -> str:
    """Name the bottleneck and a remedy.

    Args:
        steps: what each model did.
        ensembles: models whose times are those of their steps.
        answered: images that clients received a response for.
        service_s: mean service time measured by the clients, in seconds.
        wall_s: seconds until the last response.
    """
    working = [step for name, step in steps.items() if step.succeeded and name not in ensembles]
    if not working or not service_s > 0:
        return "Unknown: no request succeeded."
    queue = {step.model: step.mean_queue_s * step.share_of(answered) / service_s for step in working}
    compute = {step.model: step.mean_compute_s * step.share_of(answered) / service_s for step in working}
    slowest = max(working, key=lambda step: queue[step.model])
    if queue[slowest.model] >= _LONG_QUEUE:
        return _queueing(slowest, queue[slowest.model], wall_s)
    if (rest := 1 - sum(queue.values()) - sum(compute.values())) >= _MOSTLY_OUTSIDE:
        return (
            f"Outside the models ({rest:.0%} of request time). Try gRPC, smaller images, or run the generator closer "
            "to the server."
        )
    busiest = max(working, key=lambda step: step.busy(wall_s))
    if busiest.busy(wall_s) >= _SATURATED:
        return _saturated(busiest, f"{busiest.model} is busy {min(busiest.busy(wall_s), 1):.0%} of the time")
    longest = max(working, key=lambda step: compute[step.model])
    what = "decoding" if longest.model == _DECODING else f"computing in {longest.model}"
    return f"None: the server is not saturated; {compute[longest.model]:.0%} of request time is {what}."


def _queueing(step: Step, share: float, wall_s: float) -> str:
    busy = step.busy(wall_s)
    reason = (
        f"requests wait for {step.model} for {share:.0%} of their time, and it is busy {min(busy, 1):.0%} of the time"
    )
    if busy < _BUSY:
        return f"Queueing: {reason}. Lower --max-queue-delay-us of resnet-build, or raise --instances."
    return _saturated(step, reason)


def _saturated(step: Step, reason: str) -> str:
    if step.model == _DECODING:
        return f"Decoding: {reason}. Raise --preprocess-instances of resnet-build, or let clients send pixels."
    return f"Compute: {reason}. Use a faster variant (INT8, FP16), a GPU, or more machines."
