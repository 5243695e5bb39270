"""The preprocessing config of the weights, which the build writes into the configs of models."""

from __future__ import annotations

import dataclasses
import hashlib
import json

from .resampling import INTERPOLATIONS

_LARGEST = 8192  # pixels
# Least ratio of a reduced JPEG to the resized image. A larger ratio gives pixels closer to those of the whole image; a
# smaller one makes more images cheap.
_MARGIN = 4


@dataclasses.dataclass(frozen=True)
class PreprocessConfig:
    """How to preprocess images for the weights (torchvision: ``weights.transforms()``).

    Attributes:
        resize: length of the short side after resizing, in pixels, ≥ ``crop``.
        crop: side of the square cut from the centre, in pixels.
        interpolation: ``nearest``, ``bilinear`` or ``bicubic``; always antialiased.
    """

    resize: int
    crop: int
    interpolation: str = "bilinear"

    def __post_init__(self) -> None:
        if not all(type(side) is int for side in (self.resize, self.crop)) or self.resize > _LARGEST:
            raise ValueError(f"resize and crop must be whole numbers of at most {_LARGEST} pixels")
        if self.interpolation not in INTERPOLATIONS:
            known = ", ".join(INTERPOLATIONS)
            raise ValueError(f"unknown interpolation {self.interpolation!r}; known are {known}")
        if not 1 <= self.crop <= self.resize:
            raise ValueError(f"the crop ({self.crop}) must lie between 1 and the resize ({self.resize})")

    def to_json(self) -> str:
        """Canonical JSON: sorted keys, no spaces."""
        return json.dumps(dataclasses.asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> PreprocessConfig:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: the text is not such a preprocessing config.
        """
        try:
            return cls(**json.loads(text))
        except (TypeError, RecursionError) as exc:
            raise ValueError(f"not a preprocessing config: {text!r}") from exc

    @property
    def least_side(self) -> int | None:
        """Least short side to resize from, in pixels; None if the whole image is required."""
        return None if self.interpolation == "nearest" else _MARGIN * self.resize

    @property
    def sha256(self) -> str:
        """Hex SHA-256 of :meth:`to_json`; equal hashes mean equal preprocessing."""
        return hashlib.sha256(self.to_json().encode()).hexdigest()
