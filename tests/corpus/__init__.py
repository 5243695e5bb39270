"""Odd and hostile images, made here byte by byte or by Pillow."""

from __future__ import annotations

from typing import NamedTuple

from PIL import Image


class Case(NamedTuple):
    """One input.

    Attributes:
        name: what is odd about it; a file name.
        data: the file.
        seen: the image that a person sees in it; None if it must be refused.
        cause: what the refusal's message holds, a regular expression.
        tolerance: mean difference of its pixels, of 255, from those of ``seen``; above 2 where the file is lossy.
    """

    name: str
    data: bytes
    seen: Image.Image | None = None
    cause: str = ""
    tolerance: float = 2.0
