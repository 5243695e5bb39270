"""Write the reports of a run or a search: HTML page, JSON, JUnit XML."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree as ET

from resnet_loadtest import records
from resnet_loadtest.analysis import Run
from resnet_loadtest.report import page
from resnet_loadtest.search import Result


def write_all(run: Run, folder: Path, stem: str) -> list[Path]:
    """Write HTML, JSON and JUnit XML of a run; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    html, json, xml = (folder / f"{stem}{suffix}" for suffix in (".html", ".json", ".xml"))
    page.write_run(run, html)
    records.write(run, json)
    _write_junit(run, xml)
    return [html, json, xml]


def write_search(result: Result, folder: Path, stem: str) -> list[Path]:
    """Write HTML and JSON of a search; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    html, json = folder / f"{stem}.html", folder / f"{stem}.json"
    page.write_search(result, html)
    records.write_search(result, json)
    return [html, json]


def _write_junit(run: Run, path: Path) -> None:
    """Each objective is a test case, a failure if not met; the validity of the run is one too, an error if invalid."""
    failed = sum(not check.is_met for check in run.checks)
    counts = {"tests": len(run.checks) + 1, "failures": failed, "errors": int(bool(run.warnings))}
    root = ET.Element("testsuite", {name: str(count) for name, count in counts.items()})
    root.set("name", f"resnet-loadtest {run.options.profile}")
    root.set("timestamp", run.started)
    root.set("time", f"{run.stages[-1].end_s:.3f}")
    validity = ET.SubElement(root, "testcase", classname="loadtest", name="the run is valid")
    if run.warnings:
        ET.SubElement(validity, "error", message=run.warnings[0]).text = "\n".join(run.warnings)
    for check in run.checks:
        case = ET.SubElement(root, "testcase", classname=f"loadtest.{check.part}", name=check.objective.text)
        if not check.is_met:
            ET.SubElement(case, "failure", message=check.objective.describe(check.measured))
    ET.SubElement(root, "system-out").text = f"Bottleneck: {run.bottleneck}"
    ET.ElementTree(root).write(path, encoding="utf-8", xml_declaration=True)
