"""The alert rules, proven by Prometheus' own tool, and the dashboard's form."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
DASHBOARD = ROOT / "deploy/grafana/dashboards/resnet50.json"

needs_promtool = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="promtool is not installed (Debian: apt-get install prometheus)"
)


def promtool(*arguments: str) -> None:
    """Run promtool in the folder of the rules; its output is the message of a failure."""
    result = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr


@needs_promtool
def test_prometheus_accepts_configuration_and_rules() -> None:
    """The mounted configuration is valid, and the unit tests of the rules pass."""
    promtool("check", "config", "prometheus.yml")
    promtool("test", "rules", "rules_test.yml")


def test_rules_are_tested_both_ways_and_documented() -> None:
    """Each has a test in which it fires, one in which it stays silent, and a line in docs/monitoring.md."""
    rules = re.findall(r"- alert: (\w+)", (PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))
    cases = (PROMETHEUS / "rules_test.yml").read_text(encoding="utf-8")
    silent = re.findall(r"alertname: (\w+), exp_alerts: \[\]", cases)
    firing = re.findall(r"alertname: (\w+)\n\s+exp_alerts:\n\s+- exp_labels", cases)
    assert len(rules) >= 8
    assert set(silent) == set(rules) == set(firing)
    page = (ROOT / "docs/monitoring.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `([A-Z]\w+[a-z])` \|", page, re.MULTILINE) == rules


def panels() -> list[dict]:
    """The dashboard's panels, rows left out."""
    found = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    return [panel for panel in found if panel["type"] != "row"]


def test_queries_halve_shares_of_failures() -> None:
    """Ensembles count a failed request twice, so wherever failures are compared with answers half of them count."""
    groups = yaml.safe_load((PROMETHEUS / "rules.yml").read_text(encoding="utf-8"))["groups"]
    queries = [rule["expr"] for group in groups for rule in group["rules"]]
    queries += [query["expr"] for panel in panels() for query in panel["targets"]]
    shares = [query for query in queries if {"failure", "success"} <= set(re.findall(r"request_(\w+?)\b", query))]
    assert len(shares) == 2
    for share in shares:
        assert re.findall(r"request_failure\S+( / 2)?", share) == [" / 2"] * 2, share


def test_panels_describe_what_they_show() -> None:
    """Each panel has a title, a description, a unit, a query, and the provisioned data source."""
    for panel in panels():
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        for query in (panel, *panel["targets"]):
            assert query["datasource"] == {"type": "prometheus", "uid": "prometheus"}


def test_panels_do_not_overlap() -> None:
    """Every panel has a place of its own on Grafana's grid of 24 columns."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        place = panel["gridPos"]
        cells = {(place["x"] + column, place["y"] + line) for column in range(place["w"]) for line in range(place["h"])}
        assert place["x"] + place["w"] <= 24
        assert not cells & taken, panel["title"]
        taken |= cells
    assert len({panel["id"] for panel in panels()}) == len(panels())
