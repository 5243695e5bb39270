"""The Markdown tables of docs/performance.md."""

from __future__ import annotations

import json
from collections.abc import Sequence

from benchmarks.networks import SECOND_ENGINE
from benchmarks.results import SETTINGS, Comparison, Record, Summary, read

_PACKAGES = {
    "LitServe": "litserve",
    "BentoML": "bentoml",
    "mosec": "mosec",
    "PyTriton": "nvidia-pytriton",
    "FastAPI + ONNX Runtime": "fastapi",
    "FastAPI + eager PyTorch": "fastapi",
}

_COMPARED_BATCH = 8


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def machine() -> str:
    """The machine and versions, in a message."""
    found = read("comparison")["machine"]
    versions = ", ".join(f"{name} {number}" for name, number in found["versions"].items())
    return (
        f"Measured on {found['date']} at commit {found['commit']}: {found['cores']} cores of an {found['processor']} "
        f"({found['family']}; {', '.join(found['instructions'])}), {found['memory_gib']} GiB of memory, no GPU; "
        f"Python {found['python']}, {versions}."
    )


def comparison() -> str:
    """All candidates, with 16 callers and with one."""
    found = Comparison()
    rows = []
    for network in found.networks():
        for name in found.candidates(network):
            most = found.summary(name, network, 16, "throughput")
            share = found.ratio((name, network), [("ceiling", network)], 16, "throughput")
            row = [_named(name), network, most.text(), f"{share.median:.2f}"]
            row += [_optional(found, name, network, 16, key) for key in ("p50_ms", "p95_ms", "server_ms")]
            row.append(_optional(found, name, network, 1, "latency_ms" if name == "ceiling" else "p50_ms"))
            rows.append(row)
    return table(
        [
            "",
            "network",
            "images/s, 16 callers",
            "of the ceiling",
            "p50, ms",
            "p95, ms",
            "core-ms",
            "one caller: p50, ms",
        ],
        rows,
    )


def shows() -> str:
    """The aims and their ratios."""
    found = Comparison()
    fp32 = found.peers("FP32")
    floats, int8 = (found.network_of(f"resnet50_{variant}") for variant in ("fp32", "int8"))
    rows = []
    for network in filter(found.ensemble, found.networks()):
        floor = 0.95 if network.startswith("FP32") else 0.90
        # Of the ceiling with the same engine, and with ONNX Runtime if it executes the same file.
        for limit in dict.fromkeys((network, network.removesuffix(SECOND_ENGINE))):
            if found.rounds("ceiling", limit, 16):
                what = f"{network}: throughput, of the ceiling" + (f" with {limit}" if limit != network else "")
                rows.append(_show(found, what, network, [("ceiling", limit)], floor))
    # Peers with the same file: in ONNX Runtime, and in this server's engine.
    for ours, theirs in dict.fromkeys(
        (("FP32", "FP32"), (floats, "FP32"), (floats, floats), (int8, "INT8"), (int8, int8))
    ):
        peers = [peer for peer in found.peers(theirs) if "eager" not in peer[0]]
        if peers:
            what = f"{ours} against the best peer with {theirs}"
            rows.append(_show(found, f"{what}: throughput", ours, peers, 1.2))
            rows.append(_show(found, f"{what}: p50 of one caller", ours, peers, 0.8, at_most=True))
    default = found.network_of("resnet50")
    what = f"`resnet50` ({default}) against the best peer with FP32"
    rows.append(_show(found, f"{what}: throughput", default, fp32, 2))
    rows.append(_show(found, f"{what}: p50 of one caller", default, fp32, 0.8, at_most=True))
    rows.append(_show(found, f"{int8} against the best peer with FP32: throughput", int8, fp32, 3.2))
    return table(["", "aim", "gRPC", "HTTP"], rows)


def checks() -> str:
    """Share of images for which each candidate's class is that of eager PyTorch."""
    rows = [
        [
            _named(check["candidate"]),
            check["network"],
            f"{check['same']:.1%} of {check['images']}",
            f"{check['same_clear']:.1%} of {check['clear']}",
        ]
        for check in Comparison().checks
    ]
    return table(["", "network", "same class", "same class, of the clear images"], rows)


def settings() -> str:
    """The best settings of all candidates, and the versions."""
    versions = read("comparison")["machine"]["peers"]
    found = json.loads(SETTINGS.read_text(encoding="utf-8"))
    rows = []
    for name, networks in found.items():
        package = _PACKAGES.get(name, "")
        title = f"{name} {versions[package]}" if package else name
        for network, chosen in networks.items():
            rows.append([title, network, ", ".join(f"{key} {value}" for key, value in sorted(chosen.items()))])
    return table(["", "tried with", "best"], rows)


def costs() -> str:
    """The core-milliseconds of an image by process of this server, with 16 callers and with one."""
    found = Comparison()
    alone = read("batches")
    network_alone = {
        record["network"]: record["core_ms"] for record in alone["records"] if record["batch"] == _COMPARED_BATCH
    }
    rows = []
    for network in found.networks():
        for callers in (16, 1):
            records = found.rounds(f"{found.ensemble(network)}, grpc", network, callers)
            if not records:
                continue
            cost = _mean_costs(records)
            # Other processes are idle.
            stub = max((name for name in cost if name.startswith("network_")), key=lambda name: cost[name])
            rows.append(
                [
                    network,
                    str(callers),
                    f"{cost['preprocess']:.2f}",
                    f"{alone['decode_ms']:.2f}",
                    f"{cost[stub]:.2f}",
                    f"{network_alone.get(network, float('nan')):.2f}",
                    f"{cost['triton']:.2f}",
                    f"{cost['watchdog']:.2f}",
                    f"{_mean(records, 'generator_ms'):.2f}",
                    _waits(records),
                ]
            )
    head = [
        "network",
        "callers",
        "`preprocess`",
        "decoding alone",
        "network's process",
        f"network alone, batch {_COMPARED_BATCH}",
    ]
    return table([*head, "`tritonserver`", "watchdog", "load generator", "waits, ms: decoder, network"], rows)


def callers() -> str:
    """Throughput and latency of every model, 1 to 64 callers."""
    records = read("callers")["records"]
    counts = sorted({record["callers"] for record in records})
    rows = []
    for model, protocol in dict.fromkeys((record["candidate"], record["protocol"]) for record in records):
        mine = {r["callers"]: r for r in records if (r["candidate"], r["protocol"]) == (model, protocol)}
        cells = [f"{mine[count]['throughput']:.1f} · {mine[count]['p50_ms']:.0f}" for count in counts]
        rows.append([f"`{model}`", protocol, *cells])
    return table(["model", "protocol", *map(str, counts)], rows)


def sizes() -> str:
    """Costs by the size of the image."""
    rows = [
        [
            f"{record['megapixels']:g}",
            f"{record['kilobytes']:.0f}",
            f"{record['decode_ms']:.1f}",
            f"{record['throughput']:.1f}",
            f"{record['core_ms'].get('preprocess', 0):.1f}",
            f"{record['core_ms'].get('triton', 0):.1f}",
            f"{record['p50_ms']:.0f}",
        ]
        for record in read("sizes")["records"]
    ]
    head = [
        "megapixels",
        "kB",
        "decoding alone, core-ms",
        "images/s",
        "`preprocess`, core-ms",
        "`tritonserver`, core-ms",
    ]
    return table([*head, "p50, ms"], rows)


def batches() -> str:
    """The network alone, by batch."""
    records = read("batches")["records"]
    networks = list(dict.fromkeys(record["network"] for record in records))
    rows = []
    for batch in sorted({record["batch"] for record in records}):
        mine = {record["network"]: record for record in records if record["batch"] == batch}
        rows.append([str(batch), *(f"{mine[network]['clock_ms']:.1f}" for network in networks)])
    return table(["batch", *(f"{network}, ms per image" for network in networks)], rows)


TABLES = {
    "settings": settings,
    "machine": machine,
    "comparison": comparison,
    "shows": shows,
    "checks": checks,
    "costs": costs,
    "callers": callers,
    "sizes": sizes,
    "batches": batches,
}


def _named(name: str) -> str:
    return f"**{name}**" if name.startswith(("resnet50", "ceiling")) else name


def _optional(found: Comparison, name: str, network: str, callers: int, key: str) -> str:
    records = found.rounds(name, network, callers)
    return f"{Summary.of(record[key] for record in records).median:.1f}" if key in records[0] else "-"


def _show(
    found: Comparison, what: str, network: str, theirs: list[tuple[str, str]], aim: float, *, at_most: bool = False
) -> list[str]:
    cells = []
    for protocol in ("grpc", "http"):
        ours = (f"{found.ensemble(network)}, {protocol}", network)
        ratio = found.ratio(ours, theirs, 1 if at_most else 16, "p50_ms" if at_most else "throughput")
        holds = ratio.median <= aim if at_most else ratio.median >= aim
        cells.append(f"{ratio.text(2)} {'✓' if holds else '✗'}")
    return [what, f"{'≤' if at_most else '≥'} {aim:g}", *cells]


def _mean(records: Sequence[Record], key: str) -> float:
    return Summary.of(record[key] for record in records).median


def _mean_costs(records: Sequence[Record]) -> dict[str, float]:
    names = dict.fromkeys(name for record in records for name in record["core_ms"])
    return {name: Summary.of(record["core_ms"].get(name, 0.0) for record in records).median for name in names}


def _waits(records: Sequence[Record]) -> str:
    """Mean time in the queues before decoder and network."""
    steps = [name for name in records[0]["waiting_ms"] if name == "preprocess" or name.startswith("network_")]
    steps.sort(key=lambda name: name != "preprocess")
    waits = [Summary.of(record["waiting_ms"].get(step, 0.0) for record in records).median for step in steps]
    return ", ".join(f"{wait:.1f}" for wait in waits)
