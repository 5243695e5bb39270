"""Triton's Python model `preprocess_check`: checks encoded images before DALI gets them.

In DALI's backend an invalid image fails all requests of its batch, and the queue has no limit. So this model refuses
the same images as `preprocess`, request by request, with the same messages. It forwards upright RGB JPEGs without their
metadata. It decodes all other images and forwards them as BMP, so that the pixels are those of `preprocess`.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import preprocessing
import triton_python_backend_utils as pb_utils
from admission import Admission

_IMAGE = "IMAGE"
_ENCODED = "ENCODED"
# The client distinguishes errors by these prefixes; as in resnet_client/error_mapping.py.
IMAGE_PREFIX, OVERLOAD_PREFIX = "[image] ", "[overload] "
_REASONS = ("overload", "image")
_UPRIGHT = 1
_END_OF_JPEG = b"\xff\xd9"


class TritonPythonModel:
    """Admits images within the limits that the build wrote into the model's configuration."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the limits; Triton calls this once per instance, before any request."""
        config = json.loads(args["model_config"])
        parameters = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        self._limits = preprocessing.Limits.from_parameters(parameters)
        self._admission = Admission.from_parameters(parameters, config["instance_group"][0]["count"])
        # Kept, because its counters end with it. The family is that of `preprocess`, which dashboard and alerts use.
        self._family = pb_utils.MetricFamily(
            name="resnet_refused_images_total",
            description="Refused images, by reason: overload, or image (an invalid image)",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        labels = {"model": "preprocess_check"}
        self._refused = {reason: self._family.Metric(labels=labels | {"reason": reason}) for reason in _REASONS}
        # Pillow warns about unusual files: any client could fill the server's log with these warnings.
        warnings.simplefilter("ignore")
        logging.getLogger("PIL").setLevel(logging.CRITICAL)
        self._pool = ThreadPoolExecutor(max_workers=preprocessing.available_cpus())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with UINT8 of shape (N, longest image), padded with zeros, or with its own error."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Release threads and connection; Triton calls this when it unloads the model."""
        self._pool.shutdown()
        self._admission.close()

    def _answer(self, request: Any) -> Any:
        try:
            images = pb_utils.get_input_tensor_by_name(request, _IMAGE).as_numpy().reshape(-1)
        except Exception as exc:  # noqa: BLE001  # wrong lengths inside the tensor raise many kinds
            message = f"{IMAGE_PREFIX}the image cannot be read from the request: {exc}"
            return _error(message, pb_utils.TritonError.INVALID_ARG)
        if (why := self._admission.refusal(len(images), request.timeout() / 1e6)) is not None:
            self._refused["overload"].increment(len(images))
            return _error(OVERLOAD_PREFIX + why, pb_utils.TritonError.UNAVAILABLE)
        try:
            ready = list(self._pool.map(lambda one: fit_for_dali(one, self._limits), images))
        except preprocessing.InvalidImageError as exc:
            self._refused["image"].increment(1)
            return _error(f"{IMAGE_PREFIX}{exc}", pb_utils.TritonError.INVALID_ARG)
        except Exception as exc:  # noqa: BLE001  # an unexpected error must not end the worker
            return _error(f"preprocessing failed: {exc!r}", pb_utils.TritonError.INTERNAL)
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(_ENCODED, _padded(ready))])


def fit_for_dali(encoded: bytes, limits: preprocessing.Limits) -> bytes:
    """Return a JPEG or BMP that DALI decodes to the pixels of `preprocess`.

    Raises:
        InvalidImageError: empty, not an image, damaged, truncated, or above a limit.
    """
    with preprocessing.opened(encoded, limits) as (image, checked):
        is_plain = checked.format == "JPEG" and image.mode == "RGB" and checked.data.endswith(_END_OF_JPEG)
        if is_plain and preprocessing.orientation(image) == _UPRIGHT:
            return checked.data
    buffer = io.BytesIO()
    preprocessing.decode(encoded, limits).save(buffer, "BMP")
    return buffer.getvalue()


def _padded(images: list[bytes]) -> npt.NDArray[np.uint8]:
    """Return one row per image, padded with zeros; decoders stop at the end of an image."""
    rows = np.zeros((len(images), max(map(len, images))), dtype=np.uint8)
    for row, encoded in zip(rows, images, strict=True):
        row[: len(encoded)] = np.frombuffer(encoded, dtype=np.uint8)
    return rows


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
