"""The models that a server reports as ready."""

from __future__ import annotations

import dataclasses
from typing import Any

from resnet_serve.errors import ServerError
from resnet_serve.watchdog import Api


@dataclasses.dataclass(frozen=True)
class ModelStatus:
    """One served model.

    Attributes:
        name: as in requests.
        versions: loaded versions, ascending.
        backend: ``python``, ``onnxruntime``, ``openvino``, ``pytorch``, or ``ensemble``.
        max_batch_size: largest batch that it executes; 0 without batching.
        devices: where its instances run, such as ``CPU`` or ``2 x GPU``.
        config: as Triton completed it.
    """

    name: str
    versions: tuple[int, ...]
    backend: str
    max_batch_size: int
    devices: str
    config: dict[str, Any] = dataclasses.field(default_factory=dict, repr=False, compare=False)


def served(api: Api) -> list[ModelStatus]:
    """List the served models, ensembles last.

    Raises:
        ServerError: the server does not list them.
    """
    versions: dict[str, list[int]] = {}
    try:
        for entry in api.request("v2/repository/index", {"ready": True}):
            versions.setdefault(entry["name"], []).append(int(entry["version"]))
        found = [_status(api, name, sorted(numbers)) for name, numbers in versions.items()]
    except OSError as exc:
        raise ServerError(f"the server does not list its models: {exc}") from exc
    return sorted(found, key=lambda model: (model.backend == "ensemble", model.name))


def _status(api: Api, name: str, versions: list[int]) -> ModelStatus:
    config = api.request(f"v2/models/{name}/config")
    groups = [(group["count"], group["kind"].removeprefix("KIND_")) for group in config.get("instance_group", [])]
    return ModelStatus(
        name=name,
        versions=tuple(versions),
        backend=config["backend"] or config["platform"],
        max_batch_size=config["max_batch_size"],
        devices=", ".join(kind if count == 1 else f"{count} x {kind}" for count, kind in groups),
        config=config,
    )
