"""The tables of the benchmark show its results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import results
from benchmarks.tables import table


def record(candidate: str, turn: int, throughput: float) -> dict[str, object]:
    """One measurement."""
    return {"candidate": candidate, "network": "int8", "callers": 16, "round": turn, "throughput": throughput}


@pytest.fixture
def comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> results.Comparison:
    """Two rounds in which two peers take turns in being the best."""
    rates = {"ceiling": (100, 100), "resnet50_int8, grpc": (90, 96), "mosec": (60, 40), "LitServe": (45, 80)}
    records = [record(name, turn, rate) for name, pair in rates.items() for turn, rate in enumerate(pair)]
    (tmp_path / "comparison.json").write_text(json.dumps({"records": records, "checks": [], "machine": {}}))
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    return results.Comparison()


def test_ratio_is_taken_within_each_round(comparison: results.Comparison) -> None:
    """A round's ratio is to the best of that round; the summary is the median of such ratios, with their range."""
    ratio = comparison.ratio(("resnet50_int8, grpc", "int8"), comparison.peers("int8"), 16, "throughput")
    assert ratio == results.Summary(median=pytest.approx(1.35), low=pytest.approx(1.2), high=pytest.approx(1.5))


def test_candidates_begin_with_the_ceiling_and_peers_leave_ours_out(comparison: results.Comparison) -> None:
    """Candidates are listed by speed below the ceiling."""
    assert comparison.candidates("int8") == ["ceiling", "resnet50_int8, grpc", "LitServe", "mosec"]
    assert comparison.peers("int8") == [("LitServe", "int8"), ("mosec", "int8")]


def test_read_names_the_command_for_missing_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one that measures them."""
    monkeypatch.setattr(results, "RESULTS", tmp_path)
    with pytest.raises(SystemExit, match="run --only sizes"):
        results.read("sizes")


def test_table_is_markdown() -> None:
    """Head, rule, rows."""
    assert table(["a", "b"], [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |"
