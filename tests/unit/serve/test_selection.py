"""Which models are served where a package is missing."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from resnet_serve import ServerConfig, flags, selection
from resnet_serve.options import config_of, parser

REPOSITORY = Path(__file__).resolve().parents[3] / "model_repository"


@pytest.fixture
def no_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation without torch, as in the CPU image."""
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "torch" else find(name))


def test_everything_is_served_where_everything_is_installed() -> None:
    """Nothing is missing here."""
    assert selection.without_package(ServerConfig(REPOSITORY)) == {}
    assert selection.servable(ServerConfig(REPOSITORY)) == ("*",)


def test_what_needs_a_missing_package_is_left_out(no_torch: None) -> None:
    """The network, and the ensembles that end in it; the default door stays."""
    assert selection.without_package(ServerConfig(REPOSITORY)) == {
        "network_torchscript": "torch",
        "resnet50_torchscript": "torch",
    }
    served = selection.servable(ServerConfig(REPOSITORY))
    assert {"resnet50", "network_onnx", "preprocess"} <= set(served)
    assert not {"network_torchscript", "resnet50_torchscript"} & set(served)


def test_the_server_is_told_what_to_load(no_torch: None, tmp_path: Path) -> None:
    """Unless the caller names models."""
    config = ServerConfig(REPOSITORY, triton_args=("--load-model=network_torchscript",))
    chosen = flags.of_server(config, REPOSITORY, tmp_path, [1, 2, 3])
    assert [flag for flag in chosen if flag.startswith("--load")] == ["--load-model=network_torchscript"]
    default = flags.of_server(ServerConfig(REPOSITORY), REPOSITORY, tmp_path, [1, 2, 3])
    assert "--load-model=resnet50" in default
    assert "--load-model=network_torchscript" not in default


@pytest.mark.parametrize(
    ("arguments", "files", "passed"),
    [
        ([], [], []),
        ([], ["tuned"], ["--model-config-name=tuned"]),
        ([], ["local", "gpu"], ["--model-config-name=local"]),
        ([], ["local", "tuned"], ["--model-config-name=tuned"]),
        ([], ["other", "gpu"], []),
        (["--model-config-name", "none"], ["tuned"], []),
        (["--model-config-name", ""], ["tuned"], []),
        (["--model-config-name", "other"], ["tuned"], ["--model-config-name=other"]),
    ],
)
def test_model_config_name_is_passed(tmp_path: Path, arguments: list[str], files: list[str], passed: list[str]) -> None:
    """The tuned config is used where there is one, then the local one, unless the caller names another, or none."""
    for name in files:
        path = tmp_path / "models/network_onnx/configs" / f"{name}.pbtxt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    args = parser().parse_args(["--repository", str(tmp_path / "models"), *arguments])
    config = config_of(args, tmp_path / "log")
    found = flags.of_server(config, Path(config.repository), tmp_path, [1, 2, 3])
    assert [flag for flag in found if flag.startswith("--model-config-name")] == passed
