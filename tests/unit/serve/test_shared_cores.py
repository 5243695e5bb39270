"""How instances of a network see each other compute."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest
from resnet_serve.backends.shared_cores import SharedCores


def test_who_comes_second_is_not_alone(tmp_path: Path) -> None:
    """Whoever computes is seen, whether it was alone itself; afterwards it is not."""
    with contextlib.ExitStack() as opened:
        first, second, third = (opened.enter_context(contextlib.closing(SharedCores(tmp_path))) for _ in range(3))
        with first.computing() as is_alone:
            assert is_alone
            with second.computing() as second_is_alone, third.computing() as third_is_alone:
                assert not second_is_alone
                assert not third_is_alone
        with second.computing() as is_alone:
            assert is_alone
            with first.computing() as first_is_alone:
                assert not first_is_alone


def test_a_file_system_without_locks_is_served_without_sharing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some network file systems refuse flock(2): then nobody is alone, and every request is answered."""

    def refuse(_folder: int, _lock: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with contextlib.closing(SharedCores(tmp_path)) as mine, mine.computing() as is_alone:
        assert not is_alone


def test_a_dead_sibling_computes_no_more(tmp_path: Path) -> None:
    """The kernel takes its lock."""
    code = (
        "import sys; from pathlib import Path; from resnet_serve.backends.shared_cores import SharedCores\n"
        "with SharedCores(Path(sys.argv[1])).computing(): print('computing', flush=True); input()"
    )
    sibling = subprocess.Popen(
        [sys.executable, "-c", code, tmp_path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    with sibling, contextlib.closing(SharedCores(tmp_path)) as mine:
        assert sibling.stdout is not None
        assert sibling.stdout.readline() == "computing\n"
        with mine.computing() as is_alone:
            assert not is_alone
        sibling.kill()
        sibling.wait()
        with mine.computing() as is_alone:
            assert is_alone
