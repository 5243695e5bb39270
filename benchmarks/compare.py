"""Compare results with the last release, by ratios within one run, so that the machines may differ."""

from __future__ import annotations

from pathlib import Path

from benchmarks.networks import VARIANTS
from benchmarks.programs import PEERS
from benchmarks.report import GENERATED, generator_ratio, generator_turns
from benchmarks.results import IN_PROCESS, MAIN, Measurements, Record, Summary, read, write

RELEASES = Path(__file__).with_name("releases")

# Smaller changes do not matter.
_TOLERANCE = 0.05
_OTHERS = {IN_PROCESS, *(peer.name for peer in PEERS)}


def release(results: Record) -> Record:
    """The main numbers of results: by name, the ratio as median, lowest and highest, and the absolute value."""
    measured = Measurements(results["servers"]["measurements"])
    numbers = {}
    for key in measured.keys:
        name, variant, protocol = key
        if name in _OTHERS:
            continue
        for callers, quantity in MAIN:
            ratio = measured.ratio(key, [(IN_PROCESS, variant, "")], callers, quantity)
            title = f"{VARIANTS[variant]}, {name if name == 'gateway' else protocol}: {quantity} of in process"
            numbers[title] = _number(ratio, measured.median(key, callers, quantity))
    for sent in GENERATED:
        for _, quantity in MAIN:
            ours, _ = generator_turns(results, sent)
            absolute = Summary.of(turn[quantity] for turn in ours).median
            title = f"load test, {sent}: {quantity} of perf_analyzer"
            numbers[title] = _number(generator_ratio(results, sent, quantity), absolute)
    machine = {name: results["machine"][name] for name in ("version", "commit", "date", "processor", "cores")}
    return {**machine, "numbers": numbers}


def keep(results: Record) -> None:
    """Write the main numbers as those of the release with the version of the results."""
    found = release(results)
    write(found, RELEASES / f"{found['version']}.json")


def last_release() -> Record:
    """The newest release.

    Raises:
        SystemExit: there is none.
    """
    releases = [read(path) for path in RELEASES.glob("*.json")]
    if not releases:
        raise SystemExit(f"{RELEASES} has no release to compare with: run python -m benchmarks release")
    return max(releases, key=lambda release: str(release["date"]))


def show(results: Record, before: Record) -> int:
    """Print a line for each number and its verdict; return 1 if one is worse, else 0."""
    now = release(results)
    for title, each in (("before", before), ("now", now)):
        print(f"{title}: version {each['version']}, commit {each['commit']}, {each['date']}, {each['processor']}")
    verdicts = []
    for name in (name for name in now["numbers"] if name in before["numbers"]):
        old, new = (Summary(*each["numbers"][name]["ratio"]) for each in (before, now))
        verdicts.append(verdict(old, new, more_is_better="images_per_s" in name))
        print(f"{verdicts[-1]:7} {old.text():18} {new.text():18} {name}")
    return int("worse" in verdicts)


def verdict(old: Summary, new: Summary, *, more_is_better: bool) -> str:
    """``better`` or ``worse`` if the change exceeds the tolerance and the ranges of the rounds do not overlap."""
    is_noise = old.low <= new.high and new.low <= old.high
    if is_noise or abs(new.median / old.median - 1) <= _TOLERANCE:
        return "same"
    return "better" if (new.median > old.median) is more_is_better else "worse"


def _number(ratio: Summary, absolute: float) -> Record:
    values = (ratio.median, ratio.low, ratio.high)
    return {"ratio": [round(value, 4) for value in values], "absolute": round(absolute, 2)}
