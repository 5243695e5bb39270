"""A network that is rolled out: its config, and its version directories in the repository."""

from __future__ import annotations

import copy
import dataclasses
import itertools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from resnet_client.requests import PROBABILITIES

from resnet_serve.rollout.comparison import MAX_IN_FLIGHT

_DEFAULT_SIDE = 256


@dataclasses.dataclass(frozen=True)
class Network:
    """A network and its versions; methods that access directories raise ``OSError``.

    Attributes:
        config: the config that it is served with.
        directory: its directory in the repository, which may be missing on this machine.
        old: the version in service.
        new: the version that is to replace it.
        files: of the new version, path in the directory to content; None if the version is loaded already.
    """

    config: dict[str, Any]
    directory: Path
    old: int
    new: int
    files: Mapping[str, bytes] | None = None

    @property
    def name(self) -> str:
        """The model's name."""
        return str(self.config["name"])

    @property
    def filename(self) -> str:
        """The name of a version's file, such as ``model.onnx``."""
        return str(self.config["default_model_filename"])

    @property
    def classes(self) -> int:
        """Number of classes."""
        return next(int(output["dims"][0]) for output in self.config["output"] if output["name"] == PROBABILITIES)

    @property
    def image_side(self) -> int:
        """The short side that preprocessing resizes images to, in pixels."""
        preprocess_config = self.config.get("parameters", {}).get("preprocessing", {"string_value": "{}"})
        return int(json.loads(preprocess_config["string_value"]).get("resize", _DEFAULT_SIDE))

    def serving(self, *versions: int) -> dict[str, Any]:
        """Return the config that loads exactly these versions."""
        # Triton adds the field `runtime`. If it were sent back, Triton would load every version again.
        kept = {key: value for key, value in self.config.items() if key != "runtime"}
        return {**kept, "version_policy": {"specific": {"versions": list(versions)}}}

    def copied(self, name: str) -> dict[str, Any]:
        """Return the config of a copy under another name, which has only the files of the new version."""
        config = copy.deepcopy(self.serving(self.new)) | {"name": name}
        for output in config["output"]:
            output.pop("label_filename", None)
        for group in config.get("instance_group", []):
            # Triton changes KIND_AUTO to KIND_GPU, with which the backend would not fall back to the CPU.
            group["kind"] = group["kind"].replace("KIND_GPU", "KIND_AUTO")
        # Only batches that the comparison sends.
        warmups = config.get("model_warmup", [])
        config["model_warmup"] = [warmup for warmup in warmups if int(warmup["batch_size"]) <= MAX_IN_FLIGHT]
        return config

    def versions(self) -> list[int]:
        """List the version directories, ascending."""
        if not self.directory.is_dir():
            return []
        return sorted(int(path.name) for path in self.directory.iterdir() if path.name.isdecimal())

    def read(self, version: int) -> dict[str, bytes] | None:
        """Return a version's files, path in the directory to content; None if there is no version directory."""
        if version not in self.versions():
            return None
        files = (path for path in (self.directory / str(version)).rglob("*") if path.is_file())
        return {str(path.relative_to(self.directory)): path.read_bytes() for path in files}

    def set_aside(self, version: int) -> Path:
        """Rename a version's directory so that Triton does not load it; return the new path."""
        # Not "2.refused": Triton reads the number at the start of a name, and would look for a version 2.
        numbered = (f"refused-{version}-{number}" for number in itertools.count(2))
        paths = (self.directory / name for name in itertools.chain([f"refused-{version}"], numbered))
        return (self.directory / str(version)).rename(next(path for path in paths if not path.exists()))
