"""Triton's Python model `preprocess_check`: the door before DALI. Encoded photos in, encoded photos out.

In DALI's backend one bad photo fails all requests of its batch, and a queue has no end. So whatever the model
`preprocess` refuses is refused here, request by request, and in the same words. JPEGs go on as they are, without
metadata; every other photo, and every JPEG that has to be turned or has other colours, is decoded here and goes on as
BMP, so that the pixels are those of `preprocess` whatever the format.
"""

from __future__ import annotations

import io
import json
import logging
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import photo
import triton_python_backend_utils as pb_utils
from backlog import Backlog
from photo import containers
from PIL import Image

_IMAGE = "IMAGE"
_ENCODED = "ENCODED"
_REASONS = ("overload", "photo")
_UPRIGHT = 1
_END_OF_JPEG = b"\xff\xd9"


class TritonPythonModel:
    """Admits photos within the limits that the build wrote into the model's configuration."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the limits; Triton calls this once per instance, before any request."""
        config = json.loads(args["model_config"])
        parameters = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        self._limits = photo.Limits.from_parameters(parameters)
        self._backlog = Backlog.from_parameters(parameters, config["instance_group"][0]["count"])
        # Held, because its counters end with it. The family is that of `preprocess`, which dashboard and alerts know.
        self._family = pb_utils.MetricFamily(
            name="resnet_refused_photos_total",
            description="Photos that were not classified, by reason: overload, or the photo itself",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        labels = {"model": "preprocess_check"}
        self._refused = {reason: self._family.Metric(labels=labels | {"reason": reason}) for reason in _REASONS}
        # Pillow warns of oddities in files: strangers could fill the server's log with them.
        warnings.simplefilter("ignore")
        logging.getLogger("PIL").setLevel(logging.CRITICAL)
        self._pool = ThreadPoolExecutor(max_workers=len(os.sched_getaffinity(0)))

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with UINT8 of shape (N, longest photo), padded with zeros, or with its own error."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Let threads and connection go; Triton calls this when it unloads the model."""
        self._pool.shutdown()
        self._backlog.close()

    def _answer(self, request: Any) -> Any:
        try:
            photos = pb_utils.get_input_tensor_by_name(request, _IMAGE).as_numpy().reshape(-1)
        except Exception as exc:  # noqa: BLE001  # lengths inside the tensor that lie
            return _error(f"the photo cannot be read from the request: {exc}", pb_utils.TritonError.INVALID_ARG)
        if (why := self._backlog.refusal(len(photos), request.timeout() / 1e6)) is not None:
            self._refused["overload"].increment(len(photos))
            return _error(why, pb_utils.TritonError.UNAVAILABLE)
        try:
            ready = list(self._pool.map(lambda one: fit_for_dali(one, self._limits), photos))
        except photo.PhotoError as exc:
            self._refused["photo"].increment(1)
            return _error(str(exc), pb_utils.TritonError.INVALID_ARG)
        except Exception as exc:  # noqa: BLE001  # a defect of ours must not end the worker
            return _error(f"preprocessing failed: {exc!r}", pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(_ENCODED, _padded(ready))])


def fit_for_dali(encoded: bytes, limits: photo.Limits) -> bytes:
    """Return a JPEG or BMP that DALI decodes to the pixels of `preprocess`.

    Raises:
        PhotoError: empty, not a photo, damaged, truncated, or above a limit.
    """
    limits.check_bytes(len(encoded))
    picture = containers.read(encoded, limits)
    if picture.format == "JPEG" and picture.orientation == _UPRIGHT and picture.data.endswith(_END_OF_JPEG):
        with Image.open(io.BytesIO(picture.data), formats=("JPEG",)) as image:
            limits.check_pixels(*image.size)
            if image.mode == "RGB":
                return picture.data
    buffer = io.BytesIO()
    photo.decode(encoded, limits).save(buffer, "BMP")
    return buffer.getvalue()


def _padded(photos: list[bytes]) -> npt.NDArray[np.uint8]:
    """One row for each photo; decoders stop where a photo ends."""
    rows = np.zeros((len(photos), max(map(len, photos))), dtype=np.uint8)
    for row, encoded in zip(rows, photos, strict=True):
        row[: len(encoded)] = np.frombuffer(encoded, dtype=np.uint8)
    return rows


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
