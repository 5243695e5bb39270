"""Workers and servers that are killed under load: how soon they answer again, and what clients see until then."""

from __future__ import annotations

import collections
import itertools
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import processes
import pytest
from PIL import Image
from processes import WAIT_S, wait_for
from resnet_client import Client
from resnet_serve import TritonServer
from resnet_serve.watchdog import workers_of
from serving import serve

from .conftest import Callers

pytestmark = pytest.mark.reliability

ROOT = Path(__file__).resolve().parents[2]
BACK_WITHIN_S = 10.0
IMAGES = 2000


def worker_of(model: str, server: int) -> int:
    """Process id of a model's worker."""
    return next(pid for pid, (name, _) in workers_of(server).items() if name == model)


@pytest.mark.parametrize("model", ["preprocess", "network_onnx"])
def test_watchdog_replaces_a_dead_worker_under_load(
    start_server: Callable[..., TritonServer], images: dict[str, Path], model: str, note: Callable[[str], None]
) -> None:
    """The model answers again within 10 s after ``kill -9``; until then calls fail, but no answer is wrong."""
    server = start_server()
    triton = processes.of_server(server)
    with Client(server.grpc_url, max_attempts=1) as client:
        right = client.classify(images["cat"]).top.index
        with Callers(client, images["cat"], count=4) as callers:
            callers.wait_for(20)
            dead = worker_of(model, triton)
            os.kill(dead, signal.SIGKILL)
            killed_s = time.monotonic()
            wait_for(
                lambda: {model, "preprocess"} <= {name for name, _ in workers_of(triton).values()}, "no new worker"
            )
            wait_for(lambda: any(_is_good(call, killed_s) for call in callers.calls), "no call succeeds")
            callers.wait_for(20)
    back_s = min(call.sent_s + call.duration_s for call in callers.calls if _is_good(call, killed_s)) - killed_s
    quiet_s = max((call.sent_s + call.duration_s - killed_s for call in callers.failed), default=0.0)
    wrong = [call for call in callers.calls if call.error is None and call.index != right]
    note(
        f"first answer to a call sent after the kill: {back_s:.1f} s; last failure {quiet_s:.1f} s after it; "
        f"{len(callers.failed)} of {len(callers.calls)} calls failed, {len(wrong)} wrong"
    )
    assert wrong == []
    assert max(back_s, quiet_s) < BACK_WITHIN_S


def _is_good(call: object, since_s: float) -> bool:
    return call.error is None and call.sent_s > since_s


def test_health_is_false_while_a_worker_is_dead(
    start_server: Callable[..., TritonServer], note: Callable[[str], None]
) -> None:
    """Triton's own flag stays true; the client and the container's healthcheck classify an image, which fails."""
    server = start_server()
    watchdog, triton = server._watchdog.pid, processes.of_server(server)
    healthcheck = [sys.executable, str(ROOT / "deploy/compose/healthcheck.py"), server.http_url]
    with Client(server.grpc_url, max_attempts=1) as client:
        assert client.health().ok
        os.kill(watchdog, signal.SIGSTOP)  # so that it replaces nothing until the checks are done
        try:
            os.kill(worker_of("preprocess", triton), signal.SIGKILL)
            health = client.health()
            code = subprocess.run(healthcheck, capture_output=True, timeout=WAIT_S, check=False).returncode
        finally:
            os.kill(watchdog, signal.SIGCONT)
        begin_s = time.monotonic()
        client.wait_until_ready(timeout_s=WAIT_S)
        note(f"Triton's flag {health.model_ready}, ours {health.ok}; ready {time.monotonic() - begin_s:.1f} s later")
        assert (health.model_ready, health.ok, code) == (True, False, 1)
        assert subprocess.run(healthcheck, capture_output=True, timeout=WAIT_S, check=False).returncode == 0


@pytest.fixture
def many(images: dict[str, Path], tmp_path: Path) -> list[Path]:
    """2,000 small images of four kinds, each with a name of its own."""
    for name in ("cat", "coffee", "rocket", "flower"):
        with Image.open(images[name]) as image:
            image.convert("RGB").resize((256, 256)).save(tmp_path / f"{name}.jpg", quality=95)
    kinds = sorted(tmp_path.glob("*.jpg"))
    found = [tmp_path / f"{number:04}-{kinds[number % 4].name}" for number in range(IMAGES)]
    for number, path in enumerate(found):
        os.link(kinds[number % 4], path)
    return found


@pytest.mark.timeout(900)
def test_classify_many_survives_a_killed_server(
    repository: Path, many: list[Path], tmp_path: Path, note: Callable[[str], None]
) -> None:
    """With ``--restart`` it comes back; each of 2,000 images in flight has one outcome, in order, none wrong."""
    with serve(tmp_path, repository, "--restart") as running:
        with Client(running.url("gRPC"), timeout_s=WAIT_S, max_attempts=1000) as client:
            kinds = {path.name: client.classify(path).top.index for path in many[:4]}
            right = {name.split("-")[1]: index for name, index in kinds.items()}
            outcomes = []
            for outcome in client.classify_many(many):
                outcomes.append((time.monotonic(), outcome))
                if len(outcomes) == IMAGES // 4:
                    os.kill(running.server, signal.SIGKILL)
        warned = running.errors.read_text()
    times = [moment for moment, _ in outcomes]
    gap_s = max(later - sooner for sooner, later in itertools.pairwise(times))
    failed = [outcome.error for _, outcome in outcomes if not outcome.ok]
    wrong = [
        outcome.source
        for _, outcome in outcomes
        if outcome.ok and outcome.result.top.index != right[outcome.source.name.split("-")[1]]
    ]
    kinds_of_failure = dict(collections.Counter(type(error).__name__ for error in failed))
    note(
        f"{len(outcomes)} outcomes for {IMAGES} images, {len(failed)} failed {kinds_of_failure}, {len(wrong)} wrong; "
        f"nothing for {gap_s:.1f} s; {IMAGES / (times[-1] - times[0]):.1f} images/s"
    )
    assert [outcome.source for _, outcome in outcomes] == many
    assert wrong == []
    assert failed == []
    assert warned.count("restart in 1 s") == 1
