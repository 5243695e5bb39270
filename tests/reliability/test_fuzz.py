"""The property tests of `make test` again, with many more inputs, other ones each time."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.reliability

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "\n@given(" in path.read_text(encoding="utf-8"))
OPTIONS = ("-m", "hypothesis", "--hypothesis-show-statistics")


@pytest.mark.timeout(900)
def test_parsers_take_any_input(note: Callable[[str], None]) -> None:
    """Random and damaged inputs give a value or the part's own error, and no other exception."""
    started_s = time.monotonic()
    finished = subprocess.run(
        [*(sys.executable, "-m", "pytest", "--quiet", "-p", "no:cacheprovider"), *OPTIONS, *FILES],
        env={**os.environ, "HYPOTHESIS_PROFILE": "deep"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert finished.returncode == 0, finished.stdout[-10_000:]
    counts = [int(count) for count in re.findall(r"(\d+) passing", finished.stdout)]
    assert len(counts) >= 10
    note(f"{sum(counts)} inputs in {len(counts)} tests, no other exception, {time.monotonic() - started_s:.0f} s")
