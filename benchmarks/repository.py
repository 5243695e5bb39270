"""The model repository of the benchmark."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from google.protobuf import text_format
from resnet_build import manifest, weights
from resnet_build.network import ServedNetwork, load_network
from resnet_client.named_configs import config_files, default_name
from resnet_client.preprocessing import PreprocessConfig, crop_pixels, decode
from tritonclient.grpc import model_config_pb2 as pb

from benchmarks.networks import NETWORKS, Network, name_of, of_repository

# Below it, rounding may change the order of the first two classes.
CLEAR_LEAD = 0.1


@dataclasses.dataclass(frozen=True)
class Repository:
    """A model repository, and the results of its network without a server."""

    path: Path

    @functools.cached_property
    def inputs(self) -> dict[str, Any]:
        """The manifest of the build."""
        entry: dict[str, Any] = manifest.read(self.path)["versions"]["1"]["inputs"]
        return entry

    @property
    def weights(self) -> str:
        """Name of the weights."""
        return str(self.inputs["weights"]["name"])

    @property
    def preprocess_config(self) -> PreprocessConfig:
        """The preprocessing config."""
        return PreprocessConfig(**self.inputs["preprocessing"])

    def model(self, network: str) -> Path:
        """The network's file."""
        return NETWORKS[network].file(self.path)

    @property
    def networks(self) -> dict[str, Network]:
        """The networks that are compared."""
        return of_repository(self.path)

    def ensembles(self) -> dict[str, str]:
        """Each ensemble that is compared, and its network; of two with the same network, the first."""
        configs = {}
        for model, path in config_files(self.path, default_name(self.path)).items():
            configs[model] = text_format.Parse(path.read_text(encoding="utf-8"), pb.ModelConfig())
        found: dict[str, str] = {}
        for name, config in sorted(configs.items()):
            steps = [step.model_name for step in config.ensemble_scheduling.step]
            if steps and name != "resnet50_torchscript":
                network = configs[steps[-1]]
                engine = network.backend or network.platform.partition("_")[0]
                found.setdefault(name_of(network.name, engine), name)
        return {ensemble: network for network, ensemble in found.items()}

    @functools.cached_property
    def eager(self) -> ServedNetwork:
        """The network in eager PyTorch."""
        found = weights.load(
            self.weights,
            cache=weights.default_cache(),
            file_options=weights.FileOptions(),
            report=lambda _: None,
        )
        return ServedNetwork(load_network(found.architecture, found.state_dict), found.input).eval()

    def expected(self, jpegs: list[bytes]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
        """Top-1 of eager PyTorch, and which images are clear: the first class leads by 0.1 or more."""
        pixels = np.stack([crop_pixels(decode(jpeg), self.preprocess_config) for jpeg in jpegs])
        with torch.inference_mode():
            probabilities = self.eager(torch.from_numpy(pixels))[0].numpy()
        ordered = np.sort(probabilities, axis=1)
        return probabilities.argmax(axis=1), ordered[:, -1] - ordered[:, -2] >= CLEAR_LEAD
