"""The page and its charts contain the results."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest

from benchmarks import report, results

MOST_WORDS = 1300


@pytest.fixture
def docs(results: dict[str, Any], tmp_path: Path) -> Path:
    """The folder of the written page."""
    report.write(results, tmp_path)
    return tmp_path


def page(docs: Path) -> str:
    """The text, without line breaks."""
    return " ".join((docs / "performance.md").read_text(encoding="utf-8").split())


def rows(docs: Path, first: str) -> list[list[str]]:
    """The rows of the page's tables that begin with a cell."""
    lines = (docs / "performance.md").read_text(encoding="utf-8").splitlines()
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines if line.startswith("|")]
    return [row for row in cells if row[0] == first]


def test_page_shows_each_variant_next_to_the_limit(docs: Path) -> None:
    """Medians of the rounds, and the median of the ratios in each round."""
    speed, quality = rows(docs, "`resnet50_int8`")
    assert speed[1:5] == ["INT8, OpenVINO", "105.0", "97.0 (0.93)", "89.0 (0.85)"]
    assert quality[1:] == ["91.0%", "99.5%", "4.5", "487"]
    assert "takes 0.50 core-ms for an image over gRPC and 0.20 over HTTP" in page(docs)


def test_page_compares_the_servers_with_their_versions(docs: Path) -> None:
    """Each has a row; the ratio is to the best of each round: mosec, then LitServe."""
    assert rows(docs, "mosec 0.9.8") == [["mosec 0.9.8", "50.0", "20.8", "4.5", "487"]]
    assert "of each round: throughput 1.30 [1.10, 1.50]" in (docs / "performance.md").read_text(encoding="utf-8")


def test_page_compares_clients_and_load_generators(docs: Path) -> None:
    """Ratios within a round, with their range."""
    assert rows(docs, "gateway")[0][1] == "0.87 [0.84, 0.89]"
    assert rows(docs, "pixels") == [
        ["pixels", "1.000 [1.000, 1.000]", "1.012 [1.000, 1.025]", "41.0, 40.5", "1.0, 1.0"]
    ]
    assert rows(docs, "24") == [["24", "1200", "120.0", "1200", "120.0"]]


def test_page_names_machine_and_commit_and_is_short(docs: Path) -> None:
    """A reader knows what was measured, and reads it to the end."""
    page = (docs / "performance.md").read_text(encoding="utf-8")
    assert "at commit 0123456789 of version 0.1.0: Example 9000,\n2 cores" in page
    assert len(page.split()) <= MOST_WORDS


def test_page_without_labelled_images_has_no_accuracy(results: dict[str, Any], tmp_path: Path) -> None:
    """They are not part of the project."""
    report.write({**results, "accuracy": []}, tmp_path)
    assert rows(tmp_path, "`resnet50`")[1][1:3] == ["-", "-"]


def test_charts_have_a_bar_for_each_server(docs: Path) -> None:
    """The longest bar is the fastest server, within the image."""
    texts = [element.text for element in ET.parse(docs / "performance/servers.svg").iter() if element.text]  # noqa: S314  # written above
    titles = ["this server, gRPC", "this server, HTTP", "LitServe 0.2.19", "mosec 0.9.8"]
    assert [text for text in texts if text in titles] == titles
    _, *bars = ET.parse(docs / "performance/variants.svg").iter("{http://www.w3.org/2000/svg}rect")  # noqa: S314
    widths = [float(bar.attrib["width"]) for bar in bars]
    assert len(widths) == 4
    assert max(widths) == widths[2] < 470


def test_read_names_the_command_for_missing_results(tmp_path: Path) -> None:
    """The one that measures them."""
    with pytest.raises(SystemExit, match="run make bench"):
        results.read(tmp_path / "results.json")
