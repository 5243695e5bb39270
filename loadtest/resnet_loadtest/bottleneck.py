"""One plain sentence: what limits."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from resnet_loadtest.server_statistics import Step

DECODING = "preprocess"

_MUCH = 0.4
_BUSY = 0.7
_SATURATED = 0.9
_ELSEWHERE = 0.5


def sentence(
    steps: Mapping[str, Step],
    ensembles: Collection[str],
    *,
    answered: int,
    service_s: float,
    wall_s: float,
) -> str:
    """Say what limits, and what would help.

    Args:
        steps: what each model did.
        ensembles: models that only pass on to others: their times are those of their steps over again.
        answered: photos that clients got an answer for.
        service_s: mean service time as the client saw it, in seconds.
        wall_s: how long that took, in seconds.
    """
    working = [step for name, step in steps.items() if step.succeeded and name not in ensembles]
    if not working or not service_s > 0:
        return "Nothing was answered, so nothing can be said about limits."
    queue = {step.model: step.mean_queue_s * step.share_of(answered) / service_s for step in working}
    compute = {step.model: step.mean_compute_s * step.share_of(answered) / service_s for step in working}
    slowest = max(working, key=lambda step: queue[step.model])
    if queue[slowest.model] >= _MUCH:
        return _waiting(slowest, queue[slowest.model], wall_s)
    if (rest := 1 - sum(queue.values()) - sum(compute.values())) >= _ELSEWHERE:
        return (
            f"The way limits: {rest:.0%} of the time passes outside the models, in the network, in copies or "
            "in waiting for the server's front end; try gRPC, smaller photos, or a nearer generator."
        )
    busiest = max(working, key=lambda step: step.busy(wall_s))
    if busiest.busy(wall_s) >= _SATURATED:
        return _saturated(busiest, f"{busiest.model} is busy {min(busiest.busy(wall_s), 1):.0%} of the time")
    longest = max(working, key=lambda step: compute[step.model])
    what = "decoding" if longest.model == DECODING else f"computing in {longest.model}"
    return f"Nothing is saturated: requests wait little; {compute[longest.model]:.0%} of the time is {what}."


def _waiting(step: Step, share: float, wall_s: float) -> str:
    busy = step.busy(wall_s)
    waits = f"{share:.0%} of the time requests wait for {step.model}, which is busy {min(busy, 1):.0%} of the time"
    if busy < _BUSY:
        return f"Queueing: {waits}; shorten max_queue_delay, or add instances of it."
    return _saturated(step, waits)


def _saturated(step: Step, why: str) -> str:
    if step.model == DECODING:
        return f"Decode-bound: {why}; add preprocess instances, or let clients send pixels."
    return f"Compute-bound: {why}; use a faster variant (INT8, FP16), a GPU, or more machines."
