"""The Ray job on this machine."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq
import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_ray_job_writes_a_row_for_each_file(
    example: Callable[..., str], images: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the class, or the error of a file that is not an image."""
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    folder = tmp_path / "images"
    folder.mkdir()
    shutil.copy(images["cat"], folder / "cat.png")
    (folder / "notes.txt").write_text("no image")
    example("ray_job.py", "images", "classes")
    rows = {Path(row["path"]).name: row for row in pq.read_table(tmp_path / "classes").to_pylist()}
    assert rows.keys() == {"cat.png", "notes.txt"}
    assert rows["cat.png"]["label"] == "Egyptian cat"
    assert rows["cat.png"]["probability"] > 0.5
    assert rows["notes.txt"]["label"] == ""
    assert "are not an image in a known format" in rows["notes.txt"]["error"]
