"""The whole build: artifacts, idempotence, versions, and a fine-tuned network through to its answer."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import threading
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
from resnet_build import configs, manifest, pipeline
from resnet_build import repository as repository_module
from resnet_build.__main__ import main
from resnet_build.network import make_resnet50
from resnet_build.options import ServingOptions
from resnet_build.repository import locked
from resnet_build.weights import FileOptions, Weights
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer

SMALL = ("--max-batch-size", "2")  # a small parity batch


@dataclasses.dataclass(frozen=True)
class Result:
    """What the command did."""

    returncode: int
    stdout: str
    stderr: str


def build(repository: Path, *arguments: str) -> Result:
    """Run ``resnet-build``, in this process, where torch is imported already."""
    stdout, stderr = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
        code = main(["--repository", str(repository), *SMALL, *arguments])
    return Result(code, stdout.getvalue(), stderr.getvalue())


def content(repository: Path) -> dict[str, tuple[int, int]]:
    """Every file with inode and time of change: the same only if nothing was written."""
    files = (path for path in repository.rglob("*") if path.is_file())
    return {str(path.relative_to(repository)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def write_tuned_config(repository: Path, model: str) -> Path:
    """What ``resnet-loadtest tune`` leaves."""
    path = repository / model / "configs/tuned.pbtxt"
    path.parent.mkdir(exist_ok=True)
    path.write_text((repository / model / "config.pbtxt").read_text())
    return path


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of random weights."""
    repository = tmp_path_factory.mktemp("random") / "repository"
    result = build(repository, "--weights", "random:0")
    assert result.returncode == 0, result.stderr
    return repository


def test_the_onnx_is_one_that_triton_24_10_reads(repository: Path) -> None:
    """ONNX Runtime 1.19 reads opsets up to 21 and IR versions up to 10; the batch is a name, not a number."""
    model = onnx.load(repository / "network_onnx/1/model.onnx")
    assert model.ir_version <= 10
    assert [entry.version <= 21 for entry in model.opset_import if not entry.domain] == [True]
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_the_torchscript_has_no_device(repository: Path) -> None:
    """Nothing in the code or the constants names a device, so that it loads on any."""
    module = torch.jit.load(repository / "network_torchscript/1/model.pt", map_location="meta")
    assert {str(tensor.device) for tensor in (*module.parameters(), *module.buffers())} == {"meta"}
    assert "cuda" not in str(module.inlined_graph)
    assert "Device" not in str(module.inlined_graph)


def test_the_manifest_tells_what_was_built(repository: Path) -> None:
    """Weights with hash, tools, recipe and parity figures are on record."""
    entry = json.loads((repository / "manifest.json").read_text())["versions"]["1"]
    assert len(entry["inputs"]["weights"]["sha256"]) == 64
    assert entry["inputs"]["tools"]["torch"] == torch.__version__.split("+")[0]
    assert {(row["artifact"], row["batch"]) for row in entry["parity"]} == {
        (name, batch) for name in ("network_onnx", "network_torchscript") for batch in (1, 2, 7, 32)
    }
    assert max(row["max_probability_difference"] for row in entry["parity"]) <= 1e-4


def test_nothing_is_done_when_nothing_changed(built: Path) -> None:
    """A second build says so and touches no file, such as a tuned config."""
    tuned = write_tuned_config(built, "preprocess")
    before = content(built)
    result = build(built, "--weights", "random:0")
    assert result.returncode == 0
    assert "is up to date" in result.stdout
    assert content(built) == before
    tuned.unlink()


@pytest.mark.parametrize(
    "missing",
    [
        "network_onnx/labels.txt",
        "preprocess/1/preprocessing/limits.py",
        "resnet50/config.pbtxt",
        "network_onnx/configs/local.pbtxt",
    ],
)
def test_a_missing_small_file_is_noticed(built: Path, missing: str) -> None:
    """Up to date means that everything is there that a server needs."""
    path = built / missing
    aside = path.rename(built / "aside")
    try:
        assert not pipeline.is_up_to_date(*_state(built))
    finally:
        aside.rename(path)
    assert pipeline.is_up_to_date(*_state(built))


def test_a_killed_publication_is_noticed(built: Path) -> None:
    """A build that was killed among its renames left old files beside new ones: the next one is not up to date."""
    mark = built / repository_module._MARK
    mark.touch()
    try:
        assert not pipeline.is_up_to_date(*_state(built))
    finally:
        mark.unlink()
    assert pipeline.is_up_to_date(*_state(built))


def _state(repository: Path) -> tuple[pipeline.BuildOptions, Weights, manifest.Manifest, dict[str, Any]]:
    """What was built, asked for once more."""
    options = pipeline.BuildOptions("random:0", FileOptions(), ServingOptions(max_batch_size=2), repository, repository)
    record = manifest.read(repository)
    found = Weights("random:0", "", "v1.5", {}, ("label",) * 1000, configs.DEFAULT_RECIPE)
    return options, found, record, record["versions"]["1"]["inputs"]


def test_other_serving_options_are_noticed(built: Path) -> None:
    """Configurations are common to all versions; other options ask for a new build of any of them."""
    options, *state = _state(built)
    other = dataclasses.replace(options, serving=ServingOptions(max_batch_size=3))
    assert not pipeline.is_up_to_date(other, *state)


def test_builds_wait_for_each_other(built: Path) -> None:
    """A build holds the repository until it has ended, so that none loses another's record."""
    said: list[str] = []
    told = threading.Event()

    def report(sentence: str) -> None:
        said.append(sentence)
        told.set()

    def second() -> None:
        with locked(built, report):
            said.append("in")

    with locked(built, lambda _: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert told.wait(30)
        assert said == [f"another build is writing {built}; waiting for it"]
    thread.join(30)
    assert said[-1] == "in"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (("--weights", "random:0", "--labels", "x.txt"), "describe a state dict from a file"),
        (("--weights", "random:0", "--arch", "v1"), "describe a state dict from a file"),
        (("--model-version", "0"), "--model-version must be at least 1"),
        (("--threads", "-1"), "--threads must lie between 0 and 1024"),
        (("--weights", "imagenet"), "unknown weights 'imagenet'"),
        (("--weights", "random:x"), "'random:x' is not random:SEED"),
        (("--weights", "missing.pth"), "there is no weights file missing.pth"),
        (("--weights", __file__, "--labels", "missing.txt"), "the label file missing.txt cannot be read"),
        (("--weights", __file__, "--resize", "0"), "--resize 0: "),
        (("--variant", "int8", "--calibration-images", "missing"), "there is no folder missing with calibration"),
        (("--variant", "int8", "--calibration-images", "."), ". holds 0 images"),
        (("--variant", "fp16", "--calibration-images", "."), "--calibration-images is for --variant int8"),
        (("--queue-size", "5000000000"), "--queue-size must lie between 0 and"),
        (("--instances", "65"), "--instances must lie between 0 and 64"),
        (("describe", "--classes", "0"), "--classes must be at least 1"),
    ],
)
def test_senseless_options_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], sentence: str
) -> None:
    """What would be ignored, or could not be served, is told before anything is done, as wrong usage."""
    monkeypatch.chdir(tmp_path)
    result = build(tmp_path / "repository", *arguments)
    assert result.returncode == 2
    assert sentence in result.stderr
    assert not list(tmp_path.iterdir())


def test_a_repository_that_is_a_file_is_told(tmp_path: Path) -> None:
    """A sentence, not a traceback."""
    (tmp_path / "file").touch()
    result = build(tmp_path / "file", "--weights", "random:0")
    assert result.returncode == 1
    assert "cannot be a folder" in result.stderr


def test_a_damaged_artifact_is_noticed(built: Path) -> None:
    """Up to date means, too, that the artifacts are those of the record."""
    path = built / "network_onnx/1/model.onnx"
    content = path.read_bytes()
    path.write_bytes(content[:-1])
    try:
        assert not pipeline.is_up_to_date(*_state(built))
    finally:
        path.write_bytes(content)
    assert pipeline.is_up_to_date(*_state(built))


def test_a_failing_build_leaves_everything_as_it_was(built: Path, tmp_path: Path) -> None:
    """Weights that do not fit change nothing, and the exit code says so."""
    torch.save({"fc.bias": torch.zeros(1000)}, tmp_path / "broken.pth")
    before = content(built)
    result = build(built, "--weights", str(tmp_path / "broken.pth"))
    assert result.returncode == 1
    assert result.stderr.startswith("resnet-build: these weights are not ResNet-50")
    assert content(built) == before


def test_another_version_stands_beside_the_first(built: Path, tmp_path: Path) -> None:
    """``--model-version 2`` leaves version 1 and tuned configs alone; other labels are refused."""
    first = content(built)["network_onnx/1/model.onnx"]
    tuned = write_tuned_config(built, "network_onnx")
    result = build(built, "--weights", "random:1", "--model-version", "2")
    assert result.returncode == 0, result.stderr
    assert "tuned" not in result.stdout
    assert tuned.exists()
    assert content(built)["network_onnx/1/model.onnx"] == first
    assert (built / "network_onnx/2/model.onnx").exists()
    assert json.loads((built / "manifest.json").read_text())["versions"].keys() == {"1", "2"}
    torch.save(make_resnet50("v1.5", 10).state_dict(), tmp_path / "ten.pth")
    (tmp_path / "ten.txt").write_text("x\n" * 10)
    result = build(
        built, "--weights", str(tmp_path / "ten.pth"), "--labels", str(tmp_path / "ten.txt"), "--model-version", "3"
    )
    assert result.returncode == 1
    assert "write to another --repository" in result.stderr


def test_other_options_remove_a_tuned_config(built: Path) -> None:
    """It was measured with the options before; a line names the model, and models without one stay as they are."""
    tuned = write_tuned_config(built, "network_onnx")
    other = tuned.with_name("other.pbtxt")
    other.write_text(tuned.read_text())
    result = build(built, "--weights", "random:0", "--instances", "2")
    assert result.returncode == 0, result.stderr
    line = "removed tuned config of network_onnx (measured with other options); run `resnet-loadtest tune` again"
    assert line in result.stdout
    assert not tuned.exists()
    assert other.exists()


def test_a_fine_tuned_network_is_built_served_and_classified(tmp_path: Path, photos: dict[str, Path]) -> None:
    """A 10-class DataParallel checkpoint with its labels answers with its own classes."""
    net = make_resnet50("v1.5", 10)
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.copy_(torch.tensor([0.0] * 7 + [3.0, 1.0, 0.0]))
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 7}, tmp_path / "tuned.pth")
    labels = [f"thing: {index}" for index in range(10)]
    (tmp_path / "labels.txt").write_text("\n".join(labels) + "\n")
    repository = tmp_path / "repository"
    result = build(repository, "--weights", str(tmp_path / "tuned.pth"), "--labels", str(tmp_path / "labels.txt"))
    assert result.returncode == 0, result.stderr
    with TritonServer(ServerConfig(repository, port=0)) as server, Client(server.grpc_url) as client:
        for model in ("resnet50", "resnet50_torchscript"):
            found = client.classify(photos["cat"], top_k=20, model=model)
            assert [(entry.index, entry.label) for entry in found.predictions[:2]] == [(7, labels[7]), (8, labels[8])]
            assert len(found.predictions) == 10
            assert found.top.probability == pytest.approx(torch.softmax(net.fc.bias, 0)[7].item(), abs=1e-4)


def test_describe_prints_the_totals(capsys: pytest.CaptureFixture[str]) -> None:
    """A person sees parameters, blocks and the cost."""
    assert main(["describe"]) == 0
    shown = capsys.readouterr().out
    assert "25,557,032" in shown
    assert "8.18 GFLOPs" in shown
