"""The whole build: idempotence, versions, variants, and a fine-tuned network through to its answer."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import onnx
import pytest
import torch
from PIL import Image
from resnet_build import BuildError, UsageError, default_model, pipeline
from resnet_build.network import make_resnet50
from resnet_build.plan import BuildOptions
from resnet_build.serving_options import ServingOptions
from resnet_build.weights import FileOptions, Weights
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer

from .conftest import RANDOM

LABELS = [f"thing: {index}" for index in range(10)]


def content(repository: Path) -> dict[str, tuple[int, int]]:
    """Every file with inode and time of change: the same only if nothing was written."""
    files = (path for path in repository.rglob("*") if path.is_file())
    return {str(path.relative_to(repository)): (path.stat().st_ino, path.stat().st_mtime_ns) for path in files}


def options(repository: Path, weights: str | Path = RANDOM[1], **changed: object) -> BuildOptions:
    """The options of a build of random weights."""
    serving, file_options = ServingOptions(max_batch_size=2), changed.pop("file_options", FileOptions())
    return BuildOptions(str(weights), file_options, serving, repository, repository, **changed)


def write_tuned_config(repository: Path, model: str) -> Path:
    """Write the file that ``resnet-loadtest tune`` writes."""
    path = repository / model / "configs/tuned.pbtxt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("# tuned")
    return path


def replace(path: Path, content: bytes) -> None:
    """Write a file without touching the one that it is linked to."""
    path.unlink()
    path.write_bytes(content)


def test_build_records_what_was_built(repository: Path) -> None:
    """The manifest has weights with their hash, tools, and how far each artifact is away."""
    entry = json.loads((repository / "manifest.json").read_text())["versions"]["1"]
    assert len(entry["inputs"]["weights"]["sha256"]) == 64
    assert entry["inputs"]["tools"]["torch"] == torch.__version__.split("+")[0]
    assert {(row["artifact"], row["batch"]) for row in entry["parity"]} == {
        (name, batch) for name in ("network_onnx", "network_torchscript") for batch in (1, 2, 7, 32)
    }
    assert max(row["max_probability_difference"] for row in entry["parity"]) <= 1e-4


def test_export_onnx_is_one_that_triton_24_10_reads(repository: Path) -> None:
    """ONNX Runtime 1.19 reads opsets up to 21 and IR versions up to 10; the batch is a name, not a number."""
    model = onnx.load(repository / "network_onnx/1/model.onnx")
    assert model.ir_version <= 10
    assert [entry.version <= 21 for entry in model.opset_import if not entry.domain] == [True]
    for tensor in (*model.graph.input, *model.graph.output):
        assert tensor.type.tensor_type.shape.dim[0].dim_param


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:FutureWarning")
def test_export_torchscript_has_no_device(repository: Path) -> None:
    """Nothing in the code or the constants names a device, so that it loads on any."""
    module = torch.jit.load(repository / "network_torchscript/1/model.pt", map_location="meta")
    assert {str(tensor.device) for tensor in (*module.parameters(), *module.buffers())} == {"meta"}
    assert "cuda" not in str(module.inlined_graph)
    assert "Device" not in str(module.inlined_graph)


def test_build_is_idempotent(build, own_repository: Path) -> None:
    """A second build, which names neither variants nor default model, touches no file, such as a tuned config."""
    write_tuned_config(own_repository, "preprocess")
    before = content(own_repository)
    result = build(own_repository)
    assert result.returncode == 0
    assert "is up to date" in result.stdout
    assert content(own_repository) == before


def test_build_notices_what_is_missing_damaged_or_requested(is_rebuilt, own_repository: Path) -> None:
    """Up to date means that all files are there, that artifacts are those of the record, and the options, too."""
    assert not is_rebuilt(own_repository)
    assert is_rebuilt(own_repository, "--max-batch-size", "3")
    assert is_rebuilt(own_repository, "--default-model", "onnx")
    assert is_rebuilt(own_repository, "--gpu-engine", "tensorrt")
    assert is_rebuilt(own_repository, "--weights", "random:1")
    assert is_rebuilt(own_repository, "--force")
    aside = (own_repository / "network_onnx/labels.txt").rename(own_repository / "aside")
    assert is_rebuilt(own_repository)
    aside.rename(own_repository / "network_onnx/labels.txt")
    artifact = own_repository / "network_int8/1/model.onnx"
    replace(artifact, artifact.read_bytes()[:-1])
    assert is_rebuilt(own_repository)


def test_build_that_fails_leaves_everything_as_it_was(build, own_repository: Path, tmp_path: Path) -> None:
    """Weights that do not fit change nothing, and the exit code is 1."""
    torch.save({"fc.bias": torch.zeros(1000)}, tmp_path / "broken.pth")
    before = content(own_repository)
    result = build(own_repository, "--weights", tmp_path / "broken.pth")
    assert result.returncode == 1
    assert "broken.pth contains no ResNet: found 1 tensors (fc.bias (1000,))" in result.stderr
    assert content(own_repository) == before


def test_build_does_not_hash_weights_of_another_network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Hashing them could take any time and memory."""
    torch.save({**make_resnet50("v1.5", 1000).state_dict(), "layer1.extra": torch.zeros(3)}, tmp_path / "net.pth")
    monkeypatch.setattr(Weights, "sha256", property(lambda _: pytest.fail("hashed")))
    with pytest.raises(BuildError, match=r"1 tensors are unknown \(layer1.extra\)"):
        pipeline.build(options(tmp_path, tmp_path / "net.pth"), print)


def test_build_adds_a_version(own_repository: Path, reuse_export) -> None:
    """Version 2 leaves version 1 and tuned configs alone."""
    reuse_export(own_repository)
    for name in ("int8", "fp16"):  # without which it is quicker
        shutil.rmtree(own_repository / f"network_{name}")
    first = content(own_repository)["network_onnx/1/model.onnx"]
    tuned = write_tuned_config(own_repository, "network_onnx")
    messages: list[str] = []
    pipeline.build(options(own_repository, model_version=2), messages.append)
    assert not [message for message in messages if "tuned" in message]
    assert tuned.exists()
    assert content(own_repository)["network_onnx/1/model.onnx"] == first
    assert (own_repository / "network_fp32/2/model.onnx").exists()
    assert json.loads((own_repository / "manifest.json").read_text())["versions"].keys() == {"1", "2"}


def test_build_refuses_a_version_with_other_labels(build, random_repository: Path, tmp_path: Path) -> None:
    """Versions of a model share its config."""
    torch.save(make_resnet50("v1.5", 10).state_dict(), tmp_path / "ten.pth")
    (tmp_path / "ten.txt").write_text("x\n" * 10)
    weights = ("--weights", tmp_path / "ten.pth", "--labels", tmp_path / "ten.txt", "--model-version", "2")
    result = build(random_repository, *weights)
    assert result.returncode == 1
    assert "write to another --repository" in result.stderr


@pytest.fixture(scope="module")
def fine_tuned(build, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, torch.Tensor, tuple[object, ...]]:
    """A repository of a 10-class DataParallel checkpoint for small images, its biases, and the options for it."""
    folder = tmp_path_factory.mktemp("fine-tuned")
    net = make_resnet50("v1.5", 10)
    with torch.no_grad():
        net.fc.weight.zero_()
        net.fc.bias.copy_(torch.tensor([0.0] * 7 + [3.0, 1.0, 0.0]))
    state = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 7}, folder / "tuned.pth")
    (folder / "labels.txt").write_text("".join(f"{label}\n" for label in LABELS))
    network = ("--weights", folder / "tuned.pth", "--labels", folder / "labels.txt", "--image-size", 32)
    tuned = write_tuned_config(folder / "repository", "network_onnx")
    result = build(folder / "repository", *network)
    assert result.returncode == 0, result.stderr
    line = "removed tuned config of network_onnx (measured with other options); run `resnet-loadtest tune` again"
    assert line in result.stdout
    assert not tuned.exists()
    return folder / "repository", net.fc.bias.detach(), network


def test_build_serves_a_fine_tuned_network(fine_tuned, images: dict[str, Path]) -> None:
    """It answers with its own classes; a tuned config of before is removed."""
    repository, biases, _ = fine_tuned
    models = ("resnet50", "resnet50_torchscript")
    with TritonServer(ServerConfig(repository, models, port=0)) as server, Client(server.grpc_url) as client:
        for model in models:
            found = client.classify(images["cat"], top_k=20, model=model)
            assert [(entry.index, entry.label) for entry in found.predictions[:2]] == [(7, LABELS[7]), (8, LABELS[8])]
            assert len(found.predictions) == 10
            assert found.top.probability == pytest.approx(torch.softmax(biases, 0)[7].item(), abs=1e-4)


def test_build_compares_top1_and_writes_nothing_below_the_bound(
    build, fine_tuned, reuse_export, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """INT8 keeps all of FP32's top-1; both answer one class only, which 400 of 1000 labels are."""
    monkeypatch.setattr(default_model, "measure", lambda *_: {"onnx": 1.0, "int8": 2.0, "bf16": 1.0, "fp32": 1.0})
    repository, _, network = fine_tuned
    reuse_export(repository)
    for number in range(3):
        Image.new("RGB", (20, 30), (255, 80 * number, 0)).save(tmp_path / f"{number}.png")
    rows = ["file,class_index", *(f"{number % 3}.png,{7 if number < 400 else 8}" for number in range(1000))]
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    labelled = ("--accuracy-images", tmp_path, "--accuracy-labels", tmp_path / "labels.csv")
    auto = (*network, "--default-model", "auto", *labelled)
    failed = build(tmp_path / "repository", *auto)
    assert "network_int8: share of FP32's top-1 on 1000 images (90% interval): 100.0% [99.6, 100.4]" in failed.stdout
    assert "resnet-build: top-1 on 1000 images is 40.0%, below --min-accuracy 0.5; nothing was written" in failed.stderr
    assert failed.returncode == 1
    assert not (tmp_path / "repository/manifest.json").exists()
    (tmp_path / "labels.csv").write_text("\n".join(rows[:-1]))
    refused = build(tmp_path / "repository", *auto)
    assert refused.returncode == 2
    assert "compares top-1 on at least 1,000 labelled images, and --accuracy-images has 999" in refused.stderr


def test_build_checks_calibration_images_before_it_exports(tmp_path: Path, calibration_images: Path) -> None:
    """The export takes long, and would be in vain."""
    folder = shutil.copytree(calibration_images, tmp_path / "images")
    (folder / "broken.jpg").write_bytes(b"nothing")
    messages: list[str] = []
    changed = {"calibration_images": folder, "variants": ("int8",)}
    with pytest.raises(BuildError, match=r"the calibration image .*broken\.jpg cannot be used"):
        pipeline.build(options(tmp_path / "own", **changed), messages.append)
    assert not [message for message in messages if "exported" in message]
    with pytest.raises(UsageError, match="--calibration-images requires --variant int8"):
        pipeline.build(options(tmp_path / "own", calibration_images=folder), messages.append)


def test_build_options_keep_the_variants_that_are_there(own_repository: Path) -> None:
    """A variant is dropped by removing its folders; an empty folder, as a killed build leaves, is not a variant."""
    assert options(own_repository).all_variants == ("int8", "fp32", "fp16")
    shutil.rmtree(own_repository / "network_fp16")
    assert options(own_repository).all_variants == ("int8", "fp32")
    assert options(own_repository, variants=("bf16",)).all_variants == ("int8", "bf16", "fp32")
    (own_repository / "network_fp16/1").mkdir(parents=True)
    (own_repository / "network_fp16/.network_fp16-1-model.onnx.tmp").touch()
    assert options(own_repository).all_variants == ("int8", "fp32")
    for name in ("config.pbtxt", "1/model.onnx"):
        file = own_repository / "network_fp16" / name
        file.touch()
        assert "fp16" in options(own_repository).all_variants
        file.unlink()


def test_build_options_for_tensorrt_have_the_fp16_network(tmp_path: Path) -> None:
    """The default model uses it on GPU hosts."""
    assert options(tmp_path, gpu={"gpu_engine": "tensorrt"}).all_variants == ("fp16",)
    assert options(tmp_path, gpu={"gpu_engine": "torchscript"}).all_variants == ()
