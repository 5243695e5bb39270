"""How far a run is, how fast, and how long it will take: a bar on a terminal, a line now and then in a log."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_LINE_EVERY_S = 30.0


class Progress:
    """Counts photos, from any thread.

    Args:
        done: photos of earlier starts.
        failed: of them those without an answer.
        total: of the whole run; None if nobody knows yet.
        was_complete: whether an earlier start has ended the run, so that this one has nothing to do.
    """

    def __init__(self, done: int, failed: int, total: int | None, *, was_complete: bool = False) -> None:
        self.done = done
        self.failed = failed
        self._first = done
        self._total = total
        self._was_complete = was_complete
        self._began_s = self._said_s = time.monotonic()
        self._lock = threading.Lock()
        self._bar: Any = None

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Show it on standard error during the block."""
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
        from rich.progress import Progress as Bar

        columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
        with Bar(*columns, console=Console(stderr=True)) as self._bar:
            self._bar.add_task("", total=self._total, completed=self.done)
            yield

    def add(self, photos: int, failed: int) -> None:
        """So many more photos are done."""
        with self._lock:
            self.done += photos
            self.failed += failed
            if self._bar is not None:
                self._bar.update(self._bar.task_ids[0], completed=self.done, description=self._speed())
            elif time.monotonic() - self._said_s > _LINE_EVERY_S:
                self._said_s = time.monotonic()
                of = "" if self._total is None else f" of {self._total:,}"
                sys.stderr.write(f"resnet-client: {self.done:,}{of} photos, {self._speed()}\n")

    def summary(self) -> str:
        """One sentence for the end."""
        if self._was_complete:
            return f"{self.done:,} photos, {self.failed:,} failed; it is complete already, --restart begins anew"
        return f"{self.done:,} photos, {self._speed(with_time_left=False)}"

    def _speed(self, *, with_time_left: bool = True) -> str:
        rate = (self.done - self._first) / max(time.monotonic() - self._began_s, 1e-9)
        words = [f"{self.failed:,} failed", f"{rate:,.1f}/s"]
        if with_time_left and self._total is not None and rate:
            words.append(f"{_duration(max(0, self._total - self.done) / rate)} left")
        return ", ".join(words)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
