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

DELAY_US = 600_000
# With one core and small batches there are two candidates.
ON_ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from resnet_command import loadtest
loadtest()
"""
QUICK = ("--rounds", "1", "--trial-s", "1", "--users", "2")


@pytest.fixture(scope="module")
def slow(plain_repository, tmp_path_factory):
    """A repository whose network lets batches wait."""
    folder = tmp_path_factory.mktemp("tune") / "repository"
    for model in ("preprocess", "network_onnx", "resnet50"):
        shutil.copytree(
            plain_repository / model, folder / model, copy_function=os.link, ignore=lambda *_: {"config.pbtxt"}
        )
        text = (plain_repository / model / "config.pbtxt").read_text()
        config = text_format.Parse(text, pb.ModelConfig())
        del config.model_warmup[:]
        config.max_batch_size = 4
        if model == "network_onnx":
            config.dynamic_batching.max_queue_delay_microseconds = DELAY_US
        (folder / model / "config.pbtxt").write_text(
            text.partition("\n")[0] + "\n" + text_format.MessageToString(config)
        )
    return folder


@pytest.fixture(scope="module")
def slow_server(slow):
    """A server of it."""
    with TritonServer(ServerConfig(slow, port=0)) as server:
        yield server


@pytest.fixture
def environment(slow_server):
    """The variables that lead to it."""
    return variables(slow_server)


def variables(server):
    """Those that ``resnet-serve --run`` sets."""
    addresses = {
        "RESNET_URL": server.grpc_url,
        "RESNET_HTTP_URL": server.http_url,
        "RESNET_METRICS_URL": server.metrics_url,
        "RESNET_ADMIN_TOKEN": server.admin_token,
    }
    return {**os.environ, **addresses}


def tune(repository, *arguments, environment):
    """Run the command; returns exit code and output."""
    command = [sys.executable, "-c", ON_ONE_CORE, "tune", "--repository", str(repository), *QUICK, *arguments]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False, env=environment)
    return finished.returncode, finished.stdout + finished.stderr


def chosen(output):
    """The line of the table with the choice."""
    return next(line for line in output.splitlines() if line.rstrip().endswith("chosen"))


def served(server):
    """The configs that are loaded, by model."""
    with ModelControl(ClientConfig(url=server.grpc_url, admin_token=server.admin_token)) as control:
        return {model: control.config(model) for model in ("preprocess", "network_onnx", "resnet50")}


def wait_for(condition):
    """Wait, boundedly, for something that another process does."""
    deadline_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline_s
        time.sleep(0.01)


def tuned_files(repository):
    """The models of a repository that have a tuned config."""
    return models_with(repository, TUNED)


@pytest.mark.load
def test_dry_run_writes_nothing_and_the_server_gets_its_configs_back(slow, slow_server, environment):
    """The better setting is found and named; afterwards everything is as before."""
    before = served(slow_server)
    code, output = tune(slow, "--dry-run", environment=environment)
    assert code == 0, output
    assert "images/s with 2 users" in output
    assert "no file was written (--dry-run)" in output
    assert "delay 0 us" in chosen(output)
    assert tuned_files(slow) == []
    assert served(slow_server) == before


@pytest.mark.load
def test_objective_is_on_the_latency_at_a_rate(slow, environment):
    """The lowest latency wins."""
    code, output = tune(slow, "--slo", "p50<=20s", "--rate", "2/s", "--dry-run", environment=environment)
    assert code == 0, output
    assert "p50<=20s at 2.0 requests/s" in output
    assert "delay 0 us" in chosen(output)


@pytest.mark.load
def test_objective_that_no_setting_meets_changes_nothing(repository, server):
    """The exit code is 1. Without a rate, it is a share of what the present setting answers."""
    code, output = tune(repository, "--slo", "p50<=1ms", environment=variables(server))
    assert code == 1, output
    assert re.search(r"^3 settings, 1 x .*: p50<=1ms at [0-9.]+ requests/s$", output, re.MULTILINE), output
    assert "no setting meets the objective in its median; no file was written" in output
    assert tuned_files(repository) == []


def test_ctrl_c_restores_the_configs_and_writes_nothing(slow, slow_server, environment):
    """While a candidate is loaded: exit code 130, and the server has the configs that it had."""
    before = served(slow_server)
    command = [sys.executable, "-c", ON_ONE_CORE, "tune", "--repository", str(slow), "--rounds", "99", "--users", "2"]
    with subprocess.Popen(
        [*command, "--trial-s", "0.1"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
    ) as process:
        try:
            assert any(line.startswith("round 1 of 99") for line in process.stdout)
            wait_for(lambda: served(slow_server) != before)
            process.send_signal(signal.SIGINT)
            rest, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, rest
    assert served(slow_server) == before
    assert tuned_files(slow) == []


@pytest.mark.parametrize(
    ("change", "code", "complaint"),
    [
        ({"RESNET_URL": "grpc://127.0.0.1:1"}, 3, "grpc://127.0.0.1:1 cannot be reached"),
        ({"RESNET_ADMIN_TOKEN": ""}, 3, "it requires the admin token"),
        ({"RESNET_MODEL": "network_onnx"}, 64, "network_onnx cannot be tuned: it is not an ensemble"),
        ({"RESNET_MODEL": "resnet51"}, 3, "resnet51"),
        ({"RESNET_LOADTEST_SLO": "throughput>=5/s"}, 64, "expected one objective on the latency"),
    ],
)
def test_what_prevents_a_measurement_is_one_message(slow, environment, change, code, complaint):
    """No server, no token, no ensemble, no latency."""
    ended, output = tune(slow, environment=environment | change)
    assert ended == code, output
    assert complaint in output
    assert len(output.splitlines()) == 1


def test_a_server_without_model_control_is_one_message(slow):
    """Before anything is measured."""
    with TritonServer(ServerConfig(slow, port=0, triton_args=("--model-control-mode=none",))) as server:
        ended, output = tune(slow, environment=variables(server))
    assert ended == 3, output
    assert "--model-control-mode=explicit" in output
    assert len(output.splitlines()) == 1


@pytest.mark.load
def test_tune_starts_a_server_and_the_next_one_uses_what_it_wrote(slow, tmp_path):
    """Without a URL; the named configs have a comment with their origin, and ``config.pbtxt`` stays as it was."""
    own = shutil.copytree(slow, tmp_path / "repository", copy_function=os.link)
    environment = {name: text for name, text in os.environ.items() if name != "RESNET_URL"}
    code, output = tune(own, environment=environment)
    assert code == 0, output
    assert tuned_files(own) == ["network_onnx", "preprocess"]
    text = named_config(own, "network_onnx", TUNED).read_text()
    assert "# Command: resnet-loadtest tune --repository" in text
    assert "# Median (rounds: 1), images/s with 2 users:" in text
    tuned = text_format.Parse(text, pb.ModelConfig())
    assert tuned.dynamic_batching.max_queue_delay_microseconds == 0
    tuned.dynamic_batching.max_queue_delay_microseconds = DELAY_US
    assert tuned == tuned_config.read_base(own, "network_onnx", LOCAL)
    for name, delay_us in ((None, 0), ("", DELAY_US)):
        with TritonServer(ServerConfig(own, port=0, model_config_name=name)) as server:
            batching = served(server)["network_onnx"]["dynamic_batching"]
        assert int(batching.get("max_queue_delay_microseconds", 0)) == delay_us
