"""Triton's Python model `preprocess`: encoded images in, preprocessed pixels out.

A call has M requests with N images each. A thread pool decodes the images of all requests in parallel, because Pillow
releases the interpreter lock while it decodes and resizes. A single image is decoded in the calling thread. An invalid
image fails only its own request, with INVALID_ARG. Under overload, a request is refused with UNAVAILABLE before its
images are decoded.
"""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import preprocessing
import triton_python_backend_utils as pb_utils
from admission import Admission
from allocator import keep_memory

_IMAGE = "IMAGE"
# The client distinguishes errors by these prefixes; as in resnet_client/error_mapping.py.
IMAGE_PREFIX, OVERLOAD_PREFIX = "[image] ", "[overload] "


class TritonPythonModel:
    """Applies the preprocessing config and the limits that the build wrote into the model config.

    The model `preprocess_check` derives from it, with another output.
    """

    output = "PIXELS__0"
    labels: ClassVar[dict[str, str]] = {}  # of the counters

    def initialize(self, args: dict[str, str]) -> None:
        """Read the preprocessing config and the limits; Triton calls this once per instance, before any request."""
        keep_memory()
        config = json.loads(args["model_config"])
        parameters = {name: entry["string_value"] for name, entry in config["parameters"].items()}
        self._preprocess_config = preprocessing.PreprocessConfig.from_json(parameters["preprocessing"])
        if self._preprocess_config.sha256 != parameters["preprocessing_sha256"]:
            raise pb_utils.TritonModelException(
                "the preprocessing config does not match its hash: run resnet-build again"
            )
        self._limits = preprocessing.Limits.from_parameters(parameters)
        self._admission = Admission(parameters, config["instance_group"][0]["count"])
        # Kept, because its counters end with it.
        self._family = pb_utils.MetricFamily(
            name="resnet_refused_images_total",
            description="Refused images, by reason: overload, or image (an invalid image)",
            kind=pb_utils.MetricFamily.COUNTER,
        )
        self._refused = {
            reason: self._family.Metric(labels={**self.labels, "reason": reason}) for reason in ("overload", "image")
        }
        # Pillow warns about unusual files: any client could fill the server's log with these warnings.
        warnings.simplefilter("ignore")
        logging.getLogger("PIL").setLevel(logging.CRITICAL)
        self._pool = ThreadPoolExecutor(max_workers=preprocessing.available_cpus())

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request with UINT8 pixels of shape (N, crop, crop, 3), or with its own error."""
        # First start all images, then wait for them.
        pending = [self._start(request, is_alone=len(requests) == 1) for request in requests]
        return [self._answer(images) if isinstance(images, list) else images for images in pending]

    def prepared(self, encoded: bytes, images: int) -> npt.NDArray[np.uint8]:  # noqa: ARG002  # a subclass needs it
        """Prepare one of a request's images; threads of the pool call this.

        Raises:
            InvalidImageError: the image cannot be used.
        """
        return preprocessing.prepare(encoded, self._preprocess_config, self._limits)

    def batch(self, rows: list[npt.NDArray[np.uint8]]) -> npt.NDArray[np.uint8]:
        """Combine the prepared images of a request to the output."""
        return np.stack(rows)

    def finalize(self) -> None:
        """Release threads and connection; Triton calls this when it unloads the model."""
        self._pool.shutdown()
        self._admission.close()

    def _start(self, request: Any, *, is_alone: bool) -> Any:
        """Start the request's images, of any batch shape, or return the response that refuses them."""
        try:
            encoded = pb_utils.get_input_tensor_by_name(request, _IMAGE).as_numpy().reshape(-1)
        except Exception as exc:  # noqa: BLE001  # wrong lengths inside the tensor raise many kinds
            return self._invalid(f"the image cannot be read from the request: {exc}")
        if (why := self._admission.refusal(len(encoded), request.timeout() / 1e6)) is not None:
            self._refused["overload"].increment(len(encoded))
            return _error(OVERLOAD_PREFIX + why, pb_utils.TritonError.UNAVAILABLE)
        submit = _at_once if is_alone and len(encoded) == 1 else self._pool.submit
        return [submit(self.prepared, one, len(encoded)) for one in encoded]

    def _answer(self, images: list[Future[npt.NDArray[np.uint8]]]) -> Any:
        rows: list[npt.NDArray[np.uint8]] = []
        try:
            for pending in images:
                rows.append(pending.result())  # noqa: PERF401  # the number of rows tells which image has failed
        except preprocessing.InvalidImageError as exc:
            return self._invalid(f"image {len(rows)} of {len(images)}: {exc}" if len(images) > 1 else str(exc))
        except Exception as exc:  # noqa: BLE001  # an unexpected error must not end the worker
            return _error(f"preprocessing failed: {exc!r}", pb_utils.TritonError.INTERNAL)
        finally:
            for pending in images:  # if the request has failed, images that have not started are not needed
                pending.cancel()
        return pb_utils.InferenceResponse(output_tensors=[pb_utils.Tensor(self.output, self.batch(rows))])

    def _invalid(self, message: str) -> Any:
        self._refused["image"].increment(1)
        return _error(IMAGE_PREFIX + message, pb_utils.TritonError.INVALID_ARG)


def _at_once(prepare: Callable[..., npt.NDArray[np.uint8]], *arguments: Any) -> Future[npt.NDArray[np.uint8]]:
    """Like a pool's ``submit``, but in the calling thread, which saves waking up another one."""
    done: Future[npt.NDArray[np.uint8]] = Future()
    try:
        done.set_result(prepare(*arguments))
    except Exception as exc:  # noqa: BLE001  # the future raises it
        done.set_exception(exc)
    return done


def _error(message: str, code: int) -> Any:
    return pb_utils.InferenceResponse(output_tensors=[], error=pb_utils.TritonError(message, code))
