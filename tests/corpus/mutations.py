"""Real images, damaged at random but the same way each time: bits, lengths, headers, order."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from PIL import Image

from corpus.odd import usual_images

# As bytes of headers, these are where programs have their limits.
_EXTREMES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)
_HEADER = 600
_SIDE = 96


def mutations(images: Sequence[Image.Image], count: int, seed: int = 0) -> Iterator[bytes]:
    """So many damaged files, made of the images in all formats, modes and orientations of the corpus."""
    rng = np.random.default_rng(seed)
    whole = [file for image in images for file in _files(image)]
    for _ in range(count):
        data = bytearray(whole[rng.integers(len(whole))])
        for _ in range(rng.integers(1, 4)):
            kind = _KINDS[rng.integers(len(_KINDS))]
            other = whole[rng.integers(len(whole))]
            data = kind(data, other, rng) or data
        yield bytes(data)


def _files(image: Image.Image) -> list[bytes]:
    small = image.convert("RGB")
    small.thumbnail((_SIDE, _SIDE))
    return [odd.data for odd in usual_images(small)]


def _flip_bits(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(len(data), size=rng.integers(1, 33)):
        data[place] ^= 1 << int(rng.integers(8))
    return data


def _edit_header(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
    for place in rng.integers(min(len(data), _HEADER), size=rng.integers(1, 9)):
        data[place] = _EXTREMES[rng.integers(len(_EXTREMES))] if rng.integers(2) else int(rng.integers(256))
    return data


def _edit_number(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
    place, size = int(rng.integers(min(len(data), _HEADER))), int(rng.choice([2, 4]))
    data[place : place + size] = bytes([_EXTREMES[rng.integers(len(_EXTREMES))]]) * size
    return data


def _truncate(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(len(data)) + 1]


def _cut_out(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
    start, size = int(rng.integers(len(data))), int(rng.integers(1, 2_000))
    return data[:start] + data[start + size :]


def _repeat(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
    start, size = int(rng.integers(len(data))), int(rng.integers(1, 500))
    return data[:start] + data[start : start + size] * int(rng.integers(2, 50)) + data[start + size :]


def _splice(data: bytearray, other: bytes, rng: np.random.Generator) -> bytearray:
    """Put a piece of another file in place of one of this."""
    start, size = int(rng.integers(len(data))), int(rng.integers(1, 2_000))
    source = int(rng.integers(len(other)))
    return data[:start] + other[source : source + size] + data[start + size :]


def _fill(data: bytearray, _: bytes, rng: np.random.Generator) -> bytearray:
    start, size = int(rng.integers(len(data))), int(rng.integers(1, 500))
    filler = rng.bytes(size) if rng.integers(2) else bytes([_EXTREMES[rng.integers(len(_EXTREMES))]]) * size
    data[start : start + size] = filler
    return data


_KINDS = (_flip_bits, _edit_header, _edit_number, _truncate, _cut_out, _repeat, _splice, _fill)
