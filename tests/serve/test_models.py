"""Which models are served, with which configs, and what is not served where a package is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from resnet_serve import ALL_MODELS, ServerConfig, ServerError, models

REPOSITORY = Path(__file__).resolve().parents[2] / "model_repository"


def test_requested_is_the_default_model_if_the_repository_has_it(tmp_path: Path) -> None:
    """Else all models; names that are given take precedence."""
    assert models.requested(ServerConfig(REPOSITORY)) == ("resnet50",)
    assert models.requested(ServerConfig(tmp_path)) == ALL_MODELS
    assert models.requested(ServerConfig(REPOSITORY, ("network_onnx",))) == ("network_onnx",)


def test_loadable_is_everything_where_everything_is_installed() -> None:
    """Nothing is missing here."""
    assert models.without_package(ServerConfig(REPOSITORY)) == {}
    assert models.loadable(ServerConfig(REPOSITORY, ALL_MODELS)) == ALL_MODELS


def test_loadable_leaves_out_what_needs_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """The network, and the ensembles that end in it, as in an image without torch; the default model stays."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))
    config = ServerConfig(REPOSITORY, ALL_MODELS)
    assert models.without_package(config) == {"network_torchscript": "torch", "resnet50_torchscript": "torch"}
    served = models.loadable(config)
    assert {"resnet50", "network_onnx", "preprocess"} <= set(served)
    assert not {"network_torchscript", "resnet50_torchscript"} & set(served)
    with pytest.raises(ServerError, match="resnet50_torchscript needs torch, which is not installed"):
        models.check(ServerConfig(REPOSITORY, ("resnet50_torchscript",)))


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
