"""Photos per second and milliseconds through the served ``preprocess`` alone, by callers and instances.

Photos are ImageNet's as they are, and enlarged to 12 megapixels.
"""

from __future__ import annotations

import argparse
import io
import itertools
import shutil
import statistics
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tritonclient.grpc as protocol
from PIL import Image
from resnet_build import configs
from resnet_serve import ServerConfig, TritonServer

_ROOT = Path(__file__).resolve().parents[1]
_SAMPLE = _ROOT.parent / "shared" / "imagenet-sample"


def ask(address: str, photos: list[bytes], callers: int, seconds: float) -> tuple[float, list[float]]:
    """Send photos from so many threads; return photos per second and the milliseconds of each."""
    taken: list[float] = []
    end = time.monotonic() + seconds

    def call() -> None:
        with protocol.InferenceServerClient(address) as client:
            for photo in itertools.cycle(photos):
                tensor = protocol.InferInput("IMAGE", [1, 1], "BYTES")
                tensor.set_data_from_numpy(np.array([[photo]], dtype=np.object_))
                started = time.monotonic()
                if started > end:
                    return
                client.infer("preprocess", [tensor])
                ended = time.monotonic()
                if ended <= end:  # of many callers, as many answers come after it
                    taken.append((ended - started) * 1e3)

    with ThreadPoolExecutor(callers) as pool:
        for calling in [pool.submit(call) for _ in range(callers)]:
            calling.result()
    return len(taken) / seconds, taken


def with_instances(repository: Path, instances: int, folder: Path) -> Path:
    """Copy ``preprocess`` from the repository, with another number of instances."""
    copy = folder / str(instances)
    shutil.copytree(repository / "preprocess", copy / "preprocess")
    config = copy / "preprocess" / "config.pbtxt"
    parsed = configs.parse(config.read_text(encoding="utf-8"))
    parsed.instance_group[0].count = instances
    config.write_text(str(parsed), encoding="utf-8")
    return copy


def enlarged(path: Path) -> bytes:
    """Encode the photo with 12 megapixels."""
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").resize((4_000, 3_000)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, default=_ROOT / "model_repository")
    parser.add_argument("--instances", type=int, nargs="+", default=[1])
    parser.add_argument("--callers", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    paths = sorted(_SAMPLE.glob("*.jpg"))[::10]
    kinds = {"0.2": [path.read_bytes() for path in paths], "12": [enlarged(path) for path in paths[::5]]}
    print("| instances | megapixels | callers | photos/s, median (of rounds) | ms, median |\n|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        for instances in options.instances:
            repository = with_instances(options.repository, instances, Path(folder))
            with TritonServer(ServerConfig(repository, port=0)) as server:
                address = server.grpc_url.removeprefix("grpc://")
                for (kind, photos), callers in itertools.product(kinds.items(), options.callers):
                    ask(address, photos, callers, 1)
                    rounds = [ask(address, photos, callers, options.seconds) for _ in range(options.rounds)]
                    rates = sorted(rate for rate, _ in rounds)
                    taken = statistics.median(value for _, values in rounds for value in values)
                    spread = f"{statistics.median(rates):.0f} ({rates[0]:.0f} to {rates[-1]:.0f})"
                    print(f"| {instances} | {kind} | {callers} | {spread} | {taken:.2f} |", flush=True)


if __name__ == "__main__":
    main()
