"""The cost of preprocessing on one core, and the difference of its pixels from torchvision's.

``python -m benchmarks.preprocessing speed`` times it by size and format of the image, alternating with decoding the
whole image; ``agreement`` compares the network's top-1 for its pixels and for torchvision's.
"""

from __future__ import annotations

import argparse
import io
import itertools
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from resnet_client.preprocessing import PreprocessConfig, crop_pixels, decode, prepare
from torchvision.transforms import functional as F  # noqa: N812  # torchvision's own convention

Pixels = npt.NDArray[np.uint8]

_SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "imagenet-sample"
# By megapixels.
_SIZES = {"0.2": (500, 375), "1": (1_152, 864), "3": (2_048, 1_536), "12": (4_000, 3_000), "24": (6_000, 4_000)}
_FORMS = ("baseline", "progressive")
# Sensor noise, standard deviation of 255; enlarged images have none and decode too fast.
_GRAIN = 3.0


def whole(encoded: bytes, preprocess_config: PreprocessConfig) -> Pixels:
    """Decode all pixels, then turn and crop them."""
    return crop_pixels(decode(encoded), preprocess_config)


_WAYS: dict[str, Callable[[bytes, PreprocessConfig], Pixels]] = {"as served": prepare, "whole image": whole}


def torchvision(encoded: bytes, preprocess_config: PreprocessConfig) -> Pixels:
    """The transforms of the weights on the whole image."""
    resized = F.resize(decode(encoded), [preprocess_config.resize], antialias=True)
    return np.asarray(F.center_crop(resized, [preprocess_config.crop, preprocess_config.crop]))


def enlarged(paths: list[Path], size: tuple[int, int], form: str) -> list[bytes]:
    """Each image as a JPEG of this size, with sensor noise."""
    grain = np.random.default_rng(0).normal(0, _GRAIN, (size[1], size[0], 1)).round().astype(np.int16)
    found = []
    for path in paths:
        pixels = np.asarray(ImageOps.fit(Image.open(path).convert("RGB"), size, Image.Resampling.BICUBIC)) + grain
        buffer = io.BytesIO()
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(buffer, "JPEG", quality=90, progressive=form == "progressive")
        found.append(buffer.getvalue())
    return found


def speed(paths: list[Path], preprocess_config: PreprocessConfig, sizes: list[str], rounds: int) -> None:
    """Print milliseconds of one core, and the mean distance from torchvision's pixels."""
    print("| megapixels | format | KB | way | ms, median (10 to 90 %) | difference |\n|---|---|---|---|---|---|")
    for form, size in itertools.product(_FORMS, sizes):
        images = enlarged(paths, _SIZES[size], form)
        taken_ms: dict[str, list[float]] = {way: [] for way in _WAYS}
        for _, image, way in itertools.product(range(rounds), images, _WAYS):
            started_s = time.perf_counter()
            _WAYS[way](image, preprocess_config)
            taken_ms[way].append(1e3 * (time.perf_counter() - started_s))
        kilobytes = statistics.median(map(len, images)) / 1e3
        for way, values in taken_ms.items():
            low, *_, high = statistics.quantiles(values, n=10)
            distance = np.mean(
                [
                    _distance(_WAYS[way](image, preprocess_config), torchvision(image, preprocess_config))
                    for image in images
                ]
            )
            times = f"{statistics.median(values):.2f} ({low:.2f} to {high:.2f})"
            print(f"| {size} | {form} | {kilobytes:.0f} | {way} | {times} | {distance:.2f} |", flush=True)


def agreement(paths: list[Path], preprocess_config: PreprocessConfig, sizes: list[str], network: Path) -> None:
    """Print the share of images with the same top-1 as for torchvision's pixels, and the difference of pixels."""
    import onnxruntime

    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    print("| megapixels | images | same top-1 | mean difference | largest of an image |\n|---|---|---|---|---|")
    for size in sizes:
        same, differences = 0, []
        for image in enlarged(paths, _SIZES[size], "baseline"):
            ours, theirs = prepare(image, preprocess_config), torchvision(image, preprocess_config)
            first, second = session.run(["PROBABILITIES__0"], {"PIXELS__0": np.stack([ours, theirs])})[0].argmax(axis=1)
            same += int(first == second)
            differences.append(_distance(ours, theirs))
        numbers = f"{same / len(paths):.1%} | {np.mean(differences):.2f} | {max(differences):.2f}"
        print(f"| {size} | {len(paths)} | {numbers} |", flush=True)


def _distance(first: Pixels, second: Pixels) -> float:
    return float(np.abs(first.astype(int) - second).mean())


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("command", choices=("speed", "agreement"))
    parser.add_argument("--images", type=Path, default=_SAMPLE, metavar="DIR", help="Folder with JPEGs")
    parser.add_argument("--every", type=int, default=20, metavar="N", help="Use every Nth image (default: 20)")
    parser.add_argument("--resize", type=int, default=232, help="Short side before the crop (default: 232)")
    parser.add_argument("--rounds", type=int, default=5, help="Rounds of speed (default: 5)")
    parser.add_argument("--size", choices=_SIZES, nargs="+", default=list(_SIZES), help="Megapixels (default: all)")
    parser.add_argument("--network", type=Path, help="ONNX network for agreement")
    args = parser.parse_args()
    if args.command == "agreement" and args.network is None:
        parser.error("agreement needs --network")
    preprocess_config = PreprocessConfig(args.resize, 224)
    paths = sorted(args.images.glob("*.jpg"))[:: args.every]
    if args.command == "speed":
        speed(paths, preprocess_config, args.size, args.rounds)
    else:
        agreement(paths, preprocess_config, args.size, args.network)


if __name__ == "__main__":
    main()
