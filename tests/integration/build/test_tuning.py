"""``resnet-build tune`` on the real server, and what later builds make of its choice."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_build import configs, manifest, photos
from resnet_build.__main__ import main
from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_build.schedule import schedule
from resnet_build.tuning import record
from resnet_build.tuning.control import Control, Ensemble
from resnet_build.tuning.load import Caller, Photo
from resnet_serve import ServerConfig, TritonServer
from tritonclient.grpc import model_config_pb2 as pb

# On one core there are two layouts only, which makes it quick.
ON_ONE_CORE = """
import os, sys
os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
from resnet_build.__main__ import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def own(repository: Path, tmp_path: Path) -> Path:
    """A copy that a test may change, with batches of 2 at most; only what is not written is shared."""
    copy = shutil.copytree(repository, tmp_path / "repository", copy_function=os.link)
    small = ServingOptions(max_batch_size=2)
    for path in copy.glob("*/config.pbtxt"):
        config = configs.parse(path.read_text())
        schedule(config, small)
        replace(path, configs.to_text(config))
    content = manifest.read(copy)
    manifest.record_serving(content, small)
    replace(copy / "manifest.json", manifest.to_json(content))
    return copy


def replace(path: Path, text: str) -> None:
    """Write a file anew, and not into the one that a link shares."""
    path.unlink()
    path.write_text(text)


def tune(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the command."""
    command = [sys.executable, "-c", ON_ONE_CORE, "tune", "--rounds", "1", "--round-s", "0.5", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)


def test_a_choice_is_measured_and_written(own: Path) -> None:
    """The server has run every setting of the record, and the files say the chosen one, and where it comes from."""
    finished = tune("--repository", str(own), "--callers", "2")
    assert finished.returncode == 0, finished.stdout + finished.stderr
    content = manifest.read(own)
    tuned = content["tuned"]
    assert {"measured_at", "processor", "cores", "server", "objective", "batch_ms"} <= tuned.keys()
    assert tuned["cores"] == 1
    assert tuned["network"] == "network_onnx"
    # 0 leaves it to the build.
    explicit = tuned["serving"] | {
        "instances": tuned["serving"]["instances"] or 1,
        "preferred_batch_size": tuned["serving"]["preferred_batch_size"] or 2,
    }
    assert explicit in [entry["options"] for entry in tuned["measured"]]
    assert all(value > 0 for entry in tuned["measured"] for value in entry["rounds"])
    chosen = ServingOptions(**content["serving"])
    assert {name: content["serving"][name] for name in tuned["serving"]} == tuned["serving"]
    for model in ("preprocess", "network_onnx", "resnet50"):
        text = (own / model / "config.pbtxt").read_text()
        assert f"# {tuned['note']}\n" in text
        expected = configs.parse(text)
        schedule(expected, chosen)
        assert configs.parse(text) == expected
    assert "chosen: " in finished.stdout


def test_a_server_that_runs_takes_every_setting_and_gets_its_own_back(own: Path) -> None:
    """No more is taken at once than the setting says, though more is allowed; at the end the files' own is served."""
    ensemble = Ensemble.read(own, "resnet50")
    models = ("preprocess", "network_onnx", "resnet50")
    explicit = ("--model-control-mode=explicit", "--load-model=resnet50")
    with TritonServer(ServerConfig(own, port=0, triton_args=explicit)) as server:
        target = server.grpc_url.removeprefix("grpc://")
        with Control(target, server.admin_token, ensemble) as control:
            assert control.gpus() == 0
            photo = Photo("shipped", photos.shipped_photos()[0].read_bytes())
            caller = Caller(control.client, "resnet50", "network_onnx", [photo])
            caller.check_photos()
            damaged = dataclasses.replace(caller, photos=[photo, Photo("holiday.jpg", photo.encoded[:2000])])
            with pytest.raises(BuildError, match=r"the photo holiday\.jpg cannot be tuned with: .*leave it out"):
                damaged.check_photos()
            for batch, instances in ((1, 2), (2, 1), (1, 1)):
                wanted = ServingOptions(
                    max_batch_size=2,
                    preferred_batch_size=batch,
                    instances=instances,
                    threads=1,
                    preprocess_instances=2,
                )
                control.apply(wanted, likely_batch=1)
                before = control.batches("network_onnx")
                assert 0 < caller.classify(0) < 30
                assert control.batches_since("network_onnx", before, 1).keys() == {1}
                before = control.batches("network_onnx")
                caller.closed_loop(8, 1.5)
                assert max(control.batches_since("network_onnx", before, 8)) == batch
                served = {name: served_config(control, name) for name in models}
                assert [served[name].max_batch_size for name in models] == [2, 2, 2]
                assert list(served["network_onnx"].dynamic_batching.preferred_batch_size) == [batch]
                assert served["network_onnx"].instance_group[0].count == instances
                assert served["preprocess"].instance_group[0].count == 2
            assert len(caller.poisson(rate=50, seconds=0.2, seed=0)) > 0
            control.restore(ensemble)
            assert ensemble.options(ServingOptions()) == ServingOptions(max_batch_size=2)
            for name in models:
                assert served_config(control, name).max_batch_size == 2
            assert served_config(control, "preprocess").instance_group[0].count == 1


def served_config(control: Control, model: str) -> pb.ModelConfig:
    """What the server has loaded."""
    return control.client.get_model_config(model).config


def test_an_objective_that_nobody_keeps_changes_nothing(own: Path) -> None:
    """It is told before anything but the costs is measured, with exit code 1."""
    before = (own / "network_onnx/config.pbtxt").read_bytes()
    finished = tune("--repository", str(own), "--slo", "p99<=1ms")
    assert finished.returncode == 1
    assert "no setting is predicted to keep p99<=1ms" in finished.stderr
    assert (own / "network_onnx/config.pbtxt").read_bytes() == before
    assert "tuned" not in manifest.read(own)


@pytest.mark.parametrize(
    ("arguments", "code", "complaint"),
    [
        (("--model", "network_onnx"), 1, "network_onnx in .* is no ensemble of preprocess and a network"),
        (("--model", "resnet51"), 1, "resnet51/config.pbtxt cannot be read .*; build the repository first"),
        (("--slo", "fast"), 2, "--slo 'fast' is no objective"),
        (("--images", "/dev/null"), 2, "tuning needs photos: /dev/null holds none"),
        (("--url", "http://localhost:8000"), 2, "--url must be a gRPC address"),
        (("--round-s", "nan"), 2, "--round-s must be above 0, and end"),
        (("--slo", "p99<=1s", "--grid"), 2, "--grid compares throughput: leave --slo out"),
    ],
)
def test_what_cannot_be_tuned_is_told(
    repository: Path, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], code: int, complaint: str
) -> None:
    """Before any server is started, in a sentence."""
    assert main(["tune", "--repository", str(repository), *arguments]) == code
    assert re.search(complaint, capsys.readouterr().err)


def test_later_builds_keep_the_choice(own: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A plain build finds the tuned repository up to date."""
    chosen = ServingOptions(max_batch_size=2, preferred_batch_size=1, instances=2, threads=1)
    record.write(own, chosen, {"note": "Tuned in a test."}, print)
    assert main(["--weights", "keras-v1", "--repository", str(own)]) == 0
    assert "is up to date" in capsys.readouterr().out
    network = configs.parse((own / "network_torchscript/config.pbtxt").read_text())
    assert network.instance_group[0].count == 2
    assert list(network.dynamic_batching.preferred_batch_size) == [1]
    assert network.parameters["INTRA_OP_THREAD_COUNT"].string_value == "1"
    assert manifest.tuned_schedule(manifest.read(own))["instances"] == 2


def test_who_shares_a_network_allows_no_more_than_it(own: Path) -> None:
    """An ensemble with another first step follows the network that it shares; the rest of it stays."""
    (own / "other").mkdir()
    shared = configs.parse((own / "resnet50/config.pbtxt").read_text())
    network = shared.ensemble_scheduling.step[-1]
    shared.name = "other"
    del shared.ensemble_scheduling.step[:]
    shared.ensemble_scheduling.step.append(network)
    (own / "other/config.pbtxt").write_text(configs.to_text(shared))
    record.write(own, ServingOptions(max_batch_size=1), {"note": "Tuned in a test."}, print)
    written = configs.parse((own / "other/config.pbtxt").read_text())
    shared.max_batch_size = 1
    assert written == shared
