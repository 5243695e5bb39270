"""Limits of one image, and of all images that are decoded at the same time."""

from __future__ import annotations

import contextlib
import dataclasses
import threading
from collections.abc import Iterator, Mapping

_PREFIX = "max_image_"


class InvalidImageError(ValueError):
    """The bytes are not an image that can be classified; the message names the cause."""


@dataclasses.dataclass(frozen=True)
class Limits:
    """How large an image may be; the build writes it into the models' configurations.

    With the defaults, the most expensive image, a WebP of noise, takes 0.85 GiB and 5 s on one core.

    Attributes:
        max_bytes: of the encoded image; 32 MiB.
        max_pixels: width times height; 48 Mi, so that images of 50 megapixels pass.
        max_frames: of an animation, or pages of a TIFF; only the first is decoded.
    """

    max_bytes: int = 33_554_432
    max_pixels: int = 50_331_648
    max_frames: int = 1_000

    def __post_init__(self) -> None:
        for name, value in dataclasses.asdict(self).items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}")

    def to_parameters(self) -> dict[str, str]:
        """Write the limits as ``parameters`` of a model's configuration, such as ``max_image_bytes``."""
        return {name.replace("max_", _PREFIX): str(value) for name, value in dataclasses.asdict(self).items()}

    @classmethod
    def from_parameters(cls, parameters: Mapping[str, str]) -> Limits:
        """Read what :meth:`to_parameters` wrote; missing limits have their default.

        Raises:
            ValueError: a limit is not a positive number.
        """
        names = {field.name: field.name.replace("max_", _PREFIX) for field in dataclasses.fields(cls)}
        return cls(**{name: int(parameters[key]) for name, key in names.items() if key in parameters})

    def check_bytes(self, count: int) -> None:
        """Refuse a file that is empty or too long.

        Raises:
            InvalidImageError: the limit is exceeded.
        """
        if not count:
            raise InvalidImageError("the image is empty (0 bytes)")
        self._check("bytes", str(count), count, self.max_bytes)

    def check_pixels(self, width: int, height: int) -> None:
        """Refuse an image that is too large.

        Raises:
            InvalidImageError: the limit is exceeded.
        """
        self._check("pixels", f"{width}x{height} = {width * height}", width * height, self.max_pixels)

    def check_frames(self, count: int) -> None:
        """Refuse an animation that is too long.

        Raises:
            InvalidImageError: the limit is exceeded.
        """
        self._check("frames", str(count), count, self.max_frames)

    @staticmethod
    def _check(unit: str, found: str, count: int, most: int) -> None:
        if count > most:
            raise InvalidImageError(
                f"the image has {found} {unit}, more than the {most} allowed; send a smaller one, or ask the server's "
                f"operator to raise --max-image-{unit} of resnet-build"
            )


class Room:
    """A limit on the pixels in memory; images wait, in order, until there is room for them.

    All threads that decode together hold at most as many pixels as the largest allowed image.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Reset in a child process, which has no copies of the threads that hold room or wait for it."""
        self._taken = 0
        self._changed = threading.Condition()
        # Only the first in line waits for room, so that small images do not overtake a large one forever.
        self._first_in_line = threading.Lock()

    @contextlib.contextmanager
    def take(self, pixels: int, limits: Limits) -> Iterator[None]:
        """Hold room for an image's pixels during the block."""
        with self._first_in_line, self._changed:
            self._changed.wait_for(lambda: self._taken == 0 or self._taken + pixels <= limits.max_pixels)
            self._taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self._taken -= pixels
                self._changed.notify_all()
