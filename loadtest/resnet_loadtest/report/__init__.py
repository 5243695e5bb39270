"""Write the reports of a run or a search: HTML page, JSON, JUnit XML."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

from resnet_loadtest import records
from resnet_loadtest.analysis import Run, Verdict
from resnet_loadtest.compare import Comparison
from resnet_loadtest.report import page
from resnet_loadtest.search import Result


def write_all(run: Run, folder: Path, stem: str) -> list[Path]:
    """Write HTML, JSON and JUnit XML of a run; returns their paths."""
    return _write(folder, stem, run, json=records.write, html=page.write_run, xml=_write_junit)


def write_search(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write HTML and JSON of a search; returns their paths."""
    return _write(folder, stem, result, json=records.write_search, html=page.write_search)


def write_comparison(compared: Comparison, folder: Path, stem: str) -> list[Path]:
    """Write the HTML page of two runs; returns its path."""
    return _write(folder, stem, compared, html=page.write_comparison)


def _write(folder: Path, stem: str, result: Any, **writers: Callable[[Any, Path], None]) -> list[Path]:
    """Write a file for each suffix, or none if the disk is full."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{stem}.{suffix}" for suffix in writers]
    try:
        for write, path in zip(writers.values(), paths, strict=True):
            write(result, path)
    except OSError:
        for path in paths:
            path.unlink(missing_ok=True)
        raise
    return paths


def _write_junit(run: Run, path: Path) -> None:
    """Each objective is a test case, a failure if not met; so is the validity of the run, an error if not valid."""
    reasons = [*([run.ended.reason] if run.ended else []), *run.warnings]
    failed = [check for check in run.checks if check.verdict is not Verdict.PASS]
    counts = {"tests": len(run.checks) + 1, "failures": len(failed), "errors": int(bool(reasons))}
    root = ET.Element("testsuite", {name: str(count) for name, count in counts.items()})
    root.set("name", f"resnet-loadtest {run.options.profile}")
    root.set("timestamp", run.started)
    root.set("time", f"{run.stages[-1].end_s:.3f}")
    validity = ET.SubElement(root, "testcase", classname="loadtest", name="the run is valid")
    if reasons:
        ET.SubElement(validity, "error", message=reasons[0]).text = "\n".join(reasons)
    for check in run.checks:
        case = ET.SubElement(root, "testcase", classname=f"loadtest.{check.part}", name=check.objective.text)
        if check in failed:
            ET.SubElement(case, "failure", message=check.message)
    ET.SubElement(root, "system-out").text = f"Bottleneck: {run.bottleneck}"
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
