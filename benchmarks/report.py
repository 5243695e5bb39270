"""Write the tables and charts of docs/performance.md: ``.venv-bench/bin/python -m benchmarks.report``.

This environment has matplotlib.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import matplotlib as mpl
import matplotlib.pyplot as plt
from matplotlib.axes import Axes

from benchmarks import ROOT
from benchmarks.results import Comparison, read
from benchmarks.tables import TABLES

# Keep text as text, and make the files reproducible.
mpl.rcParams.update(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "resnet50-triton",
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.grid": True,
        "grid.alpha": 0.3,
        "figure.figsize": (8, 4),
    }
)

# Titles of charts by their place in the page.
_TITLES = {
    "comparison": "Throughput with 16 callers",
    "callers": "Throughput and latency by callers",
    "sizes": "Core-milliseconds by size",
    "batches": "Time by batch",
}
DOCS = ROOT / "docs"

_OURS, _CEILING, _PEER = "#2a7f3f", "#444444", "#8aa4c8"


def draw(folder: Path) -> list[Path]:
    """Draw all charts into a folder; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    drawn = []
    for name, chart in _CHARTS.items():
        figure = chart()
        path = folder / f"{name}.svg"
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None, "Creator": None})
        plt.close(figure)
        # Matplotlib writes trailing spaces.
        lines = path.read_text(encoding="utf-8").splitlines()
        path.write_text("\n".join(line.rstrip() for line in lines) + "\n", encoding="utf-8")
        drawn.append(path)
    return drawn


def _comparison() -> plt.Figure:
    """Bars of throughput with the range of the rounds, and the ceiling as a line, network by network on one scale."""
    found = Comparison()
    served = {network: [n for n in found.candidates(network) if n != "ceiling"][::-1] for network in found.networks()}
    figure, axes = plt.subplots(
        len(served),
        1,
        figsize=(8, 8),
        sharex=True,
        squeeze=False,
        height_ratios=[len(names) + 1 for names in served.values()],
    )
    for axis, (network, names) in zip(axes[:, 0], served.items(), strict=True):
        rates = [found.summary(name, network, 16, "throughput") for name in names]
        spread = [[rate.median - rate.low for rate in rates], [rate.high - rate.median for rate in rates]]
        colours = [_OURS if name.startswith("resnet50") else _PEER for name in names]
        axis.barh(names, [rate.median for rate in rates], xerr=spread, color=colours, error_kw={"elinewidth": 1})
        ceiling = found.summary("ceiling", network, 16, "throughput").median
        axis.axvline(ceiling, color=_CEILING, linestyle="--", linewidth=1)
        axis.set_title(f"{network} (dashed: no server, {ceiling:.0f}/s)", fontsize=10, loc="left")
        axis.grid(axis="y", visible=False)
    axes[-1, 0].set_xlabel("images per second, 16 callers")
    figure.tight_layout()
    return figure


def _callers() -> plt.Figure:
    """Throughput and median latency over the number of callers, gRPC."""
    records = [record for record in read("callers")["records"] if record["protocol"] == "grpc"]
    figure, (rate, latency) = plt.subplots(1, 2, figsize=(10, 4))
    for model in dict.fromkeys(record["candidate"] for record in records):
        mine = [record for record in records if record["candidate"] == model]
        counts = [record["callers"] for record in mine]
        style = "--" if model.startswith("network_") else "-"
        rate.plot(counts, [record["throughput"] for record in mine], style, marker="o", markersize=3, label=model)
        latency.plot(counts, [record["p50_ms"] for record in mine], style, marker="o", markersize=3, label=model)
    for axis, label in ((rate, "images per second"), (latency, "median latency, ms")):
        _logarithmic(axis, [record["callers"] for record in records])
        axis.set_xlabel("callers")
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
    figure.tight_layout()
    figure.legend(*rate.get_legend_handles_labels(), fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=6)
    return figure


def _sizes() -> plt.Figure:
    """Core-milliseconds of an image over its size."""
    records = read("sizes")["records"]
    figure, axis = plt.subplots()
    sizes = [record["megapixels"] for record in records]
    for part, label in (("preprocess", "preprocess"), ("triton", "tritonserver")):
        axis.plot(sizes, [record["core_ms"].get(part, 0) for record in records], marker="o", markersize=3, label=label)
    network = [max(ms for name, ms in record["core_ms"].items() if name.startswith("network_")) for record in records]
    axis.plot(sizes, network, marker="o", markersize=3, label="network (INT8)")
    axis.plot(sizes, [record["decode_ms"] for record in records], "--", color=_CEILING, label="decoding alone")
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axis.minorticks_off()
    axis.set_xlabel("megapixels")
    axis.set_ylabel("core-milliseconds per image")
    axis.legend(fontsize=8)
    return figure


def _batches() -> plt.Figure:
    """Time per image over the batch, network alone."""
    records = read("batches")["records"]
    figure, axis = plt.subplots()
    for network in dict.fromkeys(record["network"] for record in records):
        mine = [record for record in records if record["network"] == network]
        counts = [record["batch"] for record in mine]
        axis.plot(counts, [record["clock_ms"] for record in mine], marker="o", markersize=3, label=network)
    _logarithmic(axis, [record["batch"] for record in records])
    axis.set_ylim(bottom=0)
    axis.set_xlabel("batch")
    axis.set_ylabel("milliseconds per image, all cores")
    axis.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
    return figure


_CHARTS: dict[str, Callable[[], plt.Figure]] = {
    "comparison": _comparison,
    "callers": _callers,
    "sizes": _sizes,
    "batches": _batches,
}


def _logarithmic(axis: Axes, ticks: list[int]) -> None:
    axis.set_xscale("log", base=2)
    axis.set_xticks(sorted(set(ticks)), [str(tick) for tick in sorted(set(ticks))])


def main() -> int:
    """Replace the text between the markers ``<!-- NAME -->`` and ``<!-- end -->``."""
    page = DOCS / "performance.md"
    text = page.read_text(encoding="utf-8")
    for name, make in TABLES.items():
        places = list(re.finditer(rf"<!-- {name} -->\n(.*?)<!-- end -->", text, flags=re.DOTALL))
        if len(places) != 1:
            raise SystemExit(f"{page} has {len(places)} places for {name}")
        start, end = places[0].span(1)
        chart = f"![{_TITLES[name]}](performance/{name}.svg)\n\n" if name in _TITLES else ""
        text = f"{text[:start]}{chart}{make()}\n{text[end:]}"
    page.write_text(text, encoding="utf-8")
    for path in (page, *draw(DOCS / "performance")):
        print(f"wrote {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
