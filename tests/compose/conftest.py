"""Whether compose files can be run here, and images for the servers that they start."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import skimage.data
from PIL import Image

from . import project


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs an engine where there is none."""
    here = [item for item in items if Path(__file__).parent in item.path.parents]
    if here and (reason := project.engine_missing()):
        for item in here:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="session")
def cat() -> bytes:
    """An image of a cat, as JPEG."""
    buffer = io.BytesIO()
    Image.fromarray(skimage.data.cat()).save(buffer, "JPEG")
    return buffer.getvalue()
