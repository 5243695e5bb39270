"""The ``tritonserver`` that the wheel ``nvidia-pytriton`` ships, and the temporary folder that it runs with.

The wheel has Triton's Python backend only. Triton takes a *backend* written in Python too: a folder with a
``model.py``. So the backend directory composed here holds the wheel's ``python`` backend and ours, named
``onnxruntime``, ``openvino`` and ``pytorch`` like NVIDIA's C++ ones, and the same model repository is served by both.

The temporary folder holds the backend directory and, by default, Triton's log; its name begins the names of the
server's shared memory in ``/dev/shm``. The process that runs :class:`TritonServer` and its watchdog share a lock on
the folder (flock), which the kernel releases when both have ended. When the server has ended, the watchdog removes the
shared memory. The folder, and shared memory that is still there, is removed

- by ``TritonServer``, when it stops;
- by the watchdog, if it outlives that process;
- by the next start of the same user, if both were killed: a folder that can be locked belongs to no process.
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
import shutil
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from pathlib import Path

from resnet_serve import watchdog
from resnet_serve.config import ServerError

# Of the wheel that pyproject.toml pins.
RELEASE = "2.51 (24.10)"

_BACKENDS = Path(__file__).parent / "backends"
NETWORK_BACKENDS = ("onnxruntime", "openvino", "pytorch")
_STUB = "triton_python_backend_stub"
_FIRST_BROKEN_NUMPY = 2
_FOLDER_PREFIX = "resnet_serve_"
# As `temporary_folder` names them; users may have other folders that begin so.
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

        Everything is copied: Triton refuses a shared library whose real path lies outside.
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
            # The stub embeds Python, which finds its home, a virtual environment too, through the first
            # `python3` in PATH.
            "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def find() -> Installation:
    """Find the installed server, and check that it can work here.

    Raises:
        ServerError: the platform, the Python version or an installed package does not fit.
    """
    if (sys.platform, platform.machine()) != ("linux", "x86_64"):
        raise ServerError(
            f"the embedded server runs on Linux x86-64, not on {sys.platform} {platform.machine()}; "
            "use docker compose here"
        )
    spec = importlib.util.find_spec("pytriton")
    if spec is None or not spec.submodule_search_locations:
        raise ServerError("there is no tritonserver in this environment: pip install 'resnet50-triton[serve]'")
    package = Path(spec.submodule_search_locations[0])
    server = package / "tritonserver"
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    stub = server / "python_backend_stubs" / version / _STUB
    if not stub.exists():
        known = ", ".join(sorted(path.name for path in stub.parent.parent.iterdir()))
        raise ServerError(f"the embedded server has no worker for Python {version}; it has them for {known}")
    _refuse_broken_numpy()
    libraries = (package.parent / "nvidia_pytriton.libs", *_libpython_folders(version))
    return Installation(server / "bin/tritonserver", server / "backends/python", stub, libraries)


def _refuse_broken_numpy() -> None:
    """With numpy 2 the models load, and then answer with empty tensors and no error."""
    try:
        version = importlib.metadata.version("numpy")
    except importlib.metadata.PackageNotFoundError:
        raise ServerError("numpy is missing: pip install 'resnet50-triton[serve]'") from None
    if int(version.split(".")[0]) >= _FIRST_BROKEN_NUMPY:
        raise ServerError(
            f"numpy {version} is installed, and this Triton's Python backend answers with empty tensors "
            "under numpy 2: pip install 'numpy<2'"
        )


def _libpython_folders(version: str) -> tuple[Path, ...]:
    """Find the shared libpython that the stub is linked against; empty if the loader finds it by itself."""
    folder, name = sysconfig.get_config_var("LIBDIR"), f"libpython{version}.so.1.0"
    if folder and Path(folder, name).exists():
        return (Path(folder),)
    if ctypes.util.find_library(f"python{version}"):
        return ()
    raise ServerError(
        f"there is no shared {name}, which the embedded server needs: install it "
        f"(apt-get install libpython{version}), or use a Python built with --enable-shared"
    )


@contextlib.contextmanager
def temporary_folder() -> Iterator[tuple[Path, int]]:
    """Make a locked folder, and remove it in the end; yields its path and the descriptor that holds the lock."""
    # Named so that the next start takes it for a server's only after it is locked.
    new = Path(tempfile.mkdtemp(prefix=f"new_{_FOLDER_PREFIX}{os.getpid()}_"))
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
    """Remove what servers of this user have left whose process and watchdog were killed."""
    for found in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        if not _FOLDER_NAME.fullmatch(found.name):
            continue
        # Locked by a living process, gone meanwhile, or of another user, who could give it the name of a living one.
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
