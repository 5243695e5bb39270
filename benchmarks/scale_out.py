"""What one, two and more servers on this machine answer together behind one client.

Each server's network has one thread, so that one server cannot use the machine alone. All servers run during the whole
measurement; turns of a few seconds take one, then two, … of them. Run it from the repository's root with
``python -m benchmarks.scale_out``.
"""

from __future__ import annotations

import argparse
import itertools
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from google.protobuf import text_format
from resnet_client import Client
from resnet_client.example_images import everyday as shipped_photos
from resnet_serve import ServerConfig, TritonServer
from tritonclient.grpc import model_config_pb2 as pb

MODELS = ("resnet50", "preprocess", "network_onnx")
CALLERS = 16


def main() -> None:
    """Measure, and print a line for each number of servers."""
    options = _options()
    photos = [path.read_bytes() for path in options.photos or shipped_photos()]
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        _copy_with_one_thread(options.repository, folder)
        config = ServerConfig(folder, port=0)
        urls = [running.enter_context(TritonServer(config)).grpc_url for _ in range(options.servers)]
        turns: dict[int, list[tuple[float, float]]] = {count: [] for count in range(1, options.servers + 1)}
        for _ in range(options.rounds):
            for count, found in turns.items():
                found.append(_turn(urls[:count], photos, options.turn_s))
    rates = {count: [rate for rate, _ in found] for count, found in turns.items()}
    one = statistics.median(rates[1])
    for count, found in turns.items():
        middle, cores = statistics.median(rates[count]), statistics.median(cores for _, cores in found)
        spread = f"{min(rates[count]):.1f} to {max(rates[count]):.1f}"
        sys.stdout.write(
            f"{count} servers  {middle:5.1f} photos/s ({spread}), {middle / one:.2f} times one; "
            f"{cores:.2f} cores busy, {middle / cores:.1f} photos/s for each\n"
        )


def _turn(urls: Sequence[str], photos: Sequence[bytes], turn_s: float) -> tuple[float, float]:
    """How many photos a second these servers answer, and how many of the machine's cores are busy meanwhile.

    The first ones fill the pipe and do not count.
    """
    with Client(urls) as client:
        outcomes = client.classify_many(itertools.cycle(photos), max_in_flight=CALLERS)
        started_s, busy_s, count = time.monotonic(), _busy_s(), -CALLERS
        for outcome in outcomes:
            if outcome.error:
                raise outcome.error
            count += 1
            if count == 0:
                started_s, busy_s = time.monotonic(), _busy_s()
            elif count > 0 and (took_s := time.monotonic() - started_s) >= turn_s:
                busy_s = _busy_s() - busy_s
                break
    return count / took_s, busy_s / took_s


def _busy_s() -> float:
    """How long all cores together have worked since the machine started; the client is a part of it."""
    user, nice, system, _idle, _waiting, *interrupts = map(int, Path("/proc/stat").read_text().split()[1:8])
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def _copy_with_one_thread(repository: Path, folder: Path) -> None:
    for name in MODELS:
        shutil.copytree(repository / name, folder / name)
    path = folder / "network_onnx/config.pbtxt"
    config = text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
    config.parameters["intra_op_thread_count"].string_value = "1"
    path.write_text(text_format.MessageToString(config), encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("photos", nargs="*", type=Path, help="photos to classify; those that packages ship")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"), help="a built model repository")
    parser.add_argument("--servers", type=int, default=3, help="how many at most (default: 3)")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each number (default: 5)")
    parser.add_argument("--turn-s", type=float, default=6.0, help="seconds of a turn (default: 6)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
