"""Triton's model control: list, load and unload the models of one server. Everything here is public.

>>> from resnet_client import ClientConfig
>>> from resnet_client.admin import ModelControl
>>> with ModelControl(ClientConfig("grpc://localhost:8001", admin_token="…")) as control:
...     control.load("network_onnx", {**control.config("network_onnx"), "max_batch_size": 8})

The calls use gRPC. Over HTTP, Triton loads a model in a thread that also serves requests, and these requests wait.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import grpc
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import service_pb2 as pb
from tritonclient.grpc.service_pb2_grpc import GRPCInferenceServiceStub

from resnet_client.error_mapping import mapped
from resnet_client.errors import ConfigurationError, RequestError
from resnet_client.grpc import open_channel

if TYPE_CHECKING:
    from collections.abc import Mapping

    from resnet_client.config import ClientConfig

_LOAD_FAILED = re.compile(r"failed to load|load failed", re.IGNORECASE)
# Triton's own prefix of a backend's message, and the lines of a Python traceback after it.
_AROUND_THE_REASON = re.compile(r"^.*?version \d+ is at \w+ state: |;?\s*(\n.*)?$", re.DOTALL)
_NO_MODEL_CONTROL = "explicit model load"


class ModelVersion(NamedTuple):
    """One entry of the repository index.

    Attributes:
        model: the model's name.
        version: its version, such as ``"1"``; empty if the model is not loaded.
        state: ``READY``, ``LOADING``, ``UNLOADING``, ``UNAVAILABLE``, or empty if it was never loaded.
        reason: why it is not ready, such as ``unloaded``; empty if Triton gives no reason.
    """

    model: str
    version: str
    state: str
    reason: str


class LoadError(RequestError):
    """The server cannot load the model; a model of that name that was loaded before stays loaded."""


class ModelControl:
    """The model-control API of one server; several threads may share it.

    Args:
        config: its ``url`` is the gRPC address of one server; its ``admin_token`` and certificates are used.
        load_timeout_s: longest time to load and warm up a model, or to unload it, in seconds.

    Every method raises a ``ServerError`` if the server does not answer or refuses the request.

    Raises:
        ConfigurationError: ``url`` is not the gRPC address of one server.
    """

    def __init__(self, config: ClientConfig, *, load_timeout_s: float = 300.0) -> None:
        endpoint, *others = config.endpoints
        if others or endpoint.is_name or not endpoint.is_grpc:
            raise ConfigurationError(
                f"models are loaded through the gRPC address of one server, such as grpc://HOST:8001, not {config.url}"
            )
        self.url = str(endpoint)
        self._timeout_s, self._load_timeout_s = config.timeout_s, load_timeout_s
        self._metadata = (("triton-grpc-protocol-admin-key", config.admin_token),) if config.admin_token else ()
        self._channel = open_channel(grpc, config, endpoint)
        self._service = GRPCInferenceServiceStub(self._channel)

    def index(self) -> list[ModelVersion]:
        """List the models of the repository, and their versions; Triton leaves out models loaded with ``files``."""
        found = self._call("RepositoryIndex", pb.RepositoryIndexRequest(), self._timeout_s)
        return [ModelVersion(entry.name, entry.version, entry.state, entry.reason) for entry in found.models]

    def config(self, model: str, version: str = "") -> dict[str, Any]:
        """Return the configuration of a loaded model, completed by Triton; 64-bit integers are strings.

        Raises:
            ModelNotFoundError: the model or version is not loaded.
        """
        found = self._call("ModelConfig", pb.ModelConfigRequest(name=model, version=version), self._timeout_s)
        config: dict[str, Any] = MessageToDict(found.config, preserving_proto_field_name=True)
        return config

    def load(
        self, model: str, config: Mapping[str, Any] | None = None, files: Mapping[str, bytes] | None = None
    ) -> None:
        """Load a model, or load it again; until it is ready, the versions loaded before answer requests.

        A version is loaded again only if its directory or the config has changed; Triton does not look at ``files``
        for that, so unload the model first to replace them.

        Args:
            model: its name; with ``files``, the repository needs no model of this name.
            config: replaces the ``config.pbtxt`` in the repository.
            files: path in the model's directory, such as ``1/model.onnx``, to content; replaces that directory.

        Raises:
            LoadError: the server cannot load it.
        """
        request = pb.RepositoryModelLoadRequest(model_name=model)
        if config is not None:
            request.parameters["config"].string_param = json.dumps(dict(config))
        for path, content in (files or {}).items():
            request.parameters[f"file:{path}"].bytes_param = content
        self._call("RepositoryModelLoad", request, self._load_timeout_s)

    def unload(self, model: str) -> None:
        """Unload all versions of a model; a model that is not loaded is left alone."""
        self._call("RepositoryModelUnload", pb.RepositoryModelUnloadRequest(model_name=model), self._load_timeout_s)

    def close(self) -> None:
        """Close the connection."""
        self._channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _call(self, rpc: str, request: Any, timeout_s: float) -> Any:
        with mapped(self.url, timeout_s):
            try:
                return getattr(self._service, rpc)(request, timeout=timeout_s, metadata=self._metadata)
            except grpc.RpcError as exc:
                reason, status = exc.details() or "", exc.code().name
                if _LOAD_FAILED.search(reason):
                    cause = _AROUND_THE_REASON.sub("", reason)
                    raise LoadError(f"{request.model_name} cannot be loaded: {cause}", status=status) from exc
                if _NO_MODEL_CONTROL in reason:
                    raise RequestError(
                        f"{self.url} does not load models on request: start it with "
                        "--model-control-mode=explicit --load-model=resnet50 (resnet-serve does)",
                        status=status,
                    ) from exc
                raise
