"""``resnet-loadtest tune`` on the real server, with measurements of a second.

The present setting lets a batch wait for most of it, so another setting wins whatever else the machine does.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from google.protobuf import text_format
from resnet_client import ClientConfig
from resnet_client.admin import ModelControl
from resnet_client.named_configs import LOCAL, TUNED, models_with, named_config
from resnet_loadtest import tuned_config
from resnet_serve import ServerConfig, TritonServer
from tritonclient.grpc import model_config_pb2 as pb

MODELS = ("preprocess", "network_onnx", "resnet50")
DELAY_US = 150_000
# With one core and small batches there are two candidates.
ON_ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from resnet_command import loadtest
loadtest()
"""


def wait_for_batches(config):
    """Change a config so that the network's batches wait."""
    config.max_batch_size = 4
    if config.name == "network_onnx":
        config.dynamic_batching.max_queue_delay_microseconds = DELAY_US


@pytest.fixture(scope="module")
def slow(repository_copy):
    """A repository whose network lets batches wait."""
    for model in MODELS:
        repository_copy.add(model, change=wait_for_batches)
    return repository_copy.folder


@pytest.fixture(scope="module")
def slow_server(slow):
    """A server of it."""
    with TritonServer(ServerConfig(slow, port=0)) as server:
        yield server


def variables(server):
    """The variables that lead to a server."""
    return {
        **os.environ,
        "RESNET_URL": server.grpc_url,
        "RESNET_HTTP_URL": server.http_url,
        "RESNET_METRICS_URL": server.metrics_url,
        "RESNET_ADMIN_TOKEN": server.admin_token,
    }


def start(repository, environment, *arguments):
    """Start the command; its output goes to a pipe."""
    few = ["--repository", str(repository), "--users", "2", "--trial-s", "0.5"]
    return subprocess.Popen(
        [sys.executable, "-c", ON_ONE_CORE, "tune", *few, *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment,
    )  # fmt: skip


def ended(process):
    """Wait for the end; gives exit code and output."""
    output, _ = process.communicate(timeout=240)
    return process.returncode, output


def served(server):
    """The configs that are loaded, by model."""
    with ModelControl(ClientConfig(url=server.grpc_url, admin_token=server.admin_token)) as control:
        return {model: control.config(model) for model in MODELS}


def test_what_prevents_a_measurement_is_one_message(repository, server):
    """No server, no token, no ensemble, no latency."""
    cases = [
        ({"RESNET_URL": "grpc://127.0.0.1:1"}, 3, "grpc://127.0.0.1:1 cannot be reached"),
        ({"RESNET_ADMIN_TOKEN": ""}, 3, "it requires the admin token"),
        ({"RESNET_MODEL": "network_onnx"}, 64, "network_onnx cannot be tuned: it is not an ensemble"),
        ({"RESNET_LOADTEST_SLO": "throughput>=5/s"}, 64, "expected one objective on the latency"),
    ]
    processes = [start(repository, variables(server) | changed) for changed, _, _ in cases]
    for process, (_, code, complaint) in zip(processes, cases, strict=True):
        returned, output = ended(process)
        assert (returned, output.count("\n"), complaint in output) == (code, 1, True), output


@pytest.mark.load
def test_objective_that_no_setting_meets_changes_nothing(slow, slow_server):
    """The exit code is 1. Without a rate, it is a share of what the present setting answers."""
    before = served(slow_server)
    code, output = ended(start(slow, variables(slow_server), "--rounds", "1", "--slo", "p50<=1ms"))
    assert code == 1, output
    assert re.search(r"^\d settings, 1 x .*: p50<=1ms at [0-9.]+ requests/s$", output, re.MULTILINE), output
    assert "no setting meets the objective in its median; no file was written" in output
    assert models_with(slow, TUNED) == []
    assert served(slow_server) == before


@pytest.mark.load
def test_ctrl_c_restores_the_configs_and_writes_nothing(slow, slow_server):
    """While a candidate is loaded: exit code 130, and the server has the configs that it had."""
    before, deadline_s = served(slow_server), time.monotonic() + 60
    with start(slow, variables(slow_server), "--rounds", "99") as process:
        try:
            while served(slow_server) == before:
                assert time.monotonic() < deadline_s
                time.sleep(0.01)
            process.send_signal(signal.SIGINT)
            code, output = ended(process)
        finally:
            process.kill()
    assert code == 130, output
    assert "images/s with 2 users" in output
    assert served(slow_server) == before
    assert models_with(slow, TUNED) == []


@pytest.mark.load
def test_tune_starts_a_server_and_the_next_one_uses_what_it_wrote(slow, tmp_path):
    """Without a URL; the configs have a comment with their origin, ``config.pbtxt`` stays."""
    own = shutil.copytree(slow, tmp_path / "repository", copy_function=os.link)
    environment = {name: text for name, text in os.environ.items() if name != "RESNET_URL"}
    options = "--rounds", "1", "--slo", "p50<=20s", "--rate", "2/s"
    code, output = ended(start(own, environment, *options))
    assert code == 0, output
    assert models_with(own, TUNED) == ["network_onnx", "preprocess"]
    text = named_config(own, "network_onnx", TUNED).read_text()
    assert "# Command: resnet-loadtest tune --repository" in text
    assert "# Median (range), p50<=20s at 2.0 requests/s:" in text
    tuned = text_format.Parse(text, pb.ModelConfig())
    assert tuned.dynamic_batching.max_queue_delay_microseconds == 0
    tuned.dynamic_batching.max_queue_delay_microseconds = DELAY_US
    assert tuned == tuned_config.read_base(own, "network_onnx", LOCAL)
    with TritonServer(ServerConfig(own, port=0)) as server:
        batching = served(server)["network_onnx"]["dynamic_batching"]
    assert not int(batching.get("max_queue_delay_microseconds", 0))
