"""What every method does, step by step, without doing any of it: no I/O happens here.

A flow is a generator. It yields steps (``_steps.py``: work to do here, a request to send, a pause), is sent
their results, has their errors thrown into it, and returns the method's result. :class:`Client` performs the steps
blocking, :class:`AsyncClient` awaits them; everything else they share.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from typing import TYPE_CHECKING, Any, TypeVar

from resnet_client import _images, _photo, _requests, _tracing
from resnet_client._config import check_model, check_model_version, check_preprocessing, check_timeout
from resnet_client._deadline import Deadline
from resnet_client._delivery import Delivery
from resnet_client._exceptions import (
    ClosedError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidImageError,
    ModelNotFoundError,
    ResnetClientError,
    ServerError,
)
from resnet_client._requests import Call, Inference
from resnet_client._results import Health, Outcome, added_up
from resnet_client._steps import Pause, Work

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from resnet_client._config import ClientConfig
    from resnet_client._images import ImageSource
    from resnet_client._results import Classification, ModelStatistics
    from resnet_client._steps import Flow

T = TypeVar("T")

BACKBONE = "resnet50_backbone"

_POLL_INTERVAL_S = 0.2
_POLL_TIMEOUT_S = 5.0


@dataclasses.dataclass(frozen=True)
class Target:
    """Which model gets a call, who preprocesses, and how long it may take."""

    model: str
    model_version: str
    preprocessing: str
    timeout_s: float


@dataclasses.dataclass(frozen=True)
class _PixelDoor:
    """Where pixels go, the recipe that the network behind it wants, and what is refused."""

    model: str
    model_version: str
    recipe: _photo.Recipe
    limits: _photo.Limits


class Flows:
    """The flows of one client; holds its options and what it has learnt about the served models."""

    def __init__(self, config: ClientConfig) -> None:
        self._config = config
        self.delivery = Delivery(config)
        self._pixel_doors: dict[tuple[str, str], _PixelDoor] = {}

    def target(
        self,
        model: str | None = None,
        model_version: str | None = None,
        preprocessing: str | None = None,
        timeout_s: float | None = None,
    ) -> Target:
        """Fill what a call left open from the client's options, and check it.

        A call that names its own model does not inherit the version meant for the client's.
        """
        check_model_version(model_version)
        inherited = self._config.model_version if model is None else None
        version = inherited if model_version is None else model_version
        target = Target(
            model=self._config.model if model is None else model,
            model_version="" if version is None else str(version),
            preprocessing=preprocessing or self._config.preprocessing,
            timeout_s=self._config.timeout_s if timeout_s is None else timeout_s,
        )
        check_model(target.model)
        check_preprocessing(target.preprocessing)
        check_timeout(target.timeout_s)
        return target

    def classify(self, image: ImageSource, target: Target, top_k: int) -> Flow[Classification]:
        """Photo → the most probable classes."""
        with _tracing.call("classify", target.model, self._config.url) as span:
            answer = yield from self._infer(image, target, _requests.PROBABILITIES, top_k, span)
            return _requests.read_classification(answer)

    def embed(self, image: ImageSource, target: Target) -> Flow[npt.NDArray[np.float32]]:
        """Photo → feature vector."""
        with _tracing.call("embed", target.model, self._config.url) as span:
            answer = yield from self._infer(image, target, _requests.FEATURES, 0, span)
            return _requests.read_features(answer)

    def feature_maps(self, image: ImageSource, target: Target) -> Flow[dict[str, npt.NDArray[np.floating[Any]]]]:
        """Photo → the maps of the backbone."""
        with _tracing.call("feature_maps", target.model, self._config.url) as span:
            answer = yield from self._infer(image, target, _requests.MAPS, 0, span)
            return _requests.read_maps(answer)

    def wait_until_ready(self, target: Target) -> Flow[None]:
        """Ask for health until it is good."""
        deadline = Deadline(target.timeout_s)
        last: ServerError | None = None
        while True:
            health = yield from self._health(target, deadline)
            if health.ok:
                return
            if last is None or not isinstance(health.error, DeadlineExceededError):
                last = health.error
            if deadline.left_s <= _POLL_INTERVAL_S:
                raise DeadlineExceededError(
                    f"{self._config.url} was not ready within {target.timeout_s:g} s: {last}"
                ) from last
            yield Pause(_POLL_INTERVAL_S)

    def health(self, target: Target) -> Flow[Health]:
        """Flags, then one real answer."""
        return (yield from self._health(target, Deadline(target.timeout_s)))

    def metadata(self, target: Target) -> Flow[dict[str, Any]]:
        """Server, model and config."""
        deadline = Deadline(target.timeout_s)
        model = {"model_name": target.model, "model_version": target.model_version}
        server = yield from self.delivery.send(Call("get_server_metadata"), deadline)
        described = yield from self.delivery.send(Call("get_model_metadata", model), deadline)
        config = yield from self.delivery.send(Call("get_model_config", model), deadline)
        return _requests.read_metadata(server, described, config)

    def statistics(self, model: str | None, timeout_s: float) -> Flow[tuple[ModelStatistics, ...]]:
        """Counts of one model, or of all, added up over all servers."""
        if model:
            check_model(model)
        call, deadline = Call("get_inference_statistics", {"model_name": model or ""}), Deadline(timeout_s)
        counts: list[ModelStatistics] = []
        for server in (yield from self.delivery.servers(deadline)):
            answer = yield from self.delivery.send(call, deadline, only=server)
            counts += _requests.read_statistics(answer)
        return added_up(counts)

    def _health(self, target: Target, deadline: Deadline) -> Flow[Health]:
        model = {"model_name": target.model, "model_version": target.model_version}
        calls = {
            "server_live": Call("is_server_live"),
            "server_ready": Call("is_server_ready"),
            "model_ready": Call("is_model_ready", model),
        }
        found: dict[str, Any] = {}
        try:
            server = yield from self.delivery.pick(_short(deadline))
            for name, call in calls.items():
                found[name] = yield from self.delivery.once(server, call, _short(deadline))
            if not found["model_ready"]:
                raise ModelNotFoundError(f"{server.endpoint}: {target.model} is not served, or not ready yet")
            door = yield from self._door(_images.golden(), target, deadline)
            answer = yield from self.delivery.once(server, self._inference(door, _requests.PROBABILITIES, 1), deadline)
            found["answer"] = _requests.read_classification(answer)
        except ServerError as exc:
            found["error"] = exc
        return Health(**found)

    def _infer(
        self, image: ImageSource, target: Target, output_name: str, class_count: int, span: _tracing.Span
    ) -> Flow[_requests.Answer]:
        deadline = Deadline(target.timeout_s)
        door = yield from self._door(image, target, deadline)
        inference = self._inference(door, output_name, class_count, span)
        try:
            answer: _requests.Answer = yield from self.delivery.send(inference, deadline)
        except InvalidImageError as exc:  # the server knows no file names
            source = _images.describe(image)
            raise InvalidImageError(_images.naming(image, str(exc)), source=source) from exc.__cause__
        return answer

    def _inference(
        self,
        door: tuple[str, str, bytes | npt.NDArray[np.uint8]],
        output_name: str,
        class_count: int,
        span: _tracing.Span = _tracing.SILENT,
    ) -> Inference:
        model, model_version, photo = door
        input_name, tensor = _requests.input_of(photo)
        return Inference(model, model_version, input_name, tensor, output_name, class_count, span=span)

    def _door(
        self, image: ImageSource, target: Target, deadline: Deadline
    ) -> Flow[tuple[str, str, bytes | npt.NDArray[np.uint8]]]:
        """Model, version and photo as they will be sent."""
        if target.preprocessing == "server":
            if target.model.startswith("network_"):
                raise ConfigurationError(
                    f"{target.model} takes pixels, not photos: use preprocessing='client', or a model that "
                    "preprocesses, such as 'resnet50'"
                )
            photo = image if isinstance(image, bytes) else (yield Work(functools.partial(_images.encoded, image)))
            return target.model, target.model_version, photo
        pixel_door = yield from self._pixel_door(target, deadline)
        cropped = yield Work(functools.partial(_images.pixels, image, pixel_door.recipe, pixel_door.limits))
        return pixel_door.model, pixel_door.model_version, cropped

    def _pixel_door(self, target: Target, deadline: Deadline) -> Flow[_PixelDoor]:
        key = target.model, target.model_version
        if key not in self._pixel_doors:
            call = Call("get_model_config", {"model_name": target.model, "model_version": target.model_version})
            config = yield from self.delivery.send(call, deadline)
            self._pixel_doors[key] = _read_pixel_door(config, target)
        return self._pixel_doors[key]


def _short(deadline: Deadline) -> Deadline:
    """For a question that a healthy server answers at once."""
    return Deadline(min(_POLL_TIMEOUT_S, deadline.remaining_s()))


def one_of_many(source: ImageSource, flow: Flow[T]) -> Flow[Outcome[T]]:
    """The same flow, but what fails becomes an outcome; only a closed client ends the run."""
    started = Deadline(0)
    try:
        result = yield from flow
    except ClosedError:
        raise
    except ResnetClientError as exc:
        return Outcome(source, error=exc, duration_s=-started.left_s)
    return Outcome(source, result=result, duration_s=-started.left_s)


@_requests.readable("a config")
def _read_pixel_door(config: dict[str, Any], target: Target) -> _PixelDoor:
    parameters = _requests.parameters_of(config)
    try:
        recipe = _photo.Recipe.from_json(parameters["recipe"])
    except (KeyError, ValueError, json.JSONDecodeError) as exc:
        raise ConfigurationError(
            f"the config of {target.model} holds no preprocessing recipe ({exc}); use preprocessing='server'"
        ) from exc
    if parameters.get("recipe_sha256") != recipe.sha256:
        raise ConfigurationError(
            f"the recipe in the config of {target.model} does not have the hash written beside it; use "
            "preprocessing='server', and build the model repository again"
        )
    try:
        limits = _photo.Limits.from_parameters(parameters)
    except ValueError as exc:
        raise ConfigurationError(
            f"the limits on photos in the config of {target.model} are no numbers ({exc}); use preprocessing='server'"
        ) from exc
    for step in config.get("ensemble_scheduling", {}).get("step", []):
        if _requests.PIXELS in step.get("input_map", {}):
            version = int(step.get("model_version", -1))
            return _PixelDoor(step["model_name"], str(version) if version > 0 else "", recipe, limits)
    return _PixelDoor(target.model, target.model_version, recipe, limits)
