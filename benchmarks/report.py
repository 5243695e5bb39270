"""Write ``docs/performance.md`` and its charts from the results: all text is in ``templates/``."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, select_autoescape

from benchmarks.networks import PEER_VARIANT, VARIANTS
from benchmarks.programs import PEERS
from benchmarks.results import IN_PROCESS, MAIN, Key, Measurements, Record, Summary

Rows = list[list[str]]

_OURS, _OTHER = "#2a7f3f", "#8aa4c8"
_PROTOCOLS = ("gRPC", "HTTP")
GENERATED = ("images", "pixels")
"""What the load generators send."""


def write(results: Record, docs: Path) -> None:
    """Write the page and its charts into the folder of the documentation."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).with_name("templates")),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=select_autoescape(("svg",)),
    )
    page = Page(results)
    written = {docs / "performance.md": environment.get_template("performance.md").render(results, page=page)}
    for name, groups in (("variants", page.variant_bars()), ("servers", page.server_bars())):
        longest = max(value for group in groups for value in (group["limit"], *(bar["high"] for bar in group["bars"])))
        chart = environment.get_template("bars.svg").render(groups=groups, longest=longest)
        written[docs / f"performance/{name}.svg"] = chart
    for path, text in written.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        print(f"wrote {path}")


class Page:
    """The tables and charts of the page."""

    def __init__(self, results: Record) -> None:
        self._results = results
        self._measured = Measurements(results["servers"]["measurements"])
        self._starts = {(start["name"], start["variant"]): start for start in results["servers"]["starts"]}
        self._ours = {variant: name for name, variant, protocol in self._measured.keys if protocol == "gRPC"}

    def variants(self) -> Rows:
        """Each variant in process and over both protocols, with 16 callers and with one."""
        rows = []
        for variant, name in self._ours.items():
            row = [f"`{name}`", VARIANTS[variant]]
            for callers, quantity in MAIN:
                limit = (IN_PROCESS, variant, "")
                row.append(f"{self._measured.median(limit, callers, quantity):.1f}")
                for key in ((name, variant, protocol) for protocol in _PROTOCOLS):
                    ratio = self._measured.ratio(key, [limit], callers, quantity)
                    row.append(f"{self._measured.median(key, callers, quantity):.1f} ({ratio.median:.2f})")
            rows.append(row)
        return rows

    def generator_core_ms(self) -> list[str]:
        """CPU time of the load generator for an image of 16 callers over gRPC and HTTP, in milliseconds of one core."""
        keys = ((self._ours[PEER_VARIANT], PEER_VARIANT, protocol) for protocol in _PROTOCOLS)
        return [f"{self._measured.median(key, 16, 'generator_core_ms'):.2f}" for key in keys]

    def accuracy(self) -> Rows:
        """Each variant's accuracy, start and memory."""
        accuracy = {record["variant"]: record for record in self._results["accuracy"]}
        rows = []
        for variant, name in self._ours.items():
            found = accuracy.get(variant)
            shares = [f"{found['top1']:.1%}", f"{found['same']:.1%}"] if found else ["-", "-"]
            rows.append([f"`{name}`", *shares, *self._start(name, variant)])
        return rows

    def servers(self) -> Rows:
        """All servers, with the network that all of them serve."""
        return [
            [title, *(f"{self._measured.median(key, *each):.1f}" for each in MAIN), *self._start(*key[:2])]
            for title, key in self._compared().items()
        ]

    def ratios_to_best_peer(self) -> list[str]:
        """Throughput and p50 of this server over HTTP as ratios to the best other server of each round."""
        _, ours, *peers = self._compared().values()
        return [self._measured.ratio(ours, peers, *each).text() for each in MAIN]

    def interfaces(self) -> Rows:
        """``AsyncClient`` and the gateway, compared with gRPC."""
        name = self._ours["int8"]
        grpc = (name, "int8", "gRPC")
        rows = []
        for title, key in (("`AsyncClient`", (name, "int8", "AsyncClient")), ("gateway", ("gateway", "int8", "HTTP"))):
            ratios = [self._measured.ratio(key, [grpc], *each).text() for each in MAIN]
            more_ms = self._measured.median(key, 1, "p50_ms") - self._measured.median(grpc, 1, "p50_ms")
            rows.append([title, *ratios, f"{more_ms:.1f}"])
        return rows

    def generators(self) -> Rows:
        """The load test compared with perf_analyzer."""
        rows = []
        for sent in GENERATED:
            turns = generator_turns(self._results, sent)
            p50, outside = (
                [f"{statistics.median(turn[quantity] for turn in each):.1f}" for each in turns]
                for quantity in ("p50_ms", "outside_ms")
            )
            ratios = [generator_ratio(self._results, sent, quantity).text(3) for _, quantity in MAIN]
            rows.append([sent, *ratios, ", ".join(p50), ", ".join(outside)])
        return rows

    def decoding(self) -> Rows:
        """The cost of an image by size and format."""
        cells: dict[str, list[str]] = {}
        for record in self._results["decoding"]:
            row = cells.setdefault(f"{record['megapixels']:g}", [])
            row += [f"{record['kilobytes']:.0f}", f"{record['ms']:.1f}"]
        return [[size, *row] for size, row in cells.items()]

    def variant_bars(self) -> list[Record]:
        """Throughput of each variant over both protocols, and its limit."""
        return [
            {
                "title": VARIANTS[variant],
                "limit": self._measured.median((IN_PROCESS, variant, ""), 16, "images_per_s"),
                "bars": [self._bar(f"{name}, {protocol}", (name, variant, protocol)) for protocol in _PROTOCOLS],
            }
            for variant, name in self._ours.items()
        ]

    def server_bars(self) -> list[Record]:
        """Throughput of all servers, the fastest first."""
        bars = [self._bar(title, key) for title, key in self._compared().items()]
        limit = self._measured.median((IN_PROCESS, PEER_VARIANT, ""), 16, "images_per_s")
        ordered = sorted(bars, key=lambda bar: -float(bar["value"]))
        return [{"title": VARIANTS[PEER_VARIANT], "limit": limit, "bars": ordered}]

    def _compared(self) -> dict[str, Key]:
        """Title → measurements of this server over each protocol, then of the others."""
        versions = self._results["machine"]["peers"]
        name = self._ours[PEER_VARIANT]
        ours = {f"this server, {protocol}": (name, PEER_VARIANT, protocol) for protocol in _PROTOCOLS}
        peers = [peer for peer in PEERS if (peer.name, PEER_VARIANT) in self._starts]
        return ours | {f"{peer.name} {versions[peer.package]}": (peer.name, PEER_VARIANT, "HTTP") for peer in peers}

    def _start(self, name: str, variant: str) -> list[str]:
        start = self._starts[name, variant]
        return [f"{start['start_s']:.1f}", f"{start['memory_mib']:.0f}"]

    def _bar(self, title: str, key: Key) -> Record:
        rates = Summary.of(self._measured.rounds(key, 16, "images_per_s"))
        colour = _OURS if key[0].startswith("resnet50") else _OTHER
        return {"title": title, "value": rates.median, "low": rates.low, "high": rates.high, "colour": colour}


def generator_turns(results: Record, sent: str) -> tuple[list[Record], list[Record]]:
    """The turns of the load test and those of perf_analyzer."""
    ours, theirs = (
        [each for each in results["load_generators"] if (each["generator"], each["sent"]) == (generator, sent)]
        for generator in ("load test", "perf_analyzer")
    )
    return ours, theirs


def generator_ratio(results: Record, sent: str, quantity: str) -> Summary:
    """The load test compared with perf_analyzer in consecutive turns."""
    turns: Sequence[tuple[Record, Record]] = list(zip(*generator_turns(results, sent), strict=True))
    return Summary.of(ours[quantity] / theirs[quantity] for ours, theirs in turns)
