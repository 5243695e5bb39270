"""Images with a free licence that installed packages ship: for a first request, load tests and accuracy checks."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from pathlib import Path

# scikit-image's are CC0 or public domain, scikit-learn's CC BY 2.0.
_EVERYDAY = {
    "skimage": ("data/chelsea.png", "data/coffee.png", "data/rocket.jpg", "data/astronaut.png"),
    "sklearn": ("datasets/images/flower.jpg", "datasets/images/china.jpg"),
}
_UNUSUAL = {
    "skimage": (
        "data/retina.jpg", "data/hubble_deep_field.jpg", "data/motorcycle_left.png", "data/ihc.png", "data/camera.png",
        "data/coins.png", "data/grass.png", "data/gravel.png", "data/brick.png",
    ),
}  # fmt: skip

INSTALL = "pip install scikit-image scikit-learn"
"""The command that installs the packages."""


def everyday() -> list[Path]:
    """Images of everyday things; empty if the packages are not installed."""
    return _find(_EVERYDAY)


def unusual() -> list[Path]:
    """Images of less common things, for calibration, where variety counts."""
    return _find(_UNUSUAL)


def _find(names: Mapping[str, tuple[str, ...]]) -> list[Path]:
    """The files of the installed packages, which are not imported."""
    found = []
    for package, files in names.items():
        spec = importlib.util.find_spec(package)
        for folder in (spec.submodule_search_locations or []) if spec else []:
            found += [path for name in files if (path := Path(folder, name)).exists()]
    return found
