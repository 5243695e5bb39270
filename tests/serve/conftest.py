"""Small repositories, and servers of one test alone."""

from __future__ import annotations

import importlib
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from serving import Running, serve

from .small_network import config as network_config
from .small_network import network


class TritonModelException(Exception):  # noqa: N818  # Triton's own name
    """The exception that Triton's Python backend expects of a model that cannot be loaded."""


@pytest.fixture(scope="module")
def import_backend() -> Iterator[Callable[[str], Any]]:
    """Import a module of the Python backends, which are made for Triton's process; its utilities are stood in for."""
    utilities: Any = ModuleType("triton_python_backend_utils")
    utilities.TritonModelException = TritonModelException
    with pytest.MonkeyPatch.context() as patched:
        patched.setitem(sys.modules, utilities.__name__, utilities)
        yield lambda name: importlib.import_module(f"resnet_serve.backends.{name}")


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the temporary files of this test alone, in TMPDIR."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    return folder


@pytest.fixture
def one_model(plain_repository: Path, tmp_path: Path) -> Path:
    """A repository that starts quickly: the preprocessing model alone."""
    shutil.copytree(plain_repository / "preprocess", tmp_path / "one_model/preprocess")
    return tmp_path / "one_model"


def add_network(repository: Path, name: str, **config: Any) -> None:
    """Add a small network; ``config`` is as for :func:`small_network.config`."""
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(network_config(name, **config))
    (repository / name / "1/model.onnx").write_bytes(network())


@pytest.fixture
def serving(tmp_path: Path) -> Callable[..., AbstractContextManager[Running]]:
    """Start ``resnet-serve`` for this test alone, as :func:`serve` does."""
    return lambda repository, *arguments: serve(tmp_path, repository, *arguments)
