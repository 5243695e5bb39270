"""What shared memory saves of a call's time, by the size of the photo and by protocol.

The server is the real one; its model answers at once, whatever it gets, so that only the way of the photo is left. Run
it from the repository's root with ``python -m benchmarks.shared_memory``.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer

SIZES = {"20 KB": 20_000, "100 KB": 100_000, "150 KB, as pixels": 150_528, "1 MB": 1_000_000, "4 MB": 4_000_000}
CONFIG = """
name: "resnet50"
backend: "python"
max_batch_size: 32
input { name: "IMAGE" data_type: TYPE_STRING dims: 1 }
output { name: "PROBABILITIES__0" data_type: TYPE_FP32 dims: 5 }
"""
MODEL = """
import numpy
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def execute(self, requests):
        tensor = pb_utils.Tensor("PROBABILITIES__0", numpy.ones((1, 5), dtype=numpy.float32))
        return [pb_utils.InferenceResponse([tensor]) for _ in requests]
"""


def main() -> None:
    """Measure in turns, and print a line for each size and protocol."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=100, help="calls of a turn (default: 100)")
    parser.add_argument("--rounds", type=int, default=9, help="turns of each kind (default: 9)")
    options = parser.parse_args()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory()))
        (folder / "resnet50/1").mkdir(parents=True)
        (folder / "resnet50/config.pbtxt").write_text(CONFIG, encoding="utf-8")
        (folder / "resnet50/1/model.py").write_text(MODEL, encoding="utf-8")
        server = running.enter_context(TritonServer(ServerConfig(folder, port=0)))
        clients = {
            (protocol, shared): running.enter_context(Client(url, shared_memory=shared, admin_token=server.admin_token))
            for protocol, url in (("gRPC", server.grpc_url), ("HTTP", server.http_url))
            for shared in (False, True)
        }
        for name, size in SIZES.items():
            found: dict[tuple[str, bool], list[float]] = {kind: [] for kind in clients}
            for _ in range(options.rounds + 1):
                for kind, client in clients.items():
                    found[kind].append(_call_ms(client, bytes(size), options.calls))
            for protocol in ("gRPC", "HTTP"):
                turns = [found[protocol, shared][1:] for shared in (False, True)]  # the first warms up
                shown = (f"{statistics.median(ms):6.2f} ms ({min(ms):.2f} to {max(ms):.2f})" for ms in turns)
                sys.stdout.write(f"{name:18} {protocol}  {'  shared '.join(shown)}\n")


def _call_ms(client: Client, photo: bytes, calls: int) -> float:
    started_s = time.perf_counter()
    for _ in range(calls):
        client.classify(photo)
    return (time.perf_counter() - started_s) / calls * 1000


if __name__ == "__main__":
    main()
