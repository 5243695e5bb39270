"""A progress bar on standard error for long runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def bar(total: int | None, *, shown: bool) -> Iterator[Callable[[bool], None]]:
    """Yield a function to call for each image, with whether it failed.

    Args:
        total: number of images; None if it is not known.
        shown: whether to show a bar; without it the function does nothing.
    """
    if not shown:
        yield lambda *_: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    failed_text = TextColumn("{task.fields[failed]} failed")
    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), failed_text, TimeRemainingColumn())
    # Without ipywidgets, rich shows nothing in a notebook but a warning; a notebook can also show a terminal's bar.
    is_notebook = Console().is_jupyter
    console = Console(stderr=True, force_jupyter=False, force_terminal=is_notebook or None)
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("images", total=total, failed=0)
        failed = 0

        def advance(has_failed: bool) -> None:
            nonlocal failed
            failed += has_failed
            progress.update(task, advance=1, failed=failed)

        yield advance
