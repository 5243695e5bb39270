"""Which models are served, with which configs, and what is not served where a package is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from resnet_serve import ServerConfig, models

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"


def test_servable_is_everything_where_everything_is_installed() -> None:
    """Nothing is missing here."""
    assert models.without_package(ServerConfig(REPOSITORY)) == {}
    assert models.servable(ServerConfig(REPOSITORY)) == ("*",)


def test_servable_leaves_out_what_needs_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network, and the ensembles that end in it, as in an image without torch; the default model stays."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    config = ServerConfig(REPOSITORY)
    assert models.without_package(config) == {"network_torchscript": "torch", "resnet50_torchscript": "torch"}
    served = models.servable(config)
    assert {"resnet50", "network_onnx", "preprocess"} <= set(served)
    assert not {"network_torchscript", "resnet50_torchscript"} & set(served)


@pytest.mark.parametrize(
    ("given", "files", "used"),
    [
        (None, [], ""),
        (None, ["tuned"], "tuned"),
        (None, ["local", "gpu"], "local"),
        (None, ["local", "tuned"], "tuned"),
        (None, ["other", "gpu"], ""),
        ("", ["tuned"], ""),
        ("other", ["tuned"], "other"),
    ],
)
def test_model_config_name_is_tuned_then_local(tmp_path: Path, given: str | None, files: list[str], used: str) -> None:
    """Unless the caller names another, or none."""
    (tmp_path / "network_onnx/configs").mkdir(parents=True)
    for name in files:
        (tmp_path / f"network_onnx/configs/{name}.pbtxt").touch()
    assert models.model_config_name(ServerConfig(tmp_path, model_config_name=given)) == used
