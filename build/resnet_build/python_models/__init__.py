"""The Python models that the build copies into a repository, and the files that each of them needs."""

from __future__ import annotations

from pathlib import Path

from resnet_client import preprocessing

_FOLDER = Path(__file__).parent

DALI = _FOLDER / "preprocess_dali.py"
"""The pipeline of the model ``preprocess_dali``."""


def preprocess_files() -> dict[str, Path]:
    """Return the files of the model ``preprocess``: path in its version folder → source.

    Its own files are ``model_repository/preprocess/1`` in a checkout; the wheel has a copy of them here.
    """
    own = {name: _FOLDER / "preprocess" / name for name in ("model.py", "allocator.py", "admission.py")}
    return own | preprocessing_files()


def check_files() -> dict[str, Path]:
    """Return the files of the model ``preprocess_check``: path in its version folder → source."""
    preprocess = preprocess_files()
    return preprocess | {"model.py": _FOLDER / "preprocess_check.py", "preprocess.py": preprocess["model.py"]}


def preprocessing_files() -> dict[str, Path]:
    """Return the files of the package ``preprocessing``: path in a version folder → source."""
    package = Path(preprocessing.__file__).parent
    return {f"{package.name}/{path.name}": path for path in sorted(package.glob("*.py"))}
