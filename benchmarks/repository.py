"""The model repository that is measured."""

from __future__ import annotations

import dataclasses
import functools
from pathlib import Path

from resnet_build import manifest
from resnet_client.preprocessing import PreprocessConfig

from benchmarks.networks import VARIANTS


@dataclasses.dataclass(frozen=True)
class Repository:
    """A model repository that ``resnet-build`` wrote."""

    path: Path

    @property
    def variants(self) -> list[str]:
        """The variants that it has."""
        return [variant for variant in VARIANTS if self.file(variant).exists()]

    def file(self, variant: str) -> Path:
        """The ONNX file of a variant."""
        return self.path.resolve() / f"network_{variant}/1/model.onnx"

    def ensemble(self, variant: str) -> str:
        """The ensemble of a variant."""
        name = f"resnet50_{variant}"
        return name if (self.path / name).exists() else "resnet50"

    @functools.cached_property
    def preprocess_config(self) -> PreprocessConfig:
        """The preprocessing config."""
        return PreprocessConfig(**manifest.read(self.path)["versions"]["1"]["inputs"]["preprocessing"])
