"""The server that is measured: its models loaded with other settings, and its own counts of what they take."""

from __future__ import annotations

import copy
import dataclasses
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import tritonclient.grpc as triton
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2 as pb
from tritonclient.utils import InferenceServerException

from resnet_build import configs
from resnet_build.errors import BuildError
from resnet_build.options import ServingOptions
from resnet_build.schedule import schedule, scheduled

_ADMIN_HEADER = "triton-grpc-protocol-admin-key"
_LOAD_TIMEOUT_S = 180.0
_ANSWER_TIMEOUT_S = 30.0
_COUNT_TIMEOUT_S = 5.0

# Batch size → executions, and the seconds that they took together.
Batches = Mapping[int, tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class Ensemble:
    """The models behind one door, as their files configure them.

    Attributes:
        name: of the ensemble.
        network: of the model it ends in.
        configs: model name → configuration, of ``preprocess``, the network and the ensemble.
    """

    name: str
    network: str
    configs: Mapping[str, pb.ModelConfig]

    @classmethod
    def read(cls, repository: Path, name: str) -> Ensemble:
        """Read it from a repository.

        Raises:
            BuildError: there is no such ensemble, or it is none of ``preprocess`` and a network.
        """
        own = _read(repository, name)
        steps = [step.model_name for step in own.ensemble_scheduling.step]
        if len(steps) != 2 or steps[0] != configs.PREPROCESS:  # noqa: PLR2004  # photo, network
            raise BuildError(f"{name} in {repository} is no ensemble of {configs.PREPROCESS} and a network")
        return cls(name, steps[1], {name: own, **{step: _read(repository, step) for step in steps}})

    def options(self, known: ServingOptions) -> ServingOptions:
        """Return what the files say of the schedule, over ``known``."""
        return scheduled(self.configs[configs.PREPROCESS], self.configs[self.network], known)


def _read(repository: Path, model: str) -> pb.ModelConfig:
    path = repository / model / "config.pbtxt"
    try:
        return configs.parse(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise BuildError(f"{path} cannot be read ({exc.strerror}); build the repository first") from exc


class Control:
    """Model control and statistics of one server, over gRPC; use it as a context manager.

    Args:
        target: host and port.
        token: the admin token; None for a server that is open.
        ensemble: what is tuned.
    """

    def __init__(self, target: str, token: str | None, ensemble: Ensemble) -> None:
        self.client = triton.InferenceServerClient(target)
        self._headers = {_ADMIN_HEADER: token} if token else None
        self._ensemble = ensemble
        self._loaded: dict[str, pb.ModelConfig] = {}

    def __enter__(self) -> Self:
        """Connect with the first call."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connection."""
        self.client.close()

    def restore(self, ensemble: Ensemble) -> None:
        """Load what the files say now; for a server that goes on.

        Args:
            ensemble: read anew. It is sent, because Triton keeps what was sent before until files change.

        Raises:
            BuildError: the server refuses, or cannot be reached.
        """
        with _told(f"{ensemble.name} cannot be unloaded"):
            self.client.unload_model(ensemble.name, headers=self._headers, client_timeout=_LOAD_TIMEOUT_S)
        for model in (ensemble.network, configs.PREPROCESS, ensemble.name):
            self._load(model, ensemble.configs[model])

    def apply(self, options: ServingOptions, likely_batch: int) -> None:
        """Load what has to change for a setting; batches up to ``likely_batch`` are warmed up.

        Raises:
            BuildError: the server refuses, or cannot be reached.
        """
        wanted = {name: copy.deepcopy(config) for name, config in self._ensemble.configs.items()}
        for config in wanted.values():
            schedule(config, dataclasses.replace(options, warmup_batch=likely_batch))
        for name in (configs.PREPROCESS, self._ensemble.network, self._ensemble.name):
            if self._loaded.get(name) != wanted[name]:
                self._load(name, wanted[name])
                self._loaded[name] = wanted[name]

    def _load(self, model: str, config: pb.ModelConfig) -> None:
        sent = json_format.MessageToJson(config, preserving_proto_field_name=True)
        with _told(f"{model} cannot be loaded"):
            self.client.load_model(model, headers=self._headers, config=sent, client_timeout=_LOAD_TIMEOUT_S)

    def gpus(self) -> int:
        """Return how many GPUs the network is served on; 0 for the CPU."""
        with _told(f"the configuration of {self._ensemble.network} cannot be read"):
            answer = self.client.get_model_config(
                self._ensemble.network, headers=self._headers, as_json=True, client_timeout=_ANSWER_TIMEOUT_S
            )
        groups = answer["config"].get("instance_group", [])
        return len({gpu for group in groups if group.get("kind") == "KIND_GPU" for gpu in group.get("gpus", [])})

    def server(self) -> str:
        """Return the server's name and version."""
        with _told("the server cannot be asked"):
            answer = self.client.get_server_metadata(
                headers=self._headers, as_json=True, client_timeout=_ANSWER_TIMEOUT_S
            )
        return f"{answer['name']} {answer['version']}"

    def batches(self, model: str) -> Batches:
        """Return what a model has computed since it was loaded."""
        with _told(f"the statistics of {model} cannot be read"):
            answer = self.client.get_inference_statistics(
                model, headers=self._headers, as_json=True, client_timeout=_ANSWER_TIMEOUT_S
            )
        found = {}
        for row in answer["model_stats"][-1].get("batch_stats", []):
            parts = [row.get(f"compute_{part}", {}) for part in ("input", "infer", "output")]
            seconds = sum(int(part.get("ns", 0)) for part in parts) / 1e9
            found[int(row["batch_size"])] = (int(parts[1].get("count", 0)), seconds)
        return found

    def batches_since(self, model: str, before: Batches, photos: int) -> Batches:
        """Return what a model has computed since a reading, once that many photos are counted.

        Raises:
            BuildError: they are not counted in time; Triton counts a little later than it answers.
        """
        give_up_s = time.monotonic() + _COUNT_TIMEOUT_S
        while time.monotonic() < give_up_s:
            found = {}
            for size, (count, seconds) in self.batches(model).items():
                old_count, old_seconds = before.get(size, (0, 0.0))
                if count > old_count:
                    found[size] = (count - old_count, seconds - old_seconds)
            if sum(size * count for size, (count, _) in found.items()) >= photos:
                return found
        raise BuildError(f"the server's statistics of {model} do not count its photos: somebody loads it meanwhile?")


class _told:  # noqa: N801  # reads as a statement
    """Turns what tritonclient raises in the block into a sentence."""

    def __init__(self, sentence: str) -> None:
        self._sentence = sentence

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, value: BaseException | None, traceback: object) -> None:
        if isinstance(value, InferenceServerException):
            raise BuildError(f"{self._sentence}: {value.message()}") from value
