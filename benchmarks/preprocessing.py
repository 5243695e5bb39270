"""What it costs to prepare a photo, how near its pixels are to torchvision's, and what other decoders would do.

``speed`` times one core, ways interleaved; ``agreement`` asks a network. Photos come from a folder, by default the
folder of ImageNet photos beside the checkout. Decoders that are not installed are left out.
"""

from __future__ import annotations

import argparse
import importlib
import io
import itertools
import statistics
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps
from resnet_client.preprocessing import Recipe, containers, crop, crop_pixels, decode, limits, prepare
from torchvision.transforms import functional as F  # noqa: N812  # torchvision's own convention

Pixels = npt.NDArray[np.uint8]
Way = Callable[[bytes, Recipe], Pixels]

_SAMPLE = Path(__file__).resolve().parents[2] / "shared" / "imagenet-sample"
# By megapixels.
_SIZES = {"0.2": (500, 375), "1": (1_152, 864), "3": (2_048, 1_536), "12": (4_000, 3_000), "24": (6_000, 4_000)}
_FORMS: dict[str, tuple[str, dict[str, Any]]] = {
    "jpeg": ("JPEG", {"quality": 90}),
    "progressive": ("JPEG", {"quality": 90, "progressive": True}),
    "png": ("PNG", {"compress_level": 1}),
    "webp": ("WEBP", {"quality": 80, "method": 0}),
}
# Of what a sensor adds to every pixel; enlarged photos have none left.
_GRAIN = 3.0
# The files as they are, if of 500x375 pixels.
_OWN = "own"
_LIMITS = limits.Limits()


def original(photo: bytes, recipe: Recipe) -> Pixels:
    """The whole photo, decoded, turned and cropped."""
    return crop_pixels(decode(photo), recipe)


def pillow(photo: bytes, recipe: Recipe, mode: str | None = None, *, fast: bool = False, gap: float = 0) -> Pixels:
    """Pillow, its JPEG decoder told to convert no colours, or to be fast; or with its own reduction before resizing."""
    with Image.open(io.BytesIO(photo), formats=("JPEG",)) as image:
        if gap:
            image.load()
            box = crop._box(image.size, recipe, 1)  # noqa: SLF001
            return np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR, box=box, reducing_gap=gap))
        least = recipe.least_side or image.width
        drafted = image.draft(mode, (least, least))
        size = drafted[1][2:] if drafted else image.size
        if fast:
            image.decoderconfig = (*image.decoderconfig[:1], 1)
        image.load()
        square = image.resize((224, 224), Image.Resampling.BILINEAR, box=crop._box(size, recipe, 1))  # noqa: SLF001
        return np.asarray(square.convert("RGB"))


def _scaled(pixels: Pixels, width: int, height: int, recipe: Recipe) -> Pixels:
    eighths = round(8 * pixels.shape[0] / height)
    return crop_pixels(Image.fromarray(pixels), recipe, size=(width * eighths / 8, height * eighths / 8))


def simplejpeg(photo: bytes, recipe: Recipe) -> Pixels:
    """libjpeg-turbo's own interface, which knows eighths, with its fast transforms."""
    library = importlib.import_module("simplejpeg")
    height, width, _, _ = library.decode_jpeg_header(photo)
    least = min(1, (recipe.least_side or width) / min(width, height))
    sides = {"min_height": int(height * least), "min_width": int(width * least)}
    return _scaled(library.decode_jpeg(photo, "RGB", fastdct=True, fastupsample=True, **sides), width, height, recipe)


def opencv(photo: bytes, recipe: Recipe, *, area: bool = False) -> Pixels:
    """OpenCV's decoder, reduced; with ``area`` its resize as well."""
    library = importlib.import_module("cv2")
    library.setNumThreads(1)
    width, height = Image.open(io.BytesIO(photo)).size
    scale = next(s for s in (8, 4, 2, 1) if s == 1 or min(width, height) // s >= (recipe.least_side or width))
    flag = library.IMREAD_COLOR if scale == 1 else getattr(library, f"IMREAD_REDUCED_COLOR_{scale}")
    pixels = library.imdecode(np.frombuffer(photo, np.uint8), flag | library.IMREAD_IGNORE_ORIENTATION)[:, :, ::-1]
    if not area:
        return _scaled(np.ascontiguousarray(pixels), width, height, recipe)
    left, top, right, bottom = map(round, crop._box((width / scale, height / scale), recipe, 1))  # noqa: SLF001
    return np.asarray(library.resize(pixels[top:bottom, left:right], (224, 224), interpolation=library.INTER_AREA))


def libvips(photo: bytes, recipe: Recipe) -> Pixels:
    """The decoder of libvips, reduced."""
    library = importlib.import_module("pyvips")
    library.cache_set_max(0)
    width, height = Image.open(io.BytesIO(photo)).size
    scale = next(s for s in (8, 4, 2, 1) if s == 1 or min(width, height) // s >= (recipe.least_side or width))
    image = library.Image.new_from_buffer(photo, "", shrink=scale, access="sequential")
    return _scaled(image.numpy(), width, height, recipe)


_WAYS: dict[str, Way] = {
    "as served": prepare,
    "whole photo": original,
    "resized by Pillow": pillow,
    "whole photo, reducing_gap=2": lambda photo, recipe: pillow(photo, recipe, gap=2.0),
    "Pillow, fast transforms": lambda photo, recipe: pillow(photo, recipe, fast=True),
    "Pillow, colours after resizing": lambda photo, recipe: pillow(photo, recipe, "YCbCr"),
    "simplejpeg": simplejpeg,
    "OpenCV": opencv,
    "OpenCV, INTER_AREA": lambda photo, recipe: opencv(photo, recipe, area=True),
    "libvips": libvips,
}


def torchvision(photo: bytes, recipe: Recipe) -> Pixels:
    """The transforms of the weights on the whole picture."""
    resized = F.resize(decode(photo), [recipe.resize], antialias=True)
    return np.asarray(F.center_crop(resized, [recipe.crop, recipe.crop]))


def photos_of(paths: list[Path], size: tuple[int, int], form: str, sigma: float = _GRAIN) -> Iterator[bytes]:
    """Yield each photo, cut to the shape of the size, enlarged to it, with a sensor's grain, and encoded."""
    grain = np.random.default_rng(0).normal(0, sigma, (size[1], size[0], 1)).round().astype(np.int16)
    for path in paths:
        image = Image.open(path).convert("RGB")
        pixels = np.asarray(ImageOps.fit(image, size, Image.Resampling.BICUBIC)) + grain
        buffer = io.BytesIO()
        name, options = _FORMS[form]
        Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(buffer, name, **options)
        yield buffer.getvalue()


def as_they_are(paths: list[Path]) -> list[bytes]:
    """Read the files whose pictures have 500x375 pixels."""
    return [path.read_bytes() for path in paths if Image.open(path).size == (500, 375)]


def speed(
    paths: list[Path], recipe: Recipe, *, rounds: int, forms: list[str], sizes: list[str], ways: list[str], grain: float
) -> None:
    """Print milliseconds of one core and the distance from torchvision's pixels."""
    print("| megapixels | format | KB | way | ms, median (10 to 90 %) | difference |\n|---|---|---|---|---|---|")
    for size, form in itertools.product(sizes, forms):
        photos = list(photos_of(paths, _SIZES[size], form, grain)) if size in _SIZES else as_they_are(paths)
        expected = [torchvision(photo, recipe).astype(int) for photo in photos]
        bare = [containers.check(photo, _LIMITS).data for photo in photos]
        taken: dict[str, list[float]] = {way: [] for way in ways}
        differences: dict[str, list[float]] = {way: [] for way in ways}
        for _, number, way in itertools.product(range(rounds), range(len(photos)), ways):
            # Other decoders get what the containers' check leaves, without its cost.
            photo = photos[number] if _WAYS[way] in (prepare, original) else bare[number]
            started = time.perf_counter()
            pixels = _WAYS[way](photo, recipe)
            taken[way].append((time.perf_counter() - started) * 1e3)
            differences[way].append(float(np.abs(pixels - expected[number]).mean()))
        length = statistics.median(map(len, photos)) / 1e3
        for way in ways:
            low, *_, high = statistics.quantiles(taken[way], n=10)
            print(
                f"| {size} | {form} | {length:.0f} | {way} | {statistics.median(taken[way]):.2f} ({low:.2f} to "
                f"{high:.2f}) | {np.mean(differences[way]):.2f} |",
                flush=True,
            )


def agreement(paths: list[Path], recipe: Recipe, network: Path, sizes: list[str]) -> None:
    """Print how often the network's first guess is the one for torchvision's pixels, and how far pixels differ."""
    import onnxruntime

    session = onnxruntime.InferenceSession(network, providers=["CPUExecutionProvider"])
    print("| megapixels | photos | same top-1 | mean difference | largest of a photo |\n|---|---|---|---|---|")
    for size in sizes:
        same, differences = 0, []
        for photo in photos_of(paths, _SIZES[size], "jpeg"):
            both = np.stack([prepare(photo, recipe), torchvision(photo, recipe)])
            first, second = session.run(["PROBABILITIES__0"], {"PIXELS__0": both})[0].argmax(axis=1)
            same += int(first == second)
            differences.append(np.abs(both[0].astype(int) - both[1]).mean())
        figures = f"{same / len(paths):.1%} | {np.mean(differences):.2f} | {max(differences):.2f}"
        print(f"| {size} | {len(paths)} | {figures} |", flush=True)


def main() -> None:
    """Read the command line and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("speed", "agreement"))
    parser.add_argument("--photos", type=Path, default=_SAMPLE, metavar="FOLDER")
    parser.add_argument("--every", type=int, default=20, help="use one photo of so many")
    parser.add_argument("--resize", type=int, default=232, help="the recipe's short side")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--grain", type=float, default=_GRAIN, help="of a sensor, standard deviation of 255, for speed")
    parser.add_argument("--form", choices=_FORMS, action="append", help="jpeg by default; may be repeated")
    parser.add_argument("--size", choices=(*_SIZES, _OWN), action="append", help="all but the files' own by default")
    parser.add_argument("--way", choices=_WAYS, action="append", help="as served by default; may be repeated")
    parser.add_argument("--network", type=Path, help="for agreement: an ONNX artifact of the build")
    options = parser.parse_args()
    recipe = Recipe(options.resize, 224)
    paths = sorted(options.photos.glob("*.jpg"))[:: options.every]
    if options.what == "agreement":
        agreement(paths, recipe, options.network, options.size or list(_SIZES))
    else:
        speed(
            paths,
            recipe,
            rounds=options.rounds,
            forms=options.form or ["jpeg"],
            sizes=options.size or list(_SIZES),
            ways=options.way or ["as served"],
            grain=options.grain,
        )


if __name__ == "__main__":
    main()
