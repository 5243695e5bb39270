"""A progress bar on standard error for long runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from resnet_client.results import Outcome


@contextmanager
def bar(sources: object, *, shown: bool) -> Iterator[Callable[[Outcome[object]], None]]:
    """Yield a function to call with each outcome; without a bar it does nothing.

    Args:
        sources: the images; their number, if known, is the bar's total.
        shown: whether to show a bar.
    """
    if not shown:
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    failed = 0
    columns = (
        TextColumn("images"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[failed]} failed"),
        TimeRemainingColumn(),
    )
    # Without ipywidgets, rich shows nothing in a notebook but a warning; a notebook can also show a terminal's bar.
    is_notebook = Console().is_jupyter
    console = Console(stderr=True, force_jupyter=False, force_terminal=is_notebook or None)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("images", total=_length(sources), failed=0)

        def advance(outcome: Outcome[object]) -> None:
            nonlocal failed
            failed += not outcome.ok
            progress.update(task, advance=1, failed=failed)

        yield advance


def _length(sources: object) -> int | None:
    return len(sources) if hasattr(sources, "__len__") else None
