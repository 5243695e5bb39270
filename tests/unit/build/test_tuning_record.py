"""Which configurations a tuning writes, and which it leaves alone."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import pytest
from resnet_build import configs
from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_build.tuning import procedure, record
from resnet_client.preprocessing import Recipe
from tritonclient.grpc import model_config_pb2 as pb

CHOSEN = ServingOptions(preprocess_instances=8, instances=2, threads=1)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """Configurations of a build."""
    for name, text in configs.render_all(ServingOptions(), Recipe(resize=232, crop=224), 10).items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.pbtxt").write_text(text)
    return tmp_path


def add(repository: Path, config: pb.ModelConfig) -> None:
    """Put somebody's own model beside them."""
    (repository / config.name).mkdir()
    (repository / config.name / "config.pbtxt").write_text(configs.to_text(config))


def ensemble(name: str, models: Sequence[str]) -> pb.ModelConfig:
    """An ensemble of somebody's own."""
    config = pb.ModelConfig(name=name, platform="ensemble", max_batch_size=4)
    for model in models:
        config.ensemble_scheduling.step.add(model_name=model, model_version=-1)
    return config


@pytest.mark.parametrize(
    "own",
    [
        None,
        pb.ModelConfig(name="own", backend="python", max_batch_size=4),
        pb.ModelConfig(
            name="own",
            backend="python",
            max_batch_size=4,
            instance_group=[pb.ModelInstanceGroup(kind=pb.ModelInstanceGroup.KIND_GPU, count=3)],
        ),
        pb.ModelConfig(name="own", backend="tensorrt", max_batch_size=4),
        pb.ModelConfig(name="own", backend="onnxruntime", max_batch_size=4, input=[pb.ModelInput(name="OTHER")]),
    ],
)
def test_models_of_somebody_else_stay(repository: Path, own: pb.ModelConfig | None) -> None:
    """Behind our ``preprocess`` or not there at all: neither they nor their ensemble are scheduled as ours."""
    plain = record.rescheduled(repository, CHOSEN)
    if own is not None:
        add(repository, own)
    add(repository, ensemble("theirs", ["preprocess", "own"]))
    found = record.rescheduled(repository, CHOSEN)
    assert found.pop("theirs") == ensemble("theirs", ["preprocess", "own"])
    assert found == plain
    assert plain["preprocess"].instance_group[0].count == 8


def test_a_network_without_instance_group_gets_one(repository: Path) -> None:
    """What says nothing of its instances has Triton's default, and can be told."""
    path = repository / "network_onnx/config.pbtxt"
    config = configs.parse(path.read_text())
    del config.instance_group[:]
    path.write_text(configs.to_text(config))
    found = record.rescheduled(repository, CHOSEN)
    assert found["network_onnx"].instance_group[0].count == 2


def check(repository: Path, model: str) -> None:
    """What is done before a server is started."""
    args = argparse.Namespace(repository=repository, model=model, slo=None, grid=False, round_s=1.0, images=None)
    procedure.check(args)


def test_what_cannot_be_written_is_not_measured(repository: Path) -> None:
    """A damaged configuration, or a network that no build writes, is told before a server is started."""
    check(repository, "resnet50")
    own = configs.parse((repository / "network_onnx/config.pbtxt").read_text())
    own.name = "own"
    own.input[0].name = "OTHER"
    add(repository, own)
    add(repository, ensemble("theirs", ["preprocess", "own"]))
    with pytest.raises(BuildError, match="own is no network that resnet-build writes"):
        check(repository, "theirs")
    (repository / "own/config.pbtxt").write_text("max_batch_size: many")
    with pytest.raises(BuildError, match="own/config.pbtxt cannot be read"):
        check(repository, "resnet50")
