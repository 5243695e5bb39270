"""Run the measurements of docs/gpu.md, and print them as a Markdown table.

V1: random batch sizes. V2: metrics that limit the queue. V3: JPEG decoding. V4: resize and crop. V5: PyTorch in FP16.
V6: throughput of the server. All take about nine minutes on a GPU. A row that cannot be measured is "not run", with
the reason.

    resnet-build --variant fp16
    python -m benchmarks.gpu --images DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import torch

from benchmarks import images
from benchmarks.gpu import Measurement, Settings, decoding, networks, serving

_SOURCES: dict[Callable[[Settings], Iterator[Measurement]], tuple[str, ...]] = {
    serving.with_server: ("V1", "V2", "V6"),  # first, before this process uses the GPU's memory
    networks.with_onnx_runtime: ("V1",),
    networks.with_pytorch: ("V5",),
    decoding.decoded_images: ("V3",),
    decoding.cropped_images: ("V4",),
}
_CHECKS = sorted({check for checks in _SOURCES.values() for check in checks})


def main() -> int:
    """Run the command; return its exit code."""
    args = _parser().parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        sys.stderr.write("PyTorch finds no GPU; to test this script on the CPU: --device cpu\n")
        return 1
    paths = sorted(args.images.glob("*.[jJ][pP]*[gG]")) if args.images else []
    jpegs = [path.read_bytes() for path in paths] or images.standard(max(args.batches))
    numbers = args.port, args.seconds, sorted(args.batches), args.callers, args.processes
    settings = Settings(args.device, args.repository, jpegs, *numbers)
    print(f"{torch.cuda.get_device_name() if args.device == 'cuda' else 'CPU'}, PyTorch {torch.__version__}\n")
    print("| | measured | result | target |\n|---|---|---|---|")
    print(*sorted(_rows(settings, args.only), key=lambda row: row.split()[1]), sep="\n")
    return 0


def _rows(settings: Settings, checks: Sequence[str]) -> Iterator[str]:
    for source, provided in _SOURCES.items():
        if chosen := [check for check in provided if check in checks]:
            try:
                for measurement in source(settings):
                    if measurement.check in chosen:
                        yield _row(measurement)
            except (Exception, SystemExit) as exc:  # noqa: BLE001  # the other measurements need not fail with it
                sys.stderr.write(f"{exc}\n")
                yield from (f"| {check} | `{source.__name__}` | {_not_run(exc)} | |" for check in chosen)


def _row(measurement: Measurement) -> str:
    try:
        result = measurement.run()
    except Exception as exc:  # noqa: BLE001  # a library that is missing is one row
        result = _not_run(exc)
    row = f"| {measurement.check} | {measurement.what} | {result} | {measurement.target} |"
    sys.stderr.write(f"{row}\n")
    return row


def _not_run(error: BaseException) -> str:
    first, *_ = str(error).splitlines() or [type(error).__name__]
    return f"not run: {first.replace('|', '/')}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--only", nargs="+", choices=_CHECKS, default=_CHECKS, metavar="V", help="Some of V1 to V6 (default: all)")
    add("--device", choices=("cuda", "cpu"), default="cuda")
    add("--repository", type=Path, default=Path("model_repository"), metavar="DIR")
    add("--images", type=Path, metavar="DIR", help="Folder with JPEGs (default: crops of bundled images)")
    add("--port", type=int, default=0, help="HTTP port of a running server; 0 starts one (default: 0)")
    add("--seconds", type=float, default=2.0, help="Duration of each number (default: 2)")
    add(
        "--batches", type=int, nargs="+", default=[1, 8, 32, 128], metavar="N", help="Batch sizes (default: 1 8 32 128)"
    )
    add(
        "--callers",
        type=int,
        nargs="+",
        default=[16, 64, 256],
        metavar="N",
        help="Requests in flight (default: 16 64 256)",
    )
    add("--processes", type=int, default=6, metavar="N", help="Most processes that call or decode (default: 6)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
