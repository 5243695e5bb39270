"""What was measured, on the terminal."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from resnet_build.options import ServingOptions
from resnet_build.tuning.contest import Entry
from resnet_build.tuning.costs import Costs, Layout, worst_error
from resnet_build.tuning.ladder import Climber

_BAR = 40


def show_curves(costs: Costs, largest_batch: int, console: Console) -> None:
    """Draw how many photos a second the network alone computes, over the batch size, for each layout."""
    sizes = [1 << exponent for exponent in range(largest_batch.bit_length())]
    best = max(_rate(costs, layout, size) for layout in costs.measured_s for size in sizes)
    for layout, measured in costs.measured_s.items():
        fitted = costs.batch_time(layout)
        error = worst_error(measured, fitted)
        console.print(f"\n{layout} threads: a batch of b takes {fitted.show()}, off by {error:.0%} at most")
        for size in sizes:
            rate = _rate(costs, layout, size)
            seen = f"   measured {costs.executions(layout) * size / measured[size]:.1f}" if size in measured else ""
            console.print(f"  b = {size:<3} {'█' * round(_BAR * rate / best):<{_BAR}} {rate:6.1f}/s{seen}")


def _rate(costs: Costs, layout: Layout, size: int) -> float:
    return costs.executions(layout) * size / costs.batch_time(layout).of(size)


def show_contest(entries: Sequence[Entry], chosen: Entry, callers: int, console: Console) -> None:
    """Show predicted and measured throughput of every setting that was measured."""
    table = _table(f"photos/s with {callers} callers", ("predicted", "median", "range", "rounds"))
    for entry in sorted(entries, key=lambda entry: -entry.median):
        extremes = f"{min(entry.rounds):.1f} to {max(entry.rounds):.1f}"
        cells = (f"{entry.predicted:.1f}", f"{entry.median:.1f}", extremes, str(len(entry.rounds)))
        table.add_row(*_setting(entry.options), *cells, style="bold" if entry is chosen else None)
    console.print()
    console.print(table)


def show_ladder(climbers: Sequence[Climber], chosen: Climber | None, objective: str, console: Console) -> None:
    """Show at which rates each setting kept the objective."""
    table = _table(f"photos/s with {objective}", ("predicted", "kept", "with", "missed", "with"))
    for climber in sorted(climbers, key=lambda climber: -climber.rate):
        kept, missed = climber.rate, min(climber.missed, default=0.0)
        cells = (
            f"{climber.predicted:.1f}",
            *((f"{kept:.1f}", f"{climber.kept[kept] * 1000:.0f} ms") if kept else ("-", "")),
            *((f"{missed:.1f}", f"{climber.missed[missed] * 1000:.0f} ms") if missed else ("-", "")),
        )
        table.add_row(*_setting(climber.options), *cells, style="bold" if climber is chosen else None)
    console.print()
    console.print(table)


def _table(title: str, columns: Sequence[str]) -> Table:
    table = Table(title=title, box=None, pad_edge=False, title_justify="left")
    for name in ("network", "batch", "delay", "preprocess", *columns):
        table.add_column(name, justify="left" if name == "network" else "right", no_wrap=True)
    return table


def _setting(options: ServingOptions) -> tuple[str, ...]:
    return (
        str(Layout.of(options)),
        str(options.preferred_batch_size),
        f"{options.max_queue_delay_us} us",
        str(options.preprocess_instances),
    )


def describe(options: ServingOptions) -> str:
    """Tell a setting in the words of the flags."""
    threads = f"{_count(options.threads, 'thread')} each" if options.threads else "all threads"
    return ", ".join(
        (
            f"{_count(options.instances, 'instance')} with {threads}",
            f"{_count(options.preferred_batch_size, 'photo')} at once",
            f"queue delay {options.max_queue_delay_us} us",
            _count(options.preprocess_instances, "preprocess instance"),
        )
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


def show_duel(first: Entry, second: Entry, console: Console) -> None:
    """Compare two settings that were measured in turns, by the ratios of neighbouring rounds."""
    ratios = sorted(one / two for one, two in zip(first.rounds, second.rounds, strict=True))
    console.print(
        f"in turns, the chosen one against the best of the grid: {first.median:.1f} and {second.median:.1f} photos/s, "
        f"ratio {statistics.median(ratios):.3f} [{ratios[0]:.3f}, {ratios[-1]:.3f}]",
        highlight=False,
    )
