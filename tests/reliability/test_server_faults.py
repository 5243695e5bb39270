"""Workers and servers that are killed under load: how soon they answer again, and what clients see until then."""

from __future__ import annotations

import collections
import contextlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from resnet_client import Client, ModelNotFoundError, UnavailableError
from resnet_serve import TritonServer
from resnet_serve.watchdog import workers_of

from . import processes
from .conftest import Callers

pytestmark = pytest.mark.reliability

ROOT = Path(__file__).resolve().parents[2]
BACK_WITHIN_S = 10.0
WAIT_S = 120.0
IMAGES = 2000


def child(pid: int) -> int:
    """The first process that one has started."""
    found = [task.read_text().split() for task in Path(f"/proc/{pid}/task").glob("*/children")]
    return min(int(number) for group in found for number in group)


def worker_of(model: str, server: int) -> int:
    """Process id of a model's worker."""
    return next(pid for pid, (name, _) in workers_of(server).items() if name == model)


def wait_for(condition: Callable[[], bool], what: str) -> None:
    """Wait, boundedly, for what other processes do."""
    deadline_s = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline_s, what
        time.sleep(0.02)


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


@pytest.mark.parametrize("model", ["preprocess", "network_onnx"])
def test_readiness_is_false_meanwhile(
    start_server: Callable[..., TritonServer], model: str, note: Callable[[str], None]
) -> None:
    """Triton's own flag stays true; ours, and the container's healthcheck, ask for an answer and get none."""
    server = start_server()
    watchdog, triton = server._watchdog.pid, processes.of_server(server)
    healthcheck = [sys.executable, str(ROOT / "deploy/compose/healthcheck.py"), server.http_url]
    with Client(server.grpc_url, max_attempts=1) as client:
        assert client.health().ok
        os.kill(watchdog, signal.SIGSTOP)  # so that it replaces nothing until the checks are done
        try:
            os.kill(worker_of(model, triton), signal.SIGKILL)
            health = client.health()
            code = subprocess.run(healthcheck, capture_output=True, timeout=WAIT_S, check=False).returncode
        finally:
            os.kill(watchdog, signal.SIGCONT)
        begin_s = time.monotonic()
        client.wait_until_ready(timeout_s=WAIT_S)
        note(f"Triton's flag {health.model_ready}, ours {health.ok}; ready {time.monotonic() - begin_s:.1f} s later")
        assert (health.model_ready, health.ok, code) == (True, False, 1)
        assert subprocess.run(healthcheck, capture_output=True, timeout=WAIT_S, check=False).returncode == 0


@contextmanager
def resnet_serve(repository: Path, stderr: Path, *flags: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on the ensemble ``resnet50``; give its process and its gRPC URL."""
    command = [sys.executable, "-m", "resnet_serve", "--repository", str(repository), "--port", "0"]
    command += ["--log", str(stderr.with_suffix(".log")), *flags]
    with stderr.open("w") as errors:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
    assert process.stdout is not None
    try:
        url = next(match[1] for line in process.stdout if (match := re.match(r"  gRPC +(\S+)", line)))
        next(line for line in process.stdout if line.startswith("  log"))
        yield process, url
    finally:
        process.terminate()
        process.wait(WAIT_S)
        process.stdout.close()


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
    with resnet_serve(repository, tmp_path / "stderr", "--restart") as (process, url):
        with Client(url, timeout_s=WAIT_S, max_attempts=1000) as client:
            kinds = {path.name: client.classify(path).top.index for path in many[:4]}
            right = {name.split("-")[1]: index for name, index in kinds.items()}
            outcomes = []
            for outcome in client.classify_many(many):
                outcomes.append((time.monotonic(), outcome))
                if len(outcomes) == IMAGES // 4:
                    os.kill(child(child(process.pid)), signal.SIGKILL)
        warned = (tmp_path / "stderr").read_text()
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


def test_restart_of_a_server_that_accepts_no_grpc_connections(
    repository: Path, tmp_path: Path, note: Callable[[str], None]
) -> None:
    """A server that runs but does not answer, here a suspended one, is killed after half a minute and started again."""
    with (
        resnet_serve(repository, tmp_path / "stderr", "--restart") as (process, url),
        Client(url, max_attempts=1) as client,
    ):
        assert client.health().ok
        os.kill(child(child(process.pid)), signal.SIGSTOP)
        stopped_s = time.monotonic()
        wait_for(
            lambda: "no longer accepts gRPC connections" in (tmp_path / "stderr").read_text(),
            "the watchdog did not notice",
        )
        noticed_s = time.monotonic() - stopped_s
        client.wait_until_ready(timeout_s=WAIT_S)
        note(f"noticed after {noticed_s:.0f} s, ready again after {time.monotonic() - stopped_s:.0f} s")


def test_sigterm_answers_what_was_accepted(
    repository: Path, many: list[Path], tmp_path: Path, note: Callable[[str], None]
) -> None:
    """Requests in flight are answered; later ones are answered or fail because server or model has stopped."""
    count = 32
    with (
        resnet_serve(repository, tmp_path / "stderr") as (process, url),
        Client(url, max_attempts=1) as client,
        Client(url, max_attempts=1) as latecomer,
    ):
        outcomes = client.classify_many(many[:count], max_in_flight=count)
        first = next(outcomes)
        wait_for(lambda: client.statistics(model="preprocess")[0].inference_count == count, "images have not arrived")
        process.send_signal(signal.SIGTERM)
        begin_s = time.monotonic()
        answered, late = [first, *outcomes], []
        while process.poll() is None:
            with contextlib.suppress(UnavailableError, ModelNotFoundError):
                late.append(latecomer.classify(many[0]))
            time.sleep(0.1)
        assert process.returncode == 0
    note(
        f"{sum(outcome.ok for outcome in answered)} of {count} accepted images answered, ended "
        f"{time.monotonic() - begin_s:.1f} s after SIGTERM"
    )
    assert [outcome.error for outcome in answered if not outcome.ok] == []
    assert {result.top.index for result in late} <= {answered[0].result.top.index}
