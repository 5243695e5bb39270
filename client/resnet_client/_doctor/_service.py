"""Checks of what really comes back, and of what the server's own counts tell."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from resnet_client._doctor._check import Check, Hits
from resnet_client._doctor._snapshot import Answered
from resnet_client.errors import InvalidImageError, OverloadedError

if TYPE_CHECKING:
    from resnet_client._doctor._snapshot import Snapshot
    from resnet_client.results import ModelStatistics

OLDEST_VERSION = (2, 51)
"""The oldest Triton that this client is tested against."""

ENOUGH_REQUESTS = 200
"""Fewer requests say little about how a server does."""

_WAITING_SHARE = 0.5
_FAILING_SHARE = 0.05
_LONELY_SHARE = 0.99
_SHARED_MEMORY = re.compile(r"shared memory|shm", re.IGNORECASE)


def not_ready(seen: Snapshot) -> Hits:
    """The server, or the model that clients ask by default, says that it is not ready."""
    if not seen.is_ready:
        yield str(seen.endpoint), "the server says that it is not ready"
    if seen.models is not None and seen.model not in seen.models:
        yield seen.model, "the model is not served"
    for name, trial in (seen.trials or {}).items():
        if not trial.is_flagged_ready:
            yield name, "the model says that it is not ready"


def readiness_lies(seen: Snapshot) -> Hits:
    """Flagged ready, and a test picture fails."""
    for name, trial in (seen.trials or {}).items():
        error = trial.single
        if trial.is_flagged_ready and not isinstance(error, Answered | OverloadedError):
            yield name, f"it says it is ready, but a test picture fails: {error}"


def overloaded(seen: Snapshot) -> Hits:
    """It refuses because its queue is full."""
    for name, trial in (seen.trials or {}).items():
        if isinstance(trial.single, OverloadedError):
            yield name, str(trial.single)


def batch_fails(seen: Snapshot) -> Hits:
    """One picture is answered, several at once are not."""
    for name, trial in (seen.trials or {}).items():
        if isinstance(trial.batch, Exception) and not isinstance(trial.batch, OverloadedError):
            yield name, f"a request with {trial.rows} test pictures fails: {trial.batch}"
        elif isinstance(trial.batch, Answered) and len(trial.batch.tops) != trial.rows:
            yield name, f"of {trial.rows} pictures in one request, {len(trial.batch.tops)} were answered"


def batch_differs(seen: Snapshot) -> Hits:
    """The same picture, several times in one request, gets other answers than alone."""
    for name, trial in (seen.trials or {}).items():
        if isinstance(trial.batch, Answered) and isinstance(trial.single, Answered):
            strange = sum(top != trial.single.tops[0] for top in trial.batch.tops)
            if strange:
                yield (
                    name,
                    f"{strange} of {trial.rows} equal pictures in one request are classified otherwise than alone",
                )


def shm_too_small(seen: Snapshot) -> Hits:
    """A test request failed for want of shared memory."""
    for name, trial in (seen.trials or {}).items():
        for probe in (trial.single, trial.batch):
            if isinstance(probe, Exception) and _SHARED_MEMORY.search(str(probe)):
                yield name, str(probe)


def large_photos_fail(seen: Snapshot) -> Hits:
    """Something on the way refuses large requests."""
    large = seen.large_request
    if (
        large is not None
        and large.error is not None
        and not isinstance(large.error, InvalidImageError | OverloadedError)
    ):
        yield str(seen.endpoint), f"a photo of {large.size_bytes / 2**20:.0f} MiB does not get through: {large.error}"


def version_unknown(seen: Snapshot) -> Hits:
    """Another Triton than those this client was tested against."""
    numbers = tuple(int(part) for part in re.findall(r"\d+", seen.version or "")[:2])
    if numbers < OLDEST_VERSION or numbers[0] != OLDEST_VERSION[0]:
        oldest = ".".join(map(str, OLDEST_VERSION))
        yield str(seen.endpoint), f"it runs Triton {seen.version}; this client is tested with {oldest} and later ones"


def no_metrics(seen: Snapshot) -> Hits:
    """Nobody can watch this server."""
    if not seen.metrics_url:
        return
    if seen.metrics is None:
        yield seen.metrics_url, seen.unseen.get("metrics", "the metrics cannot be read")
    elif not seen.metrics.names:
        yield seen.metrics_url, "the page holds none of Triton's metrics"


def mostly_waiting(seen: Snapshot) -> Hits:
    """Requests wait longer than they are computed; of a step, the time of the whole request counts."""
    took_ns = {name: sum(entry.success_ns for entry in entries) for name, entries in _by_model(seen)}
    for name, entries in _by_model(seen):
        waiting = sum(entry.queue_ns for entry in entries)
        above = (took_ns.get(ensemble.name, 0) for ensemble in seen.ensembles() if name in ensemble.steps)
        total = max(took_ns[name], sum(above))
        if _requests(entries) >= ENOUGH_REQUESTS and total and waiting / total > _WAITING_SHARE:
            mean_ms = waiting / _requests(entries) / 1e6
            yield name, f"{waiting / total:.0%} of the time is waiting in its queue, {mean_ms:.0f} ms for each request"


def never_batched(seen: Snapshot) -> Hits:
    """Requests wait, and are computed one by one though their configuration says otherwise."""
    together = {model.name for model in seen.computing() if model.batches}
    for name, entries in _by_model(seen):
        if name not in together:
            continue
        sizes = [size for entry in entries for size in entry.batch_sizes.items()]
        executions = sum(count for _, count in sizes)
        lonely = sum(count for size, count in sizes if size == 1)
        waits = sum(e.queue_ns for e in entries) > sum(e.compute_infer_ns for e in entries)
        if executions >= ENOUGH_REQUESTS and lonely / executions > _LONELY_SHARE and waits:
            yield name, f"{lonely} of {executions} executed batches held one photo, while others waited"


def many_failures(seen: Snapshot) -> Hits:
    """A good part of the requests fails."""
    ensembles = {model.name for model in seen.ensembles()}
    for name, entries in _by_model(seen):
        counted = sum(entry.failure_count for entry in entries)
        failed = counted / 2 if name in ensembles else counted  # measured with 2.51: ensembles count failures twice
        total = _requests(entries) + failed
        if total >= ENOUGH_REQUESTS and failed / total > _FAILING_SHARE:
            yield name, f"about {failed / total:.0%} of {total:.0f} requests have failed since it was loaded"


def _by_model(seen: Snapshot) -> Iterator[tuple[str, list[ModelStatistics]]]:
    for name, entries in itertools.groupby(seen.statistics or (), key=lambda entry: entry.model):
        yield name, list(entries)


def _requests(entries: list[ModelStatistics]) -> int:
    return sum(entry.success_count for entry in entries)


CHECKS = (
    Check(
        "not-ready",
        "wrong",
        ("trials",),
        not_ready,
        "requests for it are refused",
        "the server's log says what did not load; resnet-client health --wait-s 60 waits for a start",
    ),
    Check(
        "readiness-lies",
        "wrong",
        ("trials",),
        readiness_lies,
        "a Python worker that has died stays «ready»; load balancers go on sending requests there",
        "restart the server, or unload and load the model; judge health by an answer: resnet-client health",
    ),
    Check(
        "overloaded",
        "slow",
        ("trials",),
        overloaded,
        "more is asked than the server can compute",
        "send less, or serve with more: another server, a GPU, a faster network",
    ),
    Check(
        "batch-fails",
        "wrong",
        ("trials",),
        batch_fails,
        "the network's artifact is frozen to one batch size, or a step answers the first row only",
        "export with a free batch dimension: resnet-build verifies batches of 1, 2, 7 and the maximum",
    ),
    Check(
        "batch-differs",
        "wrong",
        ("trials",),
        batch_differs,
        "a step mixes up the rows of a batch: under load callers get answers to other people's photos",
        "build the repository with resnet-build, which compares every row with the original network",
    ),
    Check(
        "shm-too-small",
        "wrong",
        ("trials",),
        shm_too_small,
        "the Python backend passes tensors through /dev/shm; Docker gives it 64 MB",
        "shm_size: 1gb in docker-compose.yml, docker run --shm-size=1g",
    ),
    Check(
        "large-photos-fail",
        "wrong",
        ("large_request",),
        large_photos_fail,
        "a proxy before the server, or the server itself, refuses requests of that size",
        "allow more there: nginx client_max_body_size 64m (for gRPC, too), tritonserver --http-max-input-size",
    ),
    Check(
        "version-unknown",
        "wrong",
        ("version",),
        version_unknown,
        "statuses, sentences and configurations differ between versions, and errors are read by them",
        "a newer image (TRITON_TAG), or the client that belongs to the server",
    ),
    Check(
        "no-metrics",
        "wrong",
        ("endpoint",),
        no_metrics,
        "neither a dashboard nor an alert can be made of this server",
        "tritonserver --allow-metrics=true, its port 8002 reachable; --metrics-url says where they are, or none",
    ),
    Check(
        "mostly-waiting",
        "slow",
        ("statistics",),
        mostly_waiting,
        "more is asked at once than it computes",
        "resnet-loadtest finds what it bears; more instances, a GPU, or fewer at once (--max-in-flight)",
    ),
    Check(
        "never-batched",
        "slow",
        ("statistics", "models"),
        never_batched,
        "its dynamic_batching does not work: requests whose inputs differ in shape are never computed together",
        "inputs of one shape; see photos-do-not-batch",
    ),
    Check(
        "many-failures",
        "wrong",
        ("statistics",),
        many_failures,
        "callers send what is no photo, give up too early, or are refused",
        "the metrics nv_inference_request_failure tell reasons apart, and the clients' errors say more",
    ),
)
