"""Looks at a server once, through two doors: as a stranger, and with the admin token where there is one.

The two doors and the metrics page are functions passed in, so no I/O happens here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from resnet_client import _photo
from resnet_client import images as _images
from resnet_client import requests as _requests
from resnet_client._doctor import _reading
from resnet_client._doctor._snapshot import LargeRequest, Metrics, Model, Probe, Snapshot, Trial
from resnet_client.endpoints import Endpoint
from resnet_client.errors import (
    ModelNotFoundError,
    RequestError,
    ResnetClientError,
)
from resnet_client.requests import Call, Inference, Request

Ask: TypeAlias = Callable[[Request], Any]
"""Sends a request and returns what came back; raises :class:`ResnetClientError`."""

# Interface → a harmless question that only it answers.
_QUESTIONS = {
    "model-repository": Call("get_model_repository_index"),
    "shared-memory": Call("get_system_shared_memory_status"),
    "trace": Call("get_trace_settings"),
    "logging": Call("get_log_settings"),
    "statistics": Call("get_inference_statistics", {"model_name": ""}),
}
_RESTRICTED = "is restricted, expecting header"
# Above the 1 MB that nginx allows by default and gRPC's 4 MB, below what phones take.
_LARGE_BYTES = 8 * 2**20
_FEW_ROWS = 2  # show whether a batch works at all


@dataclasses.dataclass(frozen=True)
class Place:
    """Where and as whom to look.

    Attributes:
        endpoint: the server.
        model: the one that clients ask by default.
        stranger: asks without a token.
        admin: asks with the token; the same as ``stranger`` where none was given.
        has_token: whether one was given.
        metrics_url: the metrics endpoint; empty if it is not to be looked at.
        fetch: reads that page; raises OSError.
        cores: CPU cores of the server's machine; None if unknown.
    """

    endpoint: Endpoint
    model: str
    stranger: Ask
    admin: Ask
    has_token: bool
    metrics_url: str
    fetch: Callable[[str], str]
    cores: int | None = None


def collect(place: Place) -> Snapshot:
    """Look at everything that can be seen.

    Sends one test picture to each model that takes photos, two more, and one full batch to the default model, which
    may take pixels instead.

    Raises:
        UnavailableError: nobody answers there.
        DeadlineExceededError: nobody answers in time.
    """
    return _Look(place).snapshot()


class _Look:
    """One look; notes why something was not seen."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._unseen: dict[str, str] = {"cores": "the cores of its machine are not known; tell them with --cores"}

    def snapshot(self) -> Snapshot:
        """Ask for one thing after the other."""
        place = self._place
        is_ready = bool(place.stranger(Call("is_server_ready")))  # the first question: an unreachable server ends here
        server = self._admin("version", Call("get_server_metadata"))
        index = self._admin("unloaded", _QUESTIONS["model-repository"])
        statistics = self._admin("statistics", _QUESTIONS["statistics"])
        metrics = self._metrics()
        counts = None if statistics is None else _requests.read_statistics(statistics)
        known = _reading.read_served(index) | (metrics.models if metrics else set())
        models = self._models(known | {entry.model for entry in counts or ()})
        trials = None if models is None else {m.name: self._try(m) for m in models.values() if self._is_tried(m)}
        return Snapshot(
            endpoint=place.endpoint,
            model=place.model,
            is_ready=is_ready,
            version=None if server is None else str(server.get("version", "")),
            models=models,
            trials=trials,
            large_request=self._large(trials or {}, models or {}),
            statistics=counts,
            unloaded=None if index is None else _reading.read_unloaded(index),
            open_apis=self._open_apis(),
            token_refused=place.has_token and index is None and _RESTRICTED in self._unseen["unloaded"],
            metrics=metrics,
            metrics_url=place.metrics_url,
            cores=place.cores,
            unseen=self._unseen,
        )

    def _admin(self, attribute: str, request: Request) -> Any:
        """Ask with the token; None, and a note, if that is refused."""
        try:
            return self._place.admin(request)
        except ResnetClientError as exc:
            self._unseen[attribute] = self._reason(exc)
            return None

    def _reason(self, error: ResnetClientError) -> str:
        if _RESTRICTED in str(error) and not self._place.has_token:
            return "closed to strangers; give the server's token with --admin-token"
        return str(error)

    def _open_apis(self) -> dict[str, bool] | None:
        """What answers without a token; None, and a note, if one is neither open nor refused."""
        found = {}
        for api, question in _QUESTIONS.items():
            answer = self._probed(question)
            if isinstance(answer, ResnetClientError) and not isinstance(answer, RequestError | ModelNotFoundError):
                self._unseen["open_apis"] = str(answer)
                return None
            found[api] = not isinstance(answer, ResnetClientError)
        return found

    def _metrics(self) -> Metrics | None:
        if not self._place.metrics_url:
            self._unseen["metrics"] = "not looked at, as asked"
            return None
        try:
            return _reading.read_metrics(self._place.fetch(self._place.metrics_url))
        except OSError as exc:
            self._unseen["metrics"] = f"the metrics cannot be read: {exc}"
            return None

    def _models(self, known: set[str]) -> dict[str, Model] | None:
        """The default model, all others that were heard of, and all their steps."""
        found: dict[str, Model] = {}
        waiting, seen = [self._place.model, *sorted(known)], set[str]()
        while waiting:
            name = waiting.pop(0)
            if name in seen:
                continue
            seen.add(name)
            try:
                found[name] = self._model(name)
            except ModelNotFoundError:
                continue
            except ResnetClientError as exc:
                self._unseen["models"] = self._unseen["trials"] = self._reason(exc)
                return None
            waiting += found[name].steps
        return found

    def _model(self, name: str) -> Model:
        metadata = self._place.admin(Call("get_model_metadata", {"model_name": name}))
        config = self._place.admin(Call("get_model_config", {"model_name": name}))
        return _reading.read_model(config, metadata.get("versions", []))

    def _is_tried(self, model: Model) -> bool:
        return _takes_photos(model) or (model.name == self._place.model and _takes_pixels(model))

    def _try(self, model: Model) -> Trial:
        is_own = model.name == self._place.model
        rows = model.max_batch_size if is_own else min(_FEW_ROWS, model.max_batch_size)
        flag = self._probed(Call("is_model_ready", {"model_name": model.name}))
        single = self._classified(model, 1, _classes(model))
        batch = self._classified(model, rows, 1) if rows > 1 and not isinstance(single, Exception) else None
        return Trial(flag is True, single, rows, batch)

    def _classified(self, model: Model, rows: int, class_count: int) -> Probe:
        name, picture = _picture(model)
        return _read(self._probed(_question(model.name, name, np.repeat(picture, rows, axis=0), class_count)))

    def _large(self, trials: Mapping[str, Trial], models: Mapping[str, Model]) -> LargeRequest | None:
        """One test picture with bytes behind its end that say nothing."""
        model = models.get(self._place.model)
        if model is not None and not _takes_photos(model):
            what = "takes pixels, not photos" if _takes_pixels(model) else "does not classify photos"
            self._unseen["large_request"] = f"{model.name} {what}; name a model that does with --model"
            return None
        trial = trials.get(self._place.model)
        if trial is None or isinstance(trial.single, Exception):
            self._unseen["large_request"] = f"{self._place.model} does not answer a small photo"
            return None
        size = min([_LARGE_BYTES, *_byte_limits(models)])
        photo = _images.golden().ljust(size, b"\0")
        found = self._probed(_question(self._place.model, *_requests.input_of(photo), 1))
        return LargeRequest(len(photo), found if isinstance(found, ResnetClientError) else None)

    def _probed(self, request: Request) -> Any:
        try:
            return self._place.stranger(request)
        except ResnetClientError as exc:
            return exc


def _question(model: str, input_name: str, tensor: npt.NDArray[Any], class_count: int) -> Inference:
    return Inference(model, "", input_name, tensor, _requests.PROBABILITIES, class_count)


def _picture(model: Model) -> tuple[str, npt.NDArray[Any]]:
    """Name and tensor of the test picture, as a photo, or as the pixels that the model takes."""
    photo = _images.golden()
    if _takes_photos(model):
        return _requests.input_of(photo)
    side = _side(model)
    return _requests.input_of(_images.pixels(photo, _photo.Recipe(resize=side, crop=side)))


def _read(found: Any) -> Probe:
    if isinstance(found, ResnetClientError):
        return found
    try:
        return _reading.read_answer(found)
    except (ValueError, IndexError, AttributeError) as exc:
        return ResnetClientError(f"it answers no 'value:index:label' strings: {exc}")


def _takes_photos(model: Model) -> bool:
    return _classifies(model) and any(tensor.name == _requests.IMAGE for tensor in model.inputs)


def _takes_pixels(model: Model) -> bool:
    return _classifies(model) and _side(model) > 0


def _side(model: Model) -> int:
    """Height and width of the pixels that it takes; 0 if it takes none such as the client sends."""
    for tensor in model.inputs:
        match tensor.name, tensor.type, tensor.dims:
            case _requests.PIXELS, "TYPE_UINT8", (height, width, 3) if height == width:
                return max(0, height)
    return 0


def _classifies(model: Model) -> bool:
    return any(tensor.name == _requests.PROBABILITIES for tensor in model.outputs)


def _classes(model: Model) -> int:
    return next(tensor.dims[-1] for tensor in model.outputs if tensor.name == _requests.PROBABILITIES)


def _byte_limits(models: Mapping[str, Model]) -> list[int]:
    texts = [model.parameters.get("max_photo_bytes", "") for model in models.values()]
    return [int(text) for text in texts if text.isdecimal()]
