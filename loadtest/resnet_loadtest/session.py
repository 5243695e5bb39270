"""The state that all users of a process share: options, images, clock and samples."""

from __future__ import annotations

import io
import itertools
import math
import random
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from locust.env import Environment
from PIL import Image, ImageOps
from resnet_client import Client, ImageError, ImageSource, ResnetClientError, ServerError, example_images
from resnet_client.images import encoded as read_image
from resnet_client.images import find as find_images

from resnet_loadtest.errors import LoadTestError
from resnet_loadtest.options import Options
from resnet_loadtest.samples import Row, Samples, Status, table
from resnet_loadtest.workloads import WORKLOADS, Workload, parse_mix, protocols, status_of

_MAX_IMAGES = 1000
_SIDE = 256
_JPEG_QUALITY = 90


class Session:
    """The part of a run in one process."""

    def __init__(self, options: Options, environment: Environment, index: int = 0) -> None:
        """Load the images.

        Args:
            options: of the run.
            environment: Locust's; its listeners are notified of each request.
            index: number of this worker, from 0.
        """
        self.options = options
        self.environment = environment
        self.index = index
        self._mix = parse_mix(options.mix)
        self._encoded = load_images(options.images)
        sends_pixels = any(WORKLOADS[name].sends_pixels for name in self._mix)
        self._decoded = [_pixels(image) for image in self._encoded] if sends_pixels else []
        self._random = random.Random(f"{options.seed}/{index}")  # noqa: S311  # chooses images; not for security
        self.in_flight = 0
        self.is_stopping = False
        self.is_recording = False
        self._zero_s = time.perf_counter()
        self._rows: list[Row] = []

    def start_clock(self, lead_s: float = 0.0) -> None:
        """Start the clock in ``lead_s`` seconds; from now on requests are recorded."""
        self._zero_s = time.perf_counter() + lead_s
        self.is_recording = True

    def now_s(self) -> float:
        """Seconds since the run began."""
        return time.perf_counter() - self._zero_s

    def choose_workload(self) -> Workload:
        """Draw a workload of the mix, by weight."""
        return WORKLOADS[self._random.choices([*self._mix], [*self._mix.values()])[0]]

    def send(self, workload: Workload, client: Client, intended_s: float | None = None) -> None:
        """Send one request, wait for its response and record both.

        Args:
            workload: what to send.
            client: the connection to use.
            intended_s: when it was due, in seconds since the run began; None for now.
        """
        pool: Sequence[ImageSource] = self._decoded if workload.sends_pixels else self._encoded
        image = self._random.choice(pool)
        self.in_flight += 1
        sent_s = self.now_s()
        try:
            error = workload.perform(client, image)
            done_s = self.now_s()
        finally:
            self.in_flight -= 1
        start_s = sent_s if intended_s is None else intended_s
        if self.is_recording:
            self._rows.append((start_s, sent_s, done_s, status_of(error)))
        self.environment.events.request.fire(  # type: ignore[no-untyped-call]  # Locust's
            request_type=workload.protocol,
            name=workload.operation,
            response_time=(done_s - start_s) * 1000,
            response_length=0,
            exception=error,
            context={},
        )

    def record_unsent(self, intended_s: float, status: Status) -> None:
        """Record a request that was due and was not sent."""
        self._rows.append((intended_s, math.nan, math.nan, status))

    def take(self) -> Samples:
        """The samples since the last call."""
        rows, self._rows = self._rows, []
        return table(rows)


def connect(options: Options, protocol: str) -> Client:
    """A client with one attempt per request, so that every failure is recorded and the counts agree."""
    return Client(options.url_for(protocol), model=options.model, timeout_s=options.timeout_s, max_attempts=1)


def check_server(options: Options) -> None:
    """Connect over every protocol of the mix, and wait for a server that starts as long as the options allow.

    Raises:
        LoadTestError: an address does not answer, or does not serve the model.
    """
    for protocol in protocols(options.mix):
        try:
            with connect(options, protocol) as client:
                if options.wait_s:
                    client.wait_until_ready(options.wait_s)
                client.metadata()
        except ResnetClientError as exc:
            is_derived = options.url_for(protocol) not in (options.url, options.grpc_url, options.http_url)
            remedies = [f"this address was derived from {options.url}, set --{protocol}-url"] if is_derived else []
            if isinstance(exc, ServerError) and not options.wait_s:
                remedies.append("if the server is starting, set --wait-s")
            raise LoadTestError("; ".join([str(exc), *remedies])) from exc


def load_images(folder: Path | None) -> list[bytes]:
    """Read the images of a folder and its subfolders, or else those of installed packages, as JPEG.

    Raises:
        LoadTestError: there are none, or one cannot be read.
    """
    try:
        if folder is None:
            encoded = [_as_jpeg(path.read_bytes()) for path in example_images.everyday()]
        else:
            encoded = [read_image(path) for path in itertools.islice(find_images(folder), _MAX_IMAGES)]
    except ImageError as exc:
        raise LoadTestError(f"an image of --images {folder} cannot be read: {exc}") from exc
    if not encoded:
        where = f"in {folder}" if folder else f"installed ({example_images.INSTALL})"
        raise LoadTestError(f"there are no images {where}; set --images to a folder with images")
    return encoded


def _as_jpeg(encoded: bytes) -> bytes:
    """Re-encode as JPEG, like the images of cameras; PNGs decode several times slower."""
    with Image.open(io.BytesIO(encoded)) as image:
        if image.format == "JPEG":
            return encoded
        buffer = io.BytesIO()
        image.convert("RGB").save(buffer, "JPEG", quality=_JPEG_QUALITY)
        return buffer.getvalue()


def _pixels(encoded: bytes) -> npt.NDArray[np.uint8]:
    """Decode an image; uint8, shape (height, width, 3), RGB, its short side 256 pixels long."""
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(ImageOps.cover(image.convert("RGB"), (_SIDE, _SIDE)))
