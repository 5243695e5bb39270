"""JUnit XML: each objective a test case, and one for whether the run can be believed."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from pathlib import Path

    from resnet_loadtest.analysis import Run


def write(run: Run, path: Path) -> None:
    """Write a run to a file."""
    ET.ElementTree(suite(run)).write(path, encoding="utf-8", xml_declaration=True)


def suite(run: Run) -> ET.Element:
    """The test suite: an invalid run is an error, a missed objective a failure."""
    missed = sum(not check.is_met for check in run.checks)
    counts = {"tests": len(run.checks) + 1, "failures": missed, "errors": int(bool(run.doubts))}
    root = ET.Element("testsuite", {name: str(count) for name, count in counts.items()})
    root.set("name", f"resnet-loadtest {run.options.profile}")
    root.set("timestamp", run.started)
    root.set("time", f"{run.stages[-1].end_s:.3f}")
    validity = ET.SubElement(root, "testcase", classname="loadtest", name="the run can be believed")
    if run.doubts:
        ET.SubElement(validity, "error", message=run.doubts[0]).text = "\n".join(run.doubts)
    for check in run.checks:
        case = ET.SubElement(root, "testcase", classname=f"loadtest.{check.part}", name=check.objective.text)
        if not check.is_met:
            ET.SubElement(case, "failure", message=f"measured {check.objective.show(check.measured)}")
    ET.SubElement(root, "system-out").text = run.limit
    return root
