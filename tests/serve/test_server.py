"""``TritonServer``, the Python API: starts, stops, and starts that are refused."""

from __future__ import annotations

import os
import shutil
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import resnet_serve
from resnet_client import Client
from resnet_serve import ModelStatus, ServerConfig, ServerError, TritonServer


def test_public_api_is_sorted_and_complete() -> None:
    """The package exports its public names."""
    assert resnet_serve.__all__ == sorted(resnet_serve.__all__)
    assert all(hasattr(resnet_serve, name) for name in resnet_serve.__all__)


def test_models_are_listed(all_models: TritonServer) -> None:
    """Every model with version, backend, batch and device; ensembles last."""
    models = {model.name: model for model in all_models.models()}
    assert list(models)[-2:] == ["resnet50", "resnet50_torchscript"]
    assert models["network_onnx"] == ModelStatus("network_onnx", (1,), "onnxruntime", 32, "2 instances on CPU")
    assert models["network_torchscript"].backend == "pytorch"
    assert models["resnet50"].backend == "ensemble"


def test_start_and_stop_can_be_repeated_next_to_another_server(server: TritonServer, one_model: Path) -> None:
    """Free ports and own shared memory keep servers apart; a stop returns the exit code once."""
    second = TritonServer(ServerConfig(one_model, port=0))
    for _ in range(2):
        second.start()
        assert second.grpc_url != server.grpc_url
        assert [model.name for model in second.models()] == ["preprocess"]
        assert second.wait(timeout_s=0.01) is None
        assert second.stop() == 0
        assert second.stop() is None
    with pytest.raises(ServerError, match="not running"):
        second.wait()


@pytest.mark.parametrize("host", ["localhost", "::"])
def test_server_listens_on_names_and_ipv6_addresses(one_model: Path, host: str) -> None:
    """Each port answers at the address that is printed."""
    with TritonServer(ServerConfig(one_model, host=host, port=0)) as server:
        for url in (server.grpc_url, server.http_url):
            with Client(url, model="preprocess") as client:
                assert client.metadata()["model"]["name"] == "preprocess"
        assert urllib.request.urlopen(server.metrics_url).status == 200  # noqa: S310  # its own address


ODD_NAME = "a'b \"c;$(d)&(e)* Gewürz 图"


def test_server_works_below_and_next_to_any_folder(
    one_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As repository, working directory and TMPDIR; the server leaves nothing there.

    A file system, an editor and git leave folders in the repository that are not models.
    """
    repository, temporary = tmp_path / ODD_NAME / "models", tmp_path / ODD_NAME / "tmp"
    shutil.copytree(one_model, repository)
    for name in ("lost+found", ".ipynb_checkpoints", ".git/objects", "notes", "preprocess/.ipynb_checkpoints"):
        (repository / name).mkdir(parents=True)
    (repository / ".git/config.pbtxt").write_text("[core]")
    temporary.mkdir()
    monkeypatch.chdir(repository.parent)
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    before = set(Path("/tmp").glob(f"resnet_serve_{os.getpid()}_*"))
    with TritonServer(ServerConfig("models", port=0)) as server:
        assert [model.name for model in server.models()] == ["preprocess"]
    assert not list(temporary.iterdir())
    assert set(Path("/tmp").glob(f"resnet_serve_{os.getpid()}_*")) == before


def test_start_is_refused_with_a_model_name_that_triton_cannot_use(one_model: Path) -> None:
    """Workers get the name in a command line that a shell splits."""
    (one_model / "preprocess").rename(one_model / ODD_NAME)
    with pytest.raises(ServerError, match="cannot start the workers of the model .*: rename it"):
        TritonServer(ServerConfig(one_model, port=0)).start()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"repository": "nowhere"}, "the model repository .*nowhere does not exist: run resnet-build"),
        ({"models": ("resnet50",)}, "has no model 'resnet50'; its models: preprocess"),
        ({"repository": "."}, "has no version folder: run resnet-build"),
        ({"log": "missing/triton.log"}, "missing/triton.log cannot be written: No such file"),
        ({"host": "nonsense.invalid"}, "cannot listen on nonsense.invalid"),
        ({"host": "203.0.113.7"}, "cannot listen on 203.0.113.7"),
        ({"admin_token": "too:short"}, "16 or more letters"),
        ({"open_apis": ("models",)}, "invalid API 'models' in --open-apis: expected names of metadata, model-config"),
        ({"triton_args": ("--no-such-flag",)}, "does not know one of the flags"),
    ],
)
def test_start_is_refused_with_cause_and_remedy(one_model: Path, options: dict, message: str) -> None:
    """Nothing is started that cannot run."""
    (one_model.parent / "empty_model").mkdir()
    (one_model.parent / "empty_model/config.pbtxt").touch()
    paths = {name: one_model.parent / value for name, value in options.items() if name in {"repository", "log"}}
    with pytest.raises(ServerError, match=message):
        TritonServer(ServerConfig(**{"repository": one_model, "port": 0, **options, **paths})).start()


def test_start_is_refused_if_the_default_model_fails(repository_copy: Any) -> None:
    """With the cause in its network, although another model is served."""
    for model in ("preprocess", "network_onnx", "resnet50"):
        repository_copy.add(model)
    (repository_copy.folder / "network_onnx/1/model.onnx").unlink()
    server = TritonServer(ServerConfig(repository_copy.folder, port=0))
    with pytest.raises(ServerError, match="^an artifact is missing: run resnet-build") as caught:
        server.start()
    assert "ensemble 'resnet50' depends on 'network_onnx'" in str(caught.value)
    assert server.stop() is None
