"""What a run leaves: terminal summary, HTML page, JSON, JUnit XML."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_loadtest import records
from resnet_loadtest.report import junit, page

if TYPE_CHECKING:
    from pathlib import Path

    from resnet_loadtest.analysis import Run

__all__ = ["write_all"]


def write_all(run: Run, folder: Path, stem: str) -> list[Path]:
    """Write HTML, JSON and JUnit XML; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    html, json, xml = (folder / f"{stem}{suffix}" for suffix in (".html", ".json", ".xml"))
    page.write_run(run, html)
    records.write(run, json)
    junit.write(run, xml)
    return [html, json, xml]
