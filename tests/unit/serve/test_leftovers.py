"""Who removes the folder and the shared memory of a server."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from resnet_serve import leftovers, watchdog

SHARED_MEMORY = Path("/dev/shm")
WAIT_S = 30


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for temporary files of this test alone."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


@pytest.fixture
def region(temporary: Path) -> Iterator[Path]:
    """Shared memory of a server that was killed together with its watchdog; its folder is there, too."""
    folder = temporary / f"resnet_serve_{os.getpid()}_killed01"
    (folder / "backends").mkdir(parents=True)
    made = SHARED_MEMORY / f"{folder.name}_region"
    made.touch()
    yield made
    made.unlink(missing_ok=True)


def test_a_folder_ends_with_its_block(temporary: Path) -> None:
    """With the shared memory that is named after it."""
    with leftovers.folder() as (folder, _):
        (folder / "triton.log").touch()
        region = SHARED_MEMORY / f"{folder.name}_region"
        region.touch()
    assert not region.exists()
    assert not list(temporary.iterdir())


def test_what_killed_processes_left_is_removed(temporary: Path, region: Path) -> None:
    """The folder that no process has locked, and its shared memory; other files stay."""
    others = {temporary / "resnet-serve-1.log", temporary / "resnet_serve_logs"}
    for other in others:
        other.mkdir()
    leftovers.remove_abandoned()
    assert not region.exists()
    assert set(temporary.iterdir()) == others


# Waits to be killed, and so does a child with the lock, until its standard input closes.
HOLDER = """
import signal, subprocess
from resnet_serve import leftovers
with leftovers.folder() as (folder, lock):
    subprocess.Popen(["cat"], pass_fds=[lock])
    print(folder, flush=True)
    signal.pause()
"""


def test_a_folder_in_use_stays(temporary: Path) -> None:
    """While the process that made it lives, and then while a child does that was given the lock."""
    environment = {**os.environ, "TMPDIR": str(temporary)}
    pipe = subprocess.PIPE
    process = subprocess.Popen([sys.executable, "-c", HOLDER], stdin=pipe, stdout=pipe, text=True, env=environment)
    folder = Path(process.stdout.readline().strip())
    leftovers.remove_abandoned()
    assert folder.exists()
    process.kill()
    process.wait()
    leftovers.remove_abandoned()
    assert folder.exists()
    process.communicate()  # closes the pipe, so that the child ends
    deadline_s = time.monotonic() + WAIT_S
    while folder.exists():
        assert time.monotonic() < deadline_s
        leftovers.remove_abandoned()


def test_a_link_is_not_followed(temporary: Path, region: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link with the name of a server's folder does not lead to another folder's removal."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (temporary / "resnet_serve_1_link0001").symlink_to(elsewhere)
    leftovers.remove_abandoned()
    assert elsewhere.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can give a folder to another user")
def test_a_folder_of_another_user_stays(temporary: Path, region: Path) -> None:
    """It could bear the name of a living server of this user, which has its folder elsewhere."""
    (folder,) = temporary.iterdir()
    os.chown(folder, 65534, 65534)
    leftovers.remove_abandoned()
    assert region.exists()
    watchdog.remove(folder)
    assert not region.exists()
