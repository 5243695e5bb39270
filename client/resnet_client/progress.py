"""A progress bar on standard error for long runs."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def bar(total: int | None, *, shown: bool, images: int = 0, failed: int = 0) -> Iterator[Callable[[int, int], None]]:
    """Yield a function to call with the number of further images, and of those that failed.

    Args:
        total: number of images; None if it is not known.
        shown: whether to show a bar; without it the function does nothing.
        images: number of images before the start.
        failed: number of those that failed.
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
        task = progress.add_task("images", total=total, completed=images, failed=failed)

        def advance(more_images: int, more_failed: int) -> None:
            nonlocal failed
            failed += more_failed
            progress.update(task, advance=more_images, failed=failed)

        yield advance
