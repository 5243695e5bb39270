"""Read a server once: configs, repository index, statistics, metrics, and the results of test images.

It changes nothing on the server. The checks use only the :class:`Snapshot`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar

import numpy as np

from resnet_client.client import Client, connect
from resnet_client.config import ClientConfig
from resnet_client.endpoints import Endpoint
from resnet_client.errors import ConfigurationError, ModelNotFoundError, RequestError, ResnetClientError
from resnet_client.metrics import fetch
from resnet_client.requests import IMAGE, PIXELS, PROBABILITIES, Call
from resnet_client.results import Classification

T = TypeVar("T")

Json: TypeAlias = Mapping[str, Any]
Ask: TypeAlias = Callable[..., Any]

_RESTRICTED = "is restricted, expecting header"
_METRICS_TIMEOUT_S = 5.0
_TEST_IMAGE = np.zeros((64, 64, 3), np.uint8)


@dataclasses.dataclass(frozen=True)
class Probe:
    """Result of a test image sent to one model.

    Attributes:
        is_ready: whether the server reports the model as ready.
        result: all classes, most probable first, or the error; the first class only if the config is restricted.
    """

    is_ready: bool
    result: Classification | ResnetClientError


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """The state of a server. An attribute that could not be read is None; ``unread`` has the reason.

    Attributes:
        endpoint: the server.
        model: the default model of the clients.
        is_ready: whether the server reports that it is ready.
        is_token_refused: whether the server refuses the admin token.
        is_admin_open: whether model control answers an unauthenticated client.
        index: entries of the repository index: ``name``, ``version``, ``state``, ``reason``.
        configs: model → config, as Triton's JSON. Over gRPC zeros are missing and 64-bit integers are strings.
        probes: model → result of a test image; the default model and every ensemble that takes images.
        metrics_url: the metrics endpoint.
        metrics: its text.
        unread: attribute → why it is None.
    """

    endpoint: Endpoint
    model: str
    is_ready: bool
    is_token_refused: bool
    is_admin_open: bool
    index: tuple[Json, ...] | None
    configs: Mapping[str, Json] | None
    probes: Mapping[str, Probe]
    metrics_url: str | None
    metrics: str | None
    unread: Mapping[str, str]


def take(config: ClientConfig, metrics_url: str | None) -> Snapshot:
    """Read the server that ``config`` names.

    Args:
        config: one endpoint, the default model, the admin token if there is one.
        metrics_url: the metrics endpoint; None skips it.

    Raises:
        UnavailableError: the server cannot be reached.
        DeadlineExceededError: the server does not answer in time.
    """
    unread = {} if metrics_url else dict.fromkeys(("metrics_url", "metrics"), "skipped (--metrics-url none)")

    def attempt(attribute: str, read: Callable[[], T]) -> T | None:
        try:
            return read()
        except (ResnetClientError, OSError) as exc:
            is_missing = _RESTRICTED in str(exc) and config.admin_token is None
            unread[attribute] = (
                "requires the admin token (--admin-token, RESNET_ADMIN_TOKEN)" if is_missing else str(exc)
            )
            return None

    without_token = dataclasses.replace(config, admin_token=None)
    with _connection(config) as ask, _connection(without_token) as ask_anonymously, Client(**vars(config)) as client:
        is_ready = bool(ask("is_server_ready"))  # raises if the server is unreachable; the other reads are optional
        index = attempt("index", lambda: _index(ask))
        configs = attempt("configs", lambda: _configs(ask, config.model, index or ()))
        metrics = attempt("metrics", lambda: _metrics(metrics_url)) if metrics_url else None
        return Snapshot(
            endpoint=config.endpoints[0],
            model=config.model,
            is_ready=is_ready,
            is_token_refused=config.admin_token is not None and _RESTRICTED in unread.get("index", ""),
            is_admin_open=_is_admin_open(ask_anonymously),
            index=index,
            configs=configs,
            probes=_probes(ask, client, config.model, configs or {}),
            metrics_url=metrics_url,
            metrics=metrics,
            unread=unread,
        )


def steps(config: Json) -> list[str]:
    """Models that an ensemble calls; none for other models."""
    return [step["model_name"] for step in config.get("ensemble_scheduling", {}).get("step", [])]


def tensor(config: Json, name: str) -> Json | None:
    """The input or output of that name."""
    tensors = [*config.get("input", []), *config.get("output", [])]
    return next((entry for entry in tensors if entry["name"] == name), None)


@contextlib.contextmanager
def _connection(config: ClientConfig) -> Iterator[Ask]:
    """Yield a function that makes one call, by tritonclient's name of it."""
    with contextlib.closing(connect(config, config.endpoints[0])) as transport:
        yield lambda method, **arguments: transport.send(Call(method, arguments), config.timeout_s)


def _index(ask: Ask) -> tuple[Json, ...]:
    answer = ask("get_model_repository_index")  # an object over gRPC, an array over HTTP
    return tuple(answer.get("models", []) if isinstance(answer, dict) else answer)


def _is_admin_open(ask_anonymously: Ask) -> bool:
    try:
        _index(ask_anonymously)
    except (RequestError, ModelNotFoundError):  # refused, or not available
        return False
    return True


def _configs(ask: Ask, model: str, index: Iterable[Json]) -> dict[str, Json]:
    """Configs of the default model, of all ready models, and of the models that they call."""
    configs: dict[str, Json] = {}
    names = [model, *(entry["name"] for entry in index if entry.get("state") == "READY")]
    while names:
        name = names.pop(0)
        with contextlib.suppress(ModelNotFoundError):
            if name not in configs:
                configs[name] = ask("get_model_config", model_name=name)
                names += steps(configs[name])
    return configs


def _probes(ask: Ask, client: Client, default: str, configs: Mapping[str, Json]) -> dict[str, Probe]:
    """Send a test image to the default model, even if its config is restricted, and to ensembles that take images."""
    probes: dict[str, Probe] = {}
    for name, config in {default: {}, **configs}.items():
        probabilities = tensor(config, PROBABILITIES)
        if (config and probabilities is None) or (name != default and tensor(config, IMAGE) is None):
            continue
        is_ready = False
        result: Classification | ResnetClientError
        try:
            is_ready = bool(ask("is_model_ready", model_name=name))
            result = client.classify(
                _TEST_IMAGE,
                top_k=1 if probabilities is None else int(probabilities["dims"][-1]),
                model=name,
                preprocessing="server" if tensor(config, PIXELS) is None else "client",
            )
        except ConfigurationError:  # a network whose config is restricted, so its preprocessing is unknown
            continue
        except ResnetClientError as exc:
            result = exc
        probes[name] = Probe(is_ready, result)
    return probes


def _metrics(url: str) -> str:
    text = fetch(url, _METRICS_TIMEOUT_S)
    if not re.search(r"^nv_", text, re.MULTILINE):
        raise OSError("the response has no Triton metrics")
    return text
