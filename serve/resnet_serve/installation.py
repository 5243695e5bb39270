"""Finds the ``tritonserver`` that the wheel ``nvidia-pytriton`` ships, and composes its backend directory.

The wheel has Triton's Python backend only. Triton takes a *backend* written in Python too: a folder with a
``model.py``. So the directory composed here holds the wheel's ``python`` backend and ours, named
``onnxruntime``, ``openvino`` and ``pytorch`` like NVIDIA's C++ ones, and the same model repository is served by both.
"""

from __future__ import annotations

import ctypes.util
import dataclasses
import importlib.metadata
import importlib.util
import os
import platform
import shutil
import sys
import sysconfig
from pathlib import Path

from resnet_serve.errors import ServerError

_BACKENDS = Path(__file__).parent / "backends"
NETWORK_BACKENDS = ("onnxruntime", "openvino", "pytorch")
_STUB = "triton_python_backend_stub"
_FIRST_BROKEN_NUMPY = 2


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
            shutil.copy2(_BACKENDS / name / "model.py", directory / name)

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
