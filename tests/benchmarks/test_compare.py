"""A change is reported if it exceeds the noise of the rounds and the tolerance."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from benchmarks import compare
from benchmarks.results import Summary

OLD = Summary(median=0.90, low=0.88, high=0.92)


@pytest.mark.parametrize(
    ("new", "verdict"),
    [
        (Summary(0.90, 0.88, 0.92), "same"),
        (Summary(0.80, 0.78, 0.89), "same"),  # the ranges overlap
        (Summary(0.87, 0.86, 0.87), "same"),  # within 5 %
        (Summary(0.80, 0.78, 0.82), "worse"),
        (Summary(0.98, 0.97, 0.99), "better"),
    ],
)
def test_verdict_needs_a_change_outside_range_and_tolerance(new: Summary, verdict: str) -> None:
    """More is better for throughput, and worse for a latency."""
    opposite = {"same": "same", "worse": "better", "better": "worse"}
    assert compare.verdict(OLD, new, more_is_better=True) == verdict
    assert compare.verdict(OLD, new, more_is_better=False) == opposite[verdict]


def test_show_fails_if_a_number_is_worse(results: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    """On a slower machine all ratios are the same; a server that lost half of its speed there is named."""
    before = compare.release(results)
    slower = copy.deepcopy(results)
    for record in slower["servers"]["measurements"]:
        record["images_per_s"] /= 10
    assert compare.show(slower, before) == 0
    for record in slower["servers"]["measurements"]:
        record["images_per_s"] /= 2 if (record["variant"], record["protocol"]) == ("int8", "gRPC") else 1
    capsys.readouterr()
    assert compare.show(slower, before) == 1
    worse = [line for line in capsys.readouterr().out.splitlines() if line.startswith("worse")]
    assert len(worse) == 1
    assert worse[0].endswith("INT8, OpenVINO, gRPC: images_per_s of in process")


def test_release_is_found_by_its_date(results: dict[str, Any], tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """`compare` uses the newest; without one, the message names the command."""
    monkeypatch.setattr(compare, "RELEASES", tmp_path / "releases")
    with pytest.raises(SystemExit, match="benchmarks release"):
        compare.last_release()
    compare.keep(results)
    results["machine"] |= {"version": "0.2.0", "date": "2027-01-31"}
    compare.keep(results)
    assert compare.last_release()["version"] == "0.2.0"
