"""Which files a run leaves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from resnet_loadtest.report import document, junit, page, run_page

if TYPE_CHECKING:
    from pathlib import Path

    from resnet_loadtest.analysis import Run


def write_all(run: Run, folder: Path, stem: str) -> list[Path]:
    """Write HTML, JSON and JUnit XML; returns their paths, the one for people first."""
    folder.mkdir(parents=True, exist_ok=True)
    html, json, xml = (folder / f"{stem}{suffix}" for suffix in (".html", ".json", ".xml"))
    page.write(run_page.page(run), html)
    document.write(run, json)
    junit.write(run, xml)
    return [html, json, xml]
