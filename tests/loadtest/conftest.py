"""Made-up runs for the analysis, stub servers of known behaviour, and the command in a process of its own."""

import contextlib
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_loadtest.analysis import Run
from resnet_loadtest.options import Options
from resnet_loadtest.samples import GeneratorMetrics, Status, only_answered, table
from resnet_loadtest.schedule import stages
from resnet_loadtest.server_metrics import ServerSide
from resnet_loadtest.server_statistics import Step

STUBS = {"http": Path(__file__).with_name("stub_server.py"), "grpc": Path(__file__).with_name("stub_grpc.py")}


def samples_of(durations_s, *, spacing_s=0.01, late_s=0.0, statuses=None):
    """One request every ``spacing_s``; durations are service times."""
    rows = []
    for i, (duration_s, status) in enumerate(zip(durations_s, statuses or [Status.OK] * len(durations_s), strict=True)):
        sent_s = i * spacing_s + late_s
        rows.append((i * spacing_s, sent_s, sent_s + duration_s, status))
    return table(rows)


def step_of(model, succeeded, *, queue_s=0.0, compute_s=0.01, batch=1, failed=0):
    """What a model did; times per request."""
    executions = succeeded // batch
    return Step(
        model=model,
        succeeded=succeeded,
        failed=failed,
        images=succeeded,
        executions=executions,
        total_s=(queue_s + compute_s) * succeeded,
        queue_s=queue_s * succeeded,
        compute_s=compute_s * succeeded,
        busy_s=compute_s * executions,
        batch_sizes={batch: executions},
    )


def measured(seconds, *, cpu=0.1):
    """What a generator measures about itself at the end of each of these seconds."""
    return [GeneratorMetrics(0, second + 1.0, cpu) for second in seconds]


def run_of(samples, *, options=None, generator=None, steps=None, duration_s=10.0, **server):
    """A run made of its samples; all else is as it should be, but for the given attributes of ``ServerSide``."""
    options = options or Options(rate=100.0, duration_s=duration_s)
    course = stages(options.profile, options.level, options.duration_s)
    steps = {"resnet50": step_of("resnet50", len(only_answered(samples)))} if steps is None else steps
    known = {"stage_steps": (steps,) * len(course), "ensembles": frozenset(), "readings": ()} | server
    generator = generator or measured(range(int(duration_s)))
    side = ServerSide(name="stub", steps=steps, entries={"resnet50": ""}, **known)
    return Run(options, "2026-01-01T00:00:00+00:00", course, samples, generator, side)


@pytest.fixture
def random():
    """A seeded source of numbers."""
    return np.random.default_rng(7)


@contextlib.contextmanager
def stub_server(*arguments, protocol="http"):
    """Run a stub server; gives its URL and its process."""
    with subprocess.Popen([sys.executable, STUBS[protocol], *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            yield f"{protocol}://127.0.0.1:{int(process.stdout.readline())}", process
        finally:
            process.kill()


@pytest.fixture
def stub():
    """Start stub servers; gives their URLs."""
    with contextlib.ExitStack() as servers:
        yield lambda *arguments, **more: servers.enter_context(stub_server(*arguments, **more))[0]


@pytest.fixture(scope="session")
def image(tmp_path_factory):
    """An image so small that sending it takes no time."""
    path = tmp_path_factory.mktemp("images") / "plain.jpg"
    Image.new("RGB", (32, 32), (90, 120, 40)).save(path)
    return path


def loadtest_process(*arguments):
    """Start ``resnet-loadtest`` without the variables of whoever runs the tests; its output goes to a pipe."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RESNET_LOADTEST_")}
    command, pipe = [sys.executable, "-m", "resnet_loadtest", *arguments], subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=subprocess.STDOUT, text=True, env=environment)


def loadtest(folder, *arguments, command="run"):
    """Run ``run`` or ``find-slo`` to its end; returns exit code, output and the report as a dictionary."""
    with loadtest_process(command, "--out", folder, "--name", "run", *arguments) as process:
        output = process.communicate(timeout=120)[0]
    report = folder / "run.json"
    return process.returncode, output, json.loads(report.read_text()) if report.exists() else {}


def small(image):
    """The options of a run over HTTP with that image and next to no warm-up, for stub servers."""
    return ["--mix", "ClassifyHttp", "--warm-up-s", "0.2", "--images", image.parent]


@pytest.fixture
def stub_test(tmp_path, image):
    """Run such a load test."""
    return lambda *arguments, **more: loadtest(tmp_path, *small(image), *arguments, **more)
