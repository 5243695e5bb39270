"""Publication: all files or none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from resnet_build import BuildError
from resnet_build.publication import is_unfinished, locked, publication


def files(root: Path) -> dict[str, str]:
    """Every file below a folder, with its content, and every empty folder."""
    found = {str(path.relative_to(root)): path for path in sorted(root.rglob("*"))}
    content = {name: path.read_text() for name, path in found.items() if path.is_file()}
    return content | {f"{name}/": "" for name, path in found.items() if path.is_dir() and not any(path.iterdir())}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A repository with one model."""
    root = tmp_path / "repository"
    (root / "net").mkdir(parents=True)
    (root / "net/config.pbtxt").write_text("old")
    return root


def test_publication_renames_at_the_end(root: Path) -> None:
    """Nothing changes before the block ends, then everything has; a server that reads a file keeps the old one."""
    with (root / "net/config.pbtxt").open() as reader:
        with publication(root) as out:
            out.write("net/config.pbtxt", "new")
            out.write("net/2/model.onnx", "bytes")
            assert (root / "net/config.pbtxt").read_text() == "old"
            assert not (root / "net/2").exists()
            out.folder("ensemble/1")
        assert reader.read() == "old"
    assert files(root) == {"net/config.pbtxt": "new", "net/2/model.onnx": "bytes", "ensemble/1/": ""}


def test_publication_that_fails_changes_nothing(root: Path) -> None:
    """An exception in the block leaves the repository as it was, without leftovers and folders."""
    with pytest.raises(RuntimeError), publication(root) as out:
        out.write("net/config.pbtxt", "new")
        out.write("network_int8/1/model.onnx", "bytes")
        out.folder("resnet50_int8/1")
        raise RuntimeError
    assert files(root) == {"net/config.pbtxt": "old"}


def test_publication_makes_folders_before_it_renames(root: Path) -> None:
    """The error comes before the first rename."""
    (root / "ensemble").touch()
    before = files(root)
    with pytest.raises(BuildError, match="nothing was changed"), publication(root) as out:
        out.write("net/config.pbtxt", "new")
        out.folder("another/1")
        out.folder("ensemble/1")
    assert files(root) == before
    assert not is_unfinished(root)


def test_publication_removes_at_the_end(root: Path) -> None:
    """A file to remove stays if the build fails, and may be missing."""
    with pytest.raises(RuntimeError), publication(root) as out:
        out.remove("net")
        raise RuntimeError
    assert files(root) == {"net/config.pbtxt": "old"}
    with publication(root) as out:
        out.remove("net")
        out.remove("never-there")
        out.write("other/config.pbtxt", "new")
    assert files(root) == {"other/config.pbtxt": "new"}


FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from resnet_build import BuildError
from resnet_build.publication import publication

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))  # the kernel refuses more, as a full disk would
try:
    with publication(Path(sys.argv[1])) as out:
        out.write("net/config.pbtxt", "new")
        out.write("net/1/model.onnx", "x" * 2000)
except BuildError as exc:
    print(exc)
"""


def test_publication_on_a_full_disk_changes_nothing(root: Path) -> None:
    """A build on a full disk fails with a message and changes nothing."""
    result = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(root)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "cannot be written" in result.stdout
    assert "nothing was changed" in result.stdout
    assert files(root) == {"net/config.pbtxt": "old"}


INTERRUPTED = """
import os, signal, sys, threading
from pathlib import Path
from resnet_build.publication import publication

arrived, wake = os.pipe()
os.set_blocking(wake, False)
signal.set_wakeup_fd(wake)
other = threading.Thread(target=threading.Event().wait, daemon=True)
other.start()
rename = Path.replace

def interrupted(self, target):
    rename(self, target)
    signal.pthread_kill(other.ident, signal.SIGINT)
    os.read(arrived, 1)

Path.replace = interrupted
try:
    with publication(Path(sys.argv[1])) as out:
        out.write("net/config.pbtxt", "new")
        out.write("net/labels.txt", "new")
        out.remove("old")
except KeyboardInterrupt:
    print("interrupted")
print(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
"""


KILLED = """
import os, signal, sys
from pathlib import Path
from resnet_build.publication import publication

rename = Path.replace

def killed(self, target):
    rename(self, target)
    os.kill(os.getpid(), signal.SIGKILL)

Path.replace = killed
with publication(Path(sys.argv[1])) as out:
    out.write("net/config.pbtxt", "new")
    out.write("manifest.json", "new")
"""


def test_publication_killed_among_its_renames_is_noticed(root: Path) -> None:
    """Old and new files may be mixed until the next build has written everything."""
    assert not is_unfinished(root)
    result = subprocess.run([sys.executable, "-c", KILLED, str(root)], timeout=60, check=False)
    assert result.returncode == -signal.SIGKILL
    assert is_unfinished(root)
    with publication(root) as out:
        out.write("net/config.pbtxt", "whole")
    assert files(root) == {"net/config.pbtxt": "whole"}


def test_publication_with_a_failed_rename_is_noticed(root: Path) -> None:
    """The message advises building again, and that build must not find everything up to date."""
    (root / "net/labels.txt").mkdir()
    with pytest.raises(BuildError, match=r"was written only in part .*; build again"), publication(root) as out:
        out.write("net/config.pbtxt", "new")
        out.write("net/labels.txt", "new")
    assert is_unfinished(root)


def test_publication_defers_ctrl_c_to_the_last_rename(root: Path) -> None:
    """The interrupt is raised after everything is written, even if another thread receives the signal."""
    (root / "old").mkdir()
    result = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(root)], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.split() == ["interrupted", "True"]
    assert files(root) == {"net/config.pbtxt": "new", "net/labels.txt": "new"}
    assert not (root / "old").exists()


def test_publication_in_another_thread_leaves_signals_alone(root: Path) -> None:
    """Python sets handlers in the main thread only."""

    def publish() -> None:
        with publication(root) as out:
            out.write("net/config.pbtxt", "new")

    thread = threading.Thread(target=publish)
    thread.start()
    thread.join(30)
    assert files(root) == {"net/config.pbtxt": "new"}


def test_publication_removes_leftovers_of_killed_ones(root: Path) -> None:
    """Files of a dead process are removed, those of a living one stay."""
    (root / "net/.net-1-model.onnx.999999999.tmp").write_text("dead")
    living = root / f"net/.net-1-model.pt.{os.getppid()}.tmp"
    living.write_text("alive")
    (root / "network_int8").mkdir()
    (root / "network_int8/.network_int8-1-model.onnx.999999999.tmp").write_text("dead")
    with publication(root) as out:
        out.write("net/config.pbtxt", "new")
    assert files(root) == {"net/config.pbtxt": "new", str(living.relative_to(root)): "alive"}


def test_locked_makes_builds_wait_for_each_other(root: Path) -> None:
    """A build holds the repository until it has ended, so that none loses another's record."""
    messages: list[str] = []
    waiting = threading.Event()

    def report(message: str) -> None:
        messages.append(message)
        waiting.set()

    def second() -> None:
        with locked(root, report):
            messages.append("in")

    with locked(root, lambda _: None):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(30)
        assert messages == [f"another build is writing {root}; waiting for it"]
    thread.join(30)
    assert messages[-1] == "in"
