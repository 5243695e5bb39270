"""Files for servers in memory that classify an image by its first byte."""

import pytest


@pytest.fixture
def files(tmp_path):
    """Three images, the second of them missing."""
    for index in (1, 2):
        (tmp_path / f"{index}.png").write_bytes(bytes([index]))
    return [str(tmp_path / name) for name in ("1.png", "missing.png", "2.png")]


@pytest.fixture
def known(tmp_path):
    """A folder with one image, whose class is right: any PNG begins with 137."""
    (tmp_path / "known/137").mkdir(parents=True)
    (tmp_path / "known/137/a.png").write_bytes(b"\x89")
    return str(tmp_path / "known")
