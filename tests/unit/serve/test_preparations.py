"""What is checked before a server starts, and what is read from its log when it did not."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import resnet_serve
from resnet_serve import ServerError, diagnosis, installation, ports


def test_public_api_is_sorted_and_complete() -> None:
    """What is exported is what is meant to be."""
    assert resnet_serve.__all__ == sorted(resnet_serve.__all__)
    assert all(hasattr(resnet_serve, name) for name in resnet_serve.__all__)


def test_the_installed_server_is_found(tmp_path: Path) -> None:
    """Binary, worker and libraries exist, and the composed directory has four backends with real files."""
    found = installation.find()
    found.compose(tmp_path / "backends")
    assert os.access(found.binary, os.X_OK)
    backends = {path.name for path in (tmp_path / "backends").iterdir()}
    assert backends == {"python", "onnxruntime", "openvino", "pytorch"}
    library = tmp_path / "backends/python/libtriton_python.so"
    assert library.is_file()
    assert not library.is_symlink()  # Triton refuses a link


def test_workers_see_what_this_interpreter_sees(monkeypatch: pytest.MonkeyPatch) -> None:
    """The virtual environment comes first, and a PYTHONHOME of the shell is not passed on."""
    monkeypatch.setenv("PYTHONHOME", "/nowhere")
    environment = installation.find().environment()
    assert "PYTHONHOME" not in environment
    assert environment["PATH"].split(os.pathsep)[0] == str(Path(sys.executable).parent)
    assert set(filter(None, sys.path)) <= set(environment["PYTHONPATH"].split(os.pathsep))


def test_numpy_2_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """It would answer with empty tensors and no error."""
    monkeypatch.setattr(importlib.metadata, "version", lambda _: "2.4.6")
    with pytest.raises(ServerError, match=r"numpy 2\.4\.6 is installed.*pip install 'numpy<2'"):
        installation.find()


def test_another_platform_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel is for Linux x86-64."""
    monkeypatch.setattr(platform, "machine", lambda: "aarch64")
    with pytest.raises(ServerError, match=r"not on linux aarch64; use docker compose"):
        installation.find()


def test_an_unsupported_python_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message lists what there is."""

    class Version:
        major, minor = 3, 99

    monkeypatch.setattr(sys, "version_info", Version)
    with pytest.raises(ServerError, match=r"no worker for Python 3\.99; it has them for .*3\.11"):
        installation.find()


def test_a_missing_wheel_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bare install has no server."""
    real = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "pytriton" else real(name, *rest)
    )
    with pytest.raises(ServerError, match=r"pip install 'resnet50-triton\[serve\]'"):
        installation.find()


def test_a_missing_libpython_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A Python without shared library cannot run the workers."""
    monkeypatch.setattr(installation.sysconfig, "get_config_var", lambda _: str(tmp_path))
    monkeypatch.setattr(installation.ctypes.util, "find_library", lambda _: None)
    with pytest.raises(ServerError, match="no shared libpython3.*apt-get install libpython3"):
        installation.find()


def test_free_ports_differ_and_are_free() -> None:
    """Three ports to listen on at once."""
    found = ports.free_ports("127.0.0.1", 3)
    assert len(set(found)) == 3
    ports.refuse_taken("127.0.0.1", found)


def test_a_taken_port_is_refused() -> None:
    """The message names address and remedy."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"cannot listen on 127.0.0.1:{port} .*--port 0"):
            ports.refuse_taken("127.0.0.1", [port])


def test_an_impossible_port_is_refused() -> None:
    """65536 is one too many."""
    with pytest.raises(ServerError, match="the highest is 65535"):
        ports.refuse_taken("127.0.0.1", [65536])


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("E1123 x.cc:1] the artifact /models/net/1/model.onnx is missing: run resnet-build", "run resnet-build"),
        ("ModuleNotFoundError: No module named 'PIL'", "a package is missing"),
        ("bind: Address already in use", "a port is taken"),
        ("x: error while loading shared libraries: libz.so.9: cannot open", "a shared library is missing"),
        ("write: No space left on device", "no space left"),
        ("E1123 x.cc:1] the artifact /models/net/1/model.onnx cannot be loaded: std::bad_alloc", "is damaged"),
    ],
)
def test_known_causes_are_read_from_the_log(tmp_path: Path, line: str, sentence: str) -> None:
    """The first line of the message is a cause with a remedy, and quotes the log."""
    log = tmp_path / "log"
    log.write_text(f"I1123 x.cc:1] hello\n{line}\n")
    cause = diagnosis.cause(log)
    assert cause is not None
    assert sentence in cause.message
    assert cause.is_lasting == (sentence not in {"a port is taken", "no space left", "is damaged"})


def test_only_the_present_start_is_diagnosed(tmp_path: Path) -> None:
    """After a restart, what an earlier start has said is over."""
    log = tmp_path / "log"
    log.write_text("bind: Address already in use\n")
    since = log.stat().st_size
    assert diagnosis.port_is_taken(log)
    assert diagnosis.cause(log, since) is None
    assert not diagnosis.port_is_taken(log, since)


def test_error_lines_are_shown_without_the_harmless_ones(tmp_path: Path) -> None:
    """A machine without a GPU says so in an error line; that is no cause."""
    log = tmp_path / "log"
    log.write_text("E1123 a.cc:1] CudaDriverHelper has not\nI1123 fine\nE1123 b.cc:2] real\nerror: creating server\n")
    assert diagnosis.errors(log) == "E1123 b.cc:2] real\nerror: creating server"
    assert diagnosis.cause(log) is None


@pytest.mark.parametrize("content", [None, "one\ntwo"])
def test_without_error_lines_the_end_is_shown(tmp_path: Path, content: Any) -> None:
    """Something is always shown, if there is anything."""
    log = tmp_path / "log"
    if content is not None:
        log.write_text(content)
    assert diagnosis.errors(log) == (content or "")
