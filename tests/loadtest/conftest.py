"""Made-up runs for the analysis, stub servers of known behaviour, and the command in a process of its own."""

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
from resnet_loadtest.samples import GeneratorMetrics, Status, table
from resnet_loadtest.schedule import stages
from resnet_loadtest.server_metrics import ServerSide
from resnet_loadtest.server_statistics import Step

STUBS = {"http": Path(__file__).with_name("stub_server.py"), "grpc": Path(__file__).with_name("stub_grpc.py")}


def samples_of(durations_s, *, spacing_s=0.01, late_s=0.0, statuses=None):
    """One request every ``spacing_s``; durations are service times."""
    rows = []
    for i, duration_s in enumerate(durations_s):
        status = Status.OK if statuses is None else statuses[i]
        sent_s = i * spacing_s + late_s
        rows.append(
            (i * spacing_s, sent_s, sent_s + duration_s, status, int(status == Status.OK), int(status != Status.OK))
        )
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


def measured(seconds, *, cpu=0.1, rss_bytes=10**8):
    """What a generator measures about itself at the end of each of these seconds."""
    return [GeneratorMetrics(0, second + 1.0, cpu, 2 * cpu, rss_bytes, 1.0) for second in seconds]


def run_of(samples, *, options=None, generator=None, steps=None, duration_s=10.0):
    """A run made of its samples; all else is as it should be."""
    options = options or Options(rate=100.0, duration_s=duration_s)
    course = stages(options.profile, options.level, options.duration_s)
    steps = {"resnet50": step_of("resnet50", int(samples["answered"].sum()))} if steps is None else steps
    server = ServerSide("stub", steps, (steps,) * len(course), {"resnet50": ""}, frozenset(), (), {})
    generator = generator or measured(range(int(duration_s)))
    return Run(options, "2026-01-01T00:00:00+00:00", course, samples, generator, server)


@pytest.fixture
def random():
    """A seeded source of numbers."""
    return np.random.default_rng(7)


@pytest.fixture
def stub():
    """Start stub servers; gives their URLs."""
    processes = []

    def start(*arguments, protocol="http"):
        command = [sys.executable, STUBS[protocol], *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        return f"{protocol}://127.0.0.1:{int(process.stdout.readline())}"

    start.processes = processes
    yield start
    for process in processes:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.fixture
def image(tmp_path):
    """An image so small that sending it takes no time."""
    folder = tmp_path / "images"
    folder.mkdir()
    Image.new("RGB", (32, 32), (90, 120, 40)).save(folder / "plain.jpg")
    return folder / "plain.jpg"


def loadtest_process(*arguments, **more):
    """Start ``resnet-loadtest`` without the variables of whoever runs the tests; its output goes to pipes."""
    environment = {name: text for name, text in os.environ.items() if not name.startswith("RESNET_LOADTEST_")}
    command = [sys.executable, "-m", "resnet_loadtest", *arguments]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment, **more
    )


@pytest.fixture
def loadtest(tmp_path):
    """Run ``run`` or ``find-slo`` in a process of its own; gives exit code, output and the report as a dictionary."""

    def run(*arguments, command="run"):
        process = loadtest_process(command, "--out", tmp_path, "--name", "run", *arguments)
        output = process.communicate(timeout=120)[0]
        report = tmp_path / "run.json"
        document = json.loads(report.read_text()) if report.exists() else {}
        return process.returncode, output, document

    return run


@pytest.fixture
def stub_test(loadtest, image):
    """The same over HTTP with that small image and next to no warm-up, for stub servers."""

    def run(*arguments, command="run"):
        few = ["--mix", "ClassifyHttp", "--warm-up-s", "0.2", "--images", image.parent]
        return loadtest(*few, *arguments, command=command)

    return run
