"""The ``tritonserver`` in the wheel ``nvidia-pytriton``, and the temporary folder that it runs with.

The wheel has Triton's Python backend only. Triton also accepts backends written in Python: folders with a
``model.py``. So the backend directory contains the wheel's ``python`` backend and those of this package, which have
the names of NVIDIA's C++ backends: ``onnxruntime``, ``openvino`` and ``pytorch``. Both serve the same model repository.

The temporary folder contains the backend directory and, by default, Triton's log. Its name is the prefix of the
server's shared memory in ``/dev/shm``. The process that runs :class:`TritonServer` and its watchdog share a lock on
the folder (flock), which the kernel releases when both have ended. When the server has ended, the watchdog removes the
shared memory. The folder, and any shared memory that is left, is removed

- by ``TritonServer``, when it stops;
- by the watchdog, if it outlives that process;
- by the next start of the same user, if both were killed: then the folder can be locked.
"""

from __future__ import annotations

import contextlib
import ctypes.util
import dataclasses
import fcntl
import importlib.metadata
import importlib.util
import os
import platform
import re
import shlex
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

import resnet_command

from resnet_serve import watchdog
from resnet_serve.config import NotInstalledError, ServerError

# Triton's release in the wheel that pyproject.toml pins.
RELEASE = "2.51 (24.10)"

_BACKENDS = Path(__file__).parent / "backends"
NETWORK_BACKENDS = ("onnxruntime", "openvino", "pytorch")
_MACHINES = ("x86_64", "aarch64")
_STUB = "triton_python_backend_stub"
_FIRST_BROKEN_NUMPY = 2
_FOLDER_PREFIX = "resnet_serve_"
# Names that `temporary_folder` creates; users may have other folders with the same prefix.
_FOLDER_NAME = re.compile(rf"{_FOLDER_PREFIX}\d+_[a-z0-9_]{{8}}")


@dataclasses.dataclass(frozen=True)
class Installation:
    """A usable ``tritonserver`` on this machine.

    Attributes:
        binary: the executable.
        backend: the wheel's folder of the Python backend.
        stub: the Python backend's worker program for the running Python version.
        libraries: folders that it and the stub need in ``LD_LIBRARY_PATH``.
    """

    binary: Path
    backend: Path
    stub: Path
    libraries: tuple[Path, ...]

    def compose(self, directory: Path) -> None:
        """Write a backend directory.

        Files are copied, because Triton refuses a shared library whose real path is outside the directory.
        """
        python = directory / "python"
        shutil.copytree(self.backend, python, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy2(self.stub, python)
        for name in NETWORK_BACKENDS:
            (directory / name).mkdir()
            shutil.copy2(_BACKENDS / f"{name}.py", directory / name / "model.py")

    def environment(self) -> dict[str, str]:
        """Return the server's environment; its workers import what this interpreter imports."""
        libraries = [str(path) for path in self.libraries]
        libraries += filter(None, [os.environ.get("LD_LIBRARY_PATH")])
        return {
            **{name: value for name, value in os.environ.items() if name != "PYTHONHOME"},
            "LD_LIBRARY_PATH": os.pathsep.join(libraries),
            # The stub embeds Python, which finds its home (such as a virtual environment) by the first `python3` in
            # PATH, and decodes paths as ASCII unless PYTHONUTF8 is set.
            "PYTHONUTF8": "1",
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONDONTWRITEBYTECODE": "1",
            "ORT_DISABLE_TELEMETRY": "1",
        }


def find() -> Installation:
    """Find the installed server, and check that it can run here.

    Raises:
        ServerError: the platform, the Python version or an installed package is not supported.
    """
    if sys.platform != "linux" or platform.machine() not in _MACHINES:
        raise ServerError(
            f"resnet-serve runs on Linux with {' or '.join(_MACHINES)} only, not on {sys.platform} "
            f"{platform.machine()}: use docker compose"
        )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise NotInstalledError(resnet_command.not_installed("tritonserver", "serve"))
    package = Path(spec.submodule_search_locations[0])
    server = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / _STUB
    if not stub.exists():
        known = ", ".join(sorted(path.name for path in stub.parent.parent.iterdir()))
        raise ServerError(f"resnet-serve does not support Python {version}; it supports {known}")
    _refuse_broken_numpy()
    libraries = (package.parent / "nvidia_pytriton.libs", *_libpython_folders(version))
    return Installation(server / "bin/tritonserver", server / "backends/python", stub, libraries)


def _refuse_broken_numpy() -> None:
    """With numpy 2, models load and then return empty tensors without an error."""
    version = importlib.metadata.version("numpy")
    if int(version.split(".")[0]) >= _FIRST_BROKEN_NUMPY:
        raise ServerError(
            f"numpy {version} is installed, but this Triton's Python backend needs numpy 1 (with numpy 2 it returns "
            "empty tensors): pip install 'numpy<2'"
        )


def _libpython_folders(version: str) -> tuple[Path, ...]:
    """Return the folder of the shared libpython that the stub needs; empty if the loader finds it by itself."""
    folder, name = sysconfig.get_config_var("LIBDIR"), f"libpython{version}.so.1.0"
    if folder and Path(folder, name).exists():
        return (Path(folder),)
    if ctypes.util.find_library(f"python{version}"):
        return ()
    raise ServerError(
        f"tritonserver needs the shared library {name}, which is missing: install it "
        f"(apt-get install libpython{version}), or use a Python built with --enable-shared"
    )


def is_plain(path: str) -> bool:
    """Return whether Triton's Python backend can use a path: it starts its workers with a shell, without quotes."""
    return shlex.quote(path) == path


def link_if_needed(repository: Path, folder: Path) -> Path:
    """Return the path of a repository that Triton can use: its own, or that of a link in the temporary folder."""
    if is_plain(str(repository)):
        return repository
    link = folder / "models"
    if not link.is_symlink():
        link.symlink_to(repository)
    return link


def _temporary_parent() -> Path:
    """Return the folder for temporary files, or ``/tmp`` if Triton cannot use its path."""
    folder = tempfile.gettempdir()
    return Path(folder if is_plain(folder) else "/tmp")  # noqa: S108  # mkdtemp chooses the name


@contextlib.contextmanager
def temporary_folder() -> Iterator[tuple[Path, int]]:
    """Create a locked folder, and remove it at the end; yields its path and the descriptor that holds the lock."""
    # Another server that starts ignores this name, so it does not remove the folder before it is locked.
    new = Path(tempfile.mkdtemp(prefix=f"new_{_FOLDER_PREFIX}{os.getpid()}_", dir=_temporary_parent()))
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(_locked(new, fcntl.LOCK_SH))
        except OSError as exc:
            new.rmdir()
            raise ServerError(f"{new.parent} cannot be locked ({exc.strerror}): set TMPDIR to another folder") from exc
        made = new.rename(new.with_name(new.name.removeprefix("new_")))
        try:
            yield made, lock
        finally:
            watchdog.remove(made)


def remove_abandoned_folders() -> None:
    """Remove the folders of this user's servers whose process and watchdog were both killed."""
    for found in _temporary_parent().glob(f"{_FOLDER_PREFIX}*"):
        if not _FOLDER_NAME.fullmatch(found.name):
            continue
        # An error means that a living process holds the lock, or that the folder was removed. The owner is checked,
        # because another user could create a folder with the name of a living one.
        with contextlib.suppress(OSError), _locked(found, fcntl.LOCK_EX):
            if found.lstat().st_uid == os.getuid():
                watchdog.remove(found)


@contextlib.contextmanager
def _locked(path: Path, lock: int) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(descriptor, lock | fcntl.LOCK_NB)
        yield descriptor
    finally:
        os.close(descriptor)
