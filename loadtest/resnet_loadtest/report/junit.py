"""JUnit XML: each objective is a test case, and the validity of the run is one more."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path

    from resnet_loadtest.analysis import Run


def write(run: Run, path: Path) -> None:
    """Write a run to a file: an invalid run is an error, an objective that is not met a failure."""
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
