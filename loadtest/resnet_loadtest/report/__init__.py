"""Write the reports of a run, a search or a comparison: HTML page, JSON, JUnit XML."""

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


def write(result: Run | Result | Comparison, folder: Path, stem: str) -> list[Path]:
    """Write HTML, JSON and JUnit XML of a run, HTML and JSON of a search, or HTML of a comparison.

    Returns:
        The paths.

    Raises:
        OSError: the disk is full; no file is left.
    """
    folder.mkdir(parents=True, exist_ok=True)
    writers = _WRITERS[type(result)]
    paths = [folder / f"{stem}.{suffix}" for suffix in writers]
    try:
        for write_one, path in zip(writers.values(), paths, strict=True):
            write_one(result, path)
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


_WRITERS: dict[type, dict[str, Callable[[Any, Path], None]]] = {
    Run: {"json": records.write, "html": page.write_run, "xml": _write_junit},
    Result: {"json": records.write_search, "html": page.write_search},
    Comparison: {"html": page.write_comparison},
}
