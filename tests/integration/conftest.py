"""Copies of the repository that a test may change."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from google.protobuf import text_format
from tritonclient.grpc import model_config_pb2 as pb


class RepositoryCopy:
    """Models of the built repository in a folder of the test's own; artifacts are linked where they can be.

    Warm-up is left out: it takes most of a start.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        self._source = source

    def add(self, model: str, name: str = "", change: Callable[[pb.ModelConfig], None] | None = None) -> None:
        """Copy a model, under another name if one is given, and change its configuration."""
        target = self.folder / (name or model)
        shutil.copytree(self._source / model, target, copy_function=_link, ignore=lambda *_: {"config.pbtxt"})
        config = text_format.Parse((self._source / model / "config.pbtxt").read_text(), pb.ModelConfig())
        config.name = target.name
        del config.model_warmup[:]
        if change is not None:
            change(config)
        (target / "config.pbtxt").write_text(text_format.MessageToString(config))


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


@pytest.fixture(scope="module")
def repository_copy(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> RepositoryCopy:
    """An empty folder that models of the built repository can be copied into."""
    return RepositoryCopy(repository, tmp_path_factory.mktemp("repository"))
