"""Loads and unloads models of a running server, over gRPC.

Over HTTP, Triton loads a model inside the thread that also serves some of its callers: these would wait, for
as long as that takes. Over gRPC nobody waits.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

import tritonclient.grpc as triton
from resnet_client import ClientConfig, ConfigurationError
from tritonclient.utils import InferenceServerException

from resnet_serve.rollout.errors import RefusedError, RolloutError

_ADMIN_HEADER = "triton-grpc-protocol-admin-key"
_ANSWER_TIMEOUT_S = 30.0
# A copy is warmed for the batches that the comparison sends; warming all of them would cost its callers more.
_LARGEST_WARMED_BATCH = 4
_LOAD_FAILED = re.compile(r"failed to load|load failed", re.IGNORECASE)
_STATE = re.compile(r"^.*?version \d+ is at \w+ state: ", re.DOTALL)

Config = dict[str, Any]


class ModelControl:
    """The model-control API of one server; use it as a context manager.

    Args:
        config: where the server is, and how it is reached; its ``url`` has to be a single gRPC address.
        load_timeout_s: longest wait for a model to load and warm up, in seconds.

    Raises:
        ConfigurationError: the address is none of one gRPC server.
    """

    def __init__(self, config: ClientConfig, *, load_timeout_s: float) -> None:
        if len(config.endpoints) != 1 or not config.endpoints[0].is_grpc:
            raise ConfigurationError(
                f"--url must be the gRPC address of one server, such as grpc://HOST:8001, not {config.url}: "
                "over HTTP its callers would wait while a model loads"
            )
        self.url = config.url
        self._load_timeout_s = load_timeout_s
        self._headers = {_ADMIN_HEADER: config.admin_token} if config.admin_token else None
        files = (config.ca_certificate, config.client_key, config.client_certificate)
        authorities, key, certificate = (None if path is None else str(path) for path in files)
        self._client = triton.InferenceServerClient(
            config.endpoints[0].target,
            ssl=config.endpoints[0].is_tls,
            root_certificates=authorities,
            private_key=key,
            certificate_chain=certificate,
        )

    def __enter__(self) -> Self:
        """Connect with the first call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        self._client.close()

    def models(self) -> list[str]:
        """List the models of the repository that have a version in service."""
        index = self._call("get_model_repository_index").get("models", [])
        return sorted({entry["name"] for entry in index if entry.get("state") == "READY"})

    def config(self, model: str) -> Config:
        """Return the configuration that a model is served with, as Triton completed it."""
        config: Config = self._call("get_model_config", model_name=model)["config"]
        return config

    def versions(self, model: str) -> tuple[int, ...]:
        """List the versions of a model that are in service, ascending; the last answers who names none."""
        return tuple(sorted(map(int, self._call("get_model_metadata", model_name=model).get("versions", []))))

    def load(self, model: str, config: Config, files: Mapping[str, bytes] | None = None) -> None:
        """Load a model, or load it again; who calls it meanwhile is answered by what was loaded before.

        Args:
            model: its name.
            config: instead of the ``config.pbtxt`` in the repository.
            files: path in the model's folder → content, instead of that folder.

        Raises:
            RefusedError: it cannot be loaded; what was loaded before stays.
            RolloutError: the server cannot be asked.
        """
        sent = None if files is None else {f"file:{path}": content for path, content in files.items()}
        try:
            self._client.load_model(
                model, headers=self._headers, config=json.dumps(config), files=sent, client_timeout=self._load_timeout_s
            )
        except InferenceServerException as exc:
            sentence = str(exc.message())
            if _LOAD_FAILED.search(sentence):
                raise RefusedError(f"it cannot be loaded: {_cause(sentence)}") from exc
            raise self._translated(exc) from exc

    def unload(self, model: str) -> None:
        """Unload a model; one that is not loaded is left alone, and one that is being loaded is waited for."""
        try:
            self._client.unload_model(model, headers=self._headers, client_timeout=self._load_timeout_s)
        except InferenceServerException as exc:
            raise self._translated(exc) from exc

    def _call(self, method: str, **arguments: str) -> dict[str, Any]:
        try:
            answer: dict[str, Any] = getattr(self._client, method)(
                **arguments, headers=self._headers, as_json=True, client_timeout=_ANSWER_TIMEOUT_S
            )
        except InferenceServerException as exc:
            raise self._translated(exc) from exc
        return answer

    def _translated(self, error: InferenceServerException) -> RolloutError:
        """Which sentence tells this error's cause and remedy."""
        said, status = str(error.message()), str(error.status())
        if "restricted" in said:
            return RolloutError(
                f"{self.url} lets nobody load models without its admin token: "
                "set RESNET_ADMIN_TOKEN to that of the server"
            )
        if "explicit model load" in said:
            return RolloutError(
                f"{self.url} takes no requests to load models: start it with --model-control-mode=explicit "
                "--load-model=* (resnet-serve does)"
            )
        if status.endswith("UNAVAILABLE") and "unknown model" not in said:
            return RolloutError(f"{self.url} cannot be reached: {said}; is the server running, is this its URL?")
        if status.endswith("DEADLINE_EXCEEDED"):
            return RolloutError(f"{self.url} gave no answer in time; loading may take longer with --load-timeout-s")
        return RolloutError(f"{self.url}: {said}")


def pinned(config: Config, versions: tuple[int, ...]) -> Config:
    """Return the configuration with exactly these versions in service."""
    # `runtime` is Triton's own finding. With it, the configuration would count as another one, and versions
    # that are in service already would be loaded again.
    kept = {key: value for key, value in config.items() if key != "runtime"}
    return {**kept, "version_policy": {"specific": {"versions": list(versions)}}}


def copied(config: Config, name: str, version: int) -> Config:
    """Return the configuration for a copy of a model under another name, with a single version."""
    config = copy.deepcopy(pinned(config, (version,)))
    config["name"] = name
    for output in config["output"]:
        output.pop("label_filename", None)
    for group in config.get("instance_group", []):
        # Where Triton chose the GPU, the copy must not insist on it: the installed runtime may only know CPUs.
        group["kind"] = "KIND_AUTO" if group.get("kind") == "KIND_GPU" else group.get("kind", "KIND_AUTO")
    warmups = config.get("model_warmup", [])
    config["model_warmup"] = [warmup for warmup in warmups if int(warmup["batch_size"]) <= _LARGEST_WARMED_BATCH]
    return config


def artifact_name(config: Config) -> str:
    """Return the name of a network's file, such as ``model.onnx``."""
    return str(config["default_model_filename"])


def recipe_side(config: Config) -> int:
    """Return the short side of a picture before the crop, in pixels, by the recipe in the configuration.

    Raises:
        RolloutError: there is none.
    """
    try:
        return int(json.loads(config["parameters"]["recipe"]["string_value"])["resize"])
    except (KeyError, TypeError, ValueError) as exc:
        raise RolloutError(
            f"the configuration of {config['name']} holds no recipe: build the repository with resnet-build"
        ) from exc


def takes_highest(config: Config, model: str) -> bool:
    """Whether this is an ensemble that asks a model without naming a version."""
    steps = config.get("ensemble_scheduling", {}).get("step", [])
    return any(step["model_name"] == model and int(step.get("model_version", -1)) == -1 for step in steps)


def _cause(sentence: str) -> str:
    """The backend's own words, without Triton's address lines before and Python's traceback after them."""
    return _STATE.sub("", sentence).split("\n", maxsplit=1)[0].strip().rstrip(";")
