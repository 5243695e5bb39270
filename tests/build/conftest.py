"""Fixtures of the build's tests: the command in this process, and one repository of random weights with variants."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from resnet_build import BuildError, export_onnx
from resnet_build.__main__ import main
from resnet_client.requests import FEATURES, PIXELS, PROBABILITIES

# BF16 is not among them: random weights make logits so large that their rounding decides.
RANDOM = ("--weights", "random:0", "--max-batch-size", "2")
SIZE, CHANNELS, CLASSES = 12, 8, 5  # of the small network
VARIANTS = ("--variant", "int8", "--variant", "fp16", "--default-model", "fp32")


@dataclasses.dataclass(frozen=True)
class Result:
    """Exit code and output of the command."""

    returncode: int
    stdout: str
    stderr: str


Build = Callable[..., Result]


@pytest.fixture(scope="session")
def build() -> Build:
    """Run ``resnet-build`` with random weights, unless others are given, in this process, where torch is imported."""

    def run(repository: Path, *arguments: object) -> Result:
        stdout, stderr = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            code = main([*RANDOM, "--repository", str(repository), *map(str, arguments)])
        return Result(code, stdout.getvalue(), stderr.getvalue())

    return run


@pytest.fixture
def is_rebuilt(build: Build, monkeypatch: pytest.MonkeyPatch) -> Callable[..., bool]:
    """Whether the command would build a repository again: it is stopped where it exports."""

    def stop(*_: object) -> None:
        raise BuildError("exports")

    def run(repository: Path, *arguments: object) -> bool:
        with monkeypatch.context() as patch:
            patch.setattr(export_onnx, "export", stop)
            result = build(repository, *arguments)
        assert (result.stderr == "resnet-build: exports\n") != ("is up to date" in result.stdout), result
        return result.returncode == 1

    return run


@pytest.fixture
def reuse_export(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], None]:
    """Copy the ONNX file of a repository in builds of the same network, because an export takes seconds.

    The builds compare the copy with their own network.
    """

    def reuse(repository: Path) -> None:
        artifact = repository / "network_onnx/1/model.onnx"
        monkeypatch.setattr(export_onnx, "export", lambda _, path: shutil.copyfile(artifact, path))

    return reuse


@pytest.fixture(scope="session")
def calibration_images(tmp_path_factory: pytest.TempPathFactory, shared_folder: Path, images: dict[str, Path]) -> Path:
    """A folder of few images, so that calibration is quick."""
    folder = tmp_path_factory.mktemp("calibration")
    for name, path in images.items():
        with Image.open(path) as image:
            for turn in range(2):
                image.convert("RGB").rotate(180 * turn).save(folder / f"{name}-{turn}.jpg")
    with contextlib.suppress(OSError):  # another worker was earlier
        folder.rename(shared_folder / "calibration")
    return shared_folder / "calibration"


@pytest.fixture(scope="session")
def random_repository(build: Build, shared_folder: Path, calibration_images: Path) -> Path:
    """A repository of random weights with variants, whose ``resnet50`` ends in one; tests leave it as it is.

    The second worker finds it up to date.
    """
    repository = shared_folder / "random"
    result = build(repository, *VARIANTS, "--calibration-images", calibration_images)
    assert result.returncode == 0, result.stderr
    return repository


@pytest.fixture
def own_repository(random_repository: Path, tmp_path: Path) -> Path:
    """A copy of it; files are linked, so they may be replaced but not written to."""
    return shutil.copytree(random_repository, tmp_path / "repository", copy_function=os.link)


@pytest.fixture
def pixels() -> np.ndarray:
    """Sixteen small images."""
    return np.random.default_rng(0).integers(0, 256, (16, SIZE, SIZE, 3), dtype=np.uint8)


@pytest.fixture
def small_network(tmp_path: Path) -> Path:
    """Two convolutions with the steps around them that the export has; the first one's channels differ in range."""
    rng = np.random.default_rng(1)
    scale = np.geomspace(0.05, 20, CHANNELS)[:, None, None, None]
    constants = {
        "mean": np.array([123.7, 116.3, 103.5]).reshape(1, 3, 1, 1),
        "std": np.array([58.4, 57.1, 57.4]).reshape(1, 3, 1, 1),
        "w1": rng.normal(size=(CHANNELS, 3, 3, 3)) * scale,
        "b1": rng.normal(size=CHANNELS),
        "w2": rng.normal(size=(CHANNELS, CHANNELS, 3, 3)) / scale.reshape(1, -1, 1, 1),
        "b2": rng.normal(size=CHANNELS),
        "w3": rng.normal(size=(CLASSES, CHANNELS)) / 10,
        "b3": rng.normal(size=CLASSES),
    }
    nodes = [
        helper.make_node("Cast", [PIXELS], ["cast"], "cast", to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["cast"], ["chw"], "transpose", perm=[0, 3, 1, 2]),
        helper.make_node("Sub", ["chw", "mean"], ["sub"], "sub"),
        helper.make_node("Div", ["sub", "std"], ["div"], "div"),
        helper.make_node("Conv", ["div", "w1", "b1"], ["conv1"], "conv1"),
        helper.make_node("Relu", ["conv1"], ["relu1"], "relu1"),
        helper.make_node("Conv", ["relu1", "w2", "b2"], ["conv2"], "conv2"),
        helper.make_node("Relu", ["conv2"], ["relu2"], "relu2"),
        helper.make_node("ReduceMean", ["relu2", "axes"], [FEATURES], "pool", keepdims=0),
        helper.make_node("Gemm", [FEATURES, "w3", "b3"], ["logits"], "linear", transB=1),
        helper.make_node("Softmax", ["logits"], [PROBABILITIES], "softmax", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info(PIXELS, TensorProto.UINT8, ["batch", SIZE, SIZE, 3])],
        [
            helper.make_tensor_value_info(PROBABILITIES, TensorProto.FLOAT, ["batch", CLASSES]),
            helper.make_tensor_value_info(FEATURES, TensorProto.FLOAT, ["batch", CHANNELS]),
        ],
        [
            *(numpy_helper.from_array(values.astype(np.float32), name) for name, values in constants.items()),
            numpy_helper.from_array(np.array([2, 3]), "axes"),
        ],
    )
    path = tmp_path / "small.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    return path
