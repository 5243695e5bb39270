"""Which models a server has, as it tells."""

from __future__ import annotations

import dataclasses

from resnet_serve.errors import ServerError
from resnet_serve.supervisor import Api


@dataclasses.dataclass(frozen=True)
class ModelStatus:
    """One served model.

    Attributes:
        name: as in requests.
        versions: loaded versions, ascending.
        backend: ``python``, ``onnxruntime``, ``openvino``, ``pytorch``, or ``ensemble``.
        max_batch_size: largest batch that it executes; 0 without batching.
        devices: where its instances run, such as ``CPU`` or ``2 x GPU``.
    """

    name: str
    versions: tuple[int, ...]
    backend: str
    max_batch_size: int
    devices: str


def served(api: Api) -> list[ModelStatus]:
    """List the served models, ensembles last.

    Raises:
        ServerError: the server does not tell.
    """
    versions: dict[str, list[int]] = {}
    try:
        for entry in api.ask("v2/repository/index", {"ready": True}):
            versions.setdefault(entry["name"], []).append(int(entry["version"]))
        found = [_status(api, name, sorted(numbers)) for name, numbers in versions.items()]
    except OSError as exc:
        raise ServerError(f"the server does not list its models: {exc}") from exc
    return sorted(found, key=lambda model: (model.backend == "ensemble", model.name))


def _status(api: Api, name: str, versions: list[int]) -> ModelStatus:
    config = api.ask(f"v2/models/{name}/config")
    groups = [(group["count"], group["kind"].removeprefix("KIND_")) for group in config.get("instance_group", [])]
    return ModelStatus(
        name=name,
        versions=tuple(versions),
        backend=config["backend"] or config["platform"],
        max_batch_size=config["max_batch_size"],
        devices=", ".join(kind if count == 1 else f"{count} x {kind}" for count, kind in groups),
    )
