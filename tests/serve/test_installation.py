"""Finding the installed server, errors if it cannot run here, and removal of its temporary folder."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
from processes import wait_for
from resnet_serve import ServerError, installation

SHARED_MEMORY = Path("/dev/shm")


def test_compose_writes_four_backends(tmp_path: Path) -> None:
    """Binary, worker and libraries exist, and the composed directory has real files only: Triton refuses a link."""
    found = installation.find()
    found.compose(tmp_path)
    assert os.access(found.binary, os.X_OK)
    assert {path.name for path in tmp_path.iterdir()} == {"python", "onnxruntime", "openvino", "pytorch"}
    assert (tmp_path / "python/libtriton_python.so").is_file()
    assert all((tmp_path / name / "model.py").is_file() for name in installation.NETWORK_BACKENDS)
    assert not [path for path in tmp_path.rglob("*") if path.is_symlink()]


def test_environment_is_that_of_this_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """The virtual environment comes first, and a PYTHONHOME of the shell is not passed on."""
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    environment = installation.find().environment()
    assert "PYTHONHOME" not in environment
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert set(filter(None, sys.path)) <= set(environment["PYTHONPATH"].split(os.pathsep))


def without_wheel(patch: pytest.MonkeyPatch) -> None:
    """Hide the wheel that has the server."""
    find = importlib.util.find_spec
    patch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "pytriton" else find(name, *rest))


def without_libpython(patch: pytest.MonkeyPatch) -> None:
    """Hide the shared library of Python."""
    patch.setattr(installation.sysconfig, "get_config_var", lambda _: "/nowhere")
    patch.setattr(installation.ctypes.util, "find_library", lambda _: None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda patch: patch.setattr(importlib.metadata, "version", lambda _: "2.4.6"),
            r"numpy 2\.4\.6 is installed.*pip install 'numpy<2'",
        ),
        (
            lambda patch: patch.setattr(platform, "machine", lambda: "riscv64"),
            r"not on linux riscv64: use docker compose",
        ),
        (
            lambda patch: patch.setattr(sys, "version_info", SimpleNamespace(major=3, minor=99)),
            r"does not support Python 3\.99; it supports .*3\.11",
        ),
        (without_wheel, r"pip install '\.\[serve\]'"),
        (without_libpython, "shared library libpython3.*apt-get install libpython3"),
    ],
    ids=["numpy 2", "platform", "Python", "wheel", "libpython"],
)
def test_find_refuses_what_cannot_work(
    monkeypatch: pytest.MonkeyPatch, change: Callable[[pytest.MonkeyPatch], None], message: str
) -> None:
    """The message names the remedy."""
    change(monkeypatch)
    with pytest.raises(ServerError, match=message):
        installation.find()


@pytest.fixture
def region(temporary: Path) -> Iterator[Path]:
    """Shared memory of a server that was killed together with its watchdog; its folder is there, too."""
    folder = temporary / f"resnet_serve_{os.getpid()}_killed01"
    (folder / "backends").mkdir(parents=True)
    made = SHARED_MEMORY / f"{folder.name}_region"
    made.touch()
    yield made
    made.unlink(missing_ok=True)


def test_remove_abandoned_folders_removes_what_killed_processes_left(temporary: Path, region: Path) -> None:
    """The folder that no process has locked, and its shared memory; other files and the target of a link stay."""
    others = {temporary / "resnet-serve-1.log", temporary / "resnet_serve_logs"}
    for other in others:
        other.mkdir()
    link = temporary / "resnet_serve_1_link0001"
    link.symlink_to(temporary / "resnet_serve_logs")
    installation.remove_abandoned_folders()
    assert not region.exists()
    assert set(temporary.iterdir()) - {link} == others


# Waits to be killed, and so does a child with the lock, until its standard input closes.
HOLDER = """
import signal, subprocess
from resnet_serve import installation
with installation.temporary_folder() as (folder, lock):
    subprocess.Popen(["cat"], pass_fds=[lock])
    print(folder, flush=True)
    signal.pause()
"""


def test_remove_abandoned_folders_keeps_a_folder_in_use(temporary: Path) -> None:
    """While the process that made it lives, and then while a child does that was given the lock."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER], stdin=pipe, stdout=pipe, text=True) as process:
        folder = Path(process.stdout.readline().strip())
        installation.remove_abandoned_folders()
        assert folder.exists()
        process.kill()
        process.wait()
        installation.remove_abandoned_folders()
        assert folder.exists()
        process.communicate()  # closes the pipe, so that the child ends

    def is_removed() -> bool:
        installation.remove_abandoned_folders()
        return not folder.exists()

    wait_for(is_removed, "the folder is left")
