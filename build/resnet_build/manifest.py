"""``manifest.json`` in the repository: records the inputs of each build, so that a later one can skip its work."""

from __future__ import annotations

import hashlib
import json
import platform
import re
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnxruntime  # for its version, because the installed package can be `onnxruntime-gpu`

from resnet_build import BuildError, python_models
from resnet_build.serving_options import AUTO, DEFAULT_MODELS, ServingOptions, known_fields

FILENAME = "manifest.json"
_TOOLS = ("torch", "torchvision", "onnx", "onnxscript")

_ARTIFACT = re.compile(r"[\w-]+/[0-9]+/\w[\w.]*")

Manifest = dict[str, Any]


def read(repository: Path) -> Manifest:
    """Read a repository's manifest; return an empty one if it does not exist.

    Raises:
        BuildError: the file is damaged.
    """
    try:
        content = json.loads((repository / FILENAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):  # `locked` reports a repository that is not a folder
        return {"versions": {}}
    except (OSError, ValueError, RecursionError) as exc:
        raise BuildError(f"{repository / FILENAME} is damaged ({exc}); delete it and build again") from exc
    if not _is_manifest(content):
        raise BuildError(f"{repository / FILENAME} is not a manifest of resnet-build; delete it and build again")
    manifest: Manifest = content
    if "serving" in manifest:
        manifest["serving"] = known_fields(manifest["serving"], ServingOptions)
    return manifest


def stamp(repository: Path) -> tuple[int, int] | None:
    """Return the inode and the modification time of a manifest, which differ after each build; None without one."""
    try:
        found = (repository / FILENAME).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _is_manifest(content: object) -> bool:
    match content:
        case {"versions": dict(versions), **rest}:
            return (
                all(_is_version(entry) for entry in versions.values())
                and _are_options(rest.get("serving", {}), int)
                and _are_options(rest.get("gpu", {}), str)
                and _is_default_model(rest.get("default_model", {}))
            )
    return False


def _are_options(entry: object, kind: type) -> bool:
    return isinstance(entry, dict) and all(type(value) is kind for value in entry.values())


def _is_default_model(entry: object) -> bool:
    """Whether an entry has the fields that a later build reads, or is empty."""
    match entry:
        case {"requested": str(requested), "network": str(network)}:
            return requested in DEFAULT_MODELS and network.removeprefix("network_") in {*DEFAULT_MODELS} - {AUTO}
    return entry == {}


def _is_version(entry: object) -> bool:
    """Whether an entry has the fields that a later build reads."""
    match entry:
        case {
            "inputs": {
                "weights": {"requested": str(), "name": str()},
                "labels": str(),
                "preprocessing_sha256": str(),
                **inputs,
            },
            "artifacts": dict(artifacts),
        }:
            optional = (inputs.get("backbone"), inputs.get("calibration_images"))
            return all(value is None or isinstance(value, str) for value in optional) and all(
                _ARTIFACT.fullmatch(name) for name in artifacts
            )
    return False


def inputs_of(manifest: Manifest, model_version: int) -> dict[str, Any]:
    """Return the inputs of a version; empty if it was not built."""
    inputs: dict[str, Any] = manifest["versions"].get(str(model_version), {}).get("inputs", {})
    return inputs


def has_artifacts(repository: Path, manifest: Manifest, model_version: int) -> bool:
    """Whether all artifacts of a version exist and have their recorded hashes."""
    recorded: Mapping[str, str] = manifest["versions"][str(model_version)]["artifacts"]
    paths = {repository / name: digest for name, digest in recorded.items()}
    return all(path.exists() and sha256(path) == digest for path, digest in paths.items())


def to_json(manifest: Manifest) -> str:
    """Serialise with indentation, keys in the order of the build."""
    return json.dumps(manifest, indent=2, ensure_ascii=False) + "\n"


def tool_versions() -> dict[str, str]:
    """Return the versions of all software that affects the artifacts, and a hash of this package's sources."""
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in _TOOLS},
        "onnxruntime": onnxruntime.__version__,
        "resnet_build": _digest_of_sources(),
    }


def _digest_of_sources() -> str:
    digest = hashlib.sha256()
    for file in (*sorted(Path(__file__).parent.rglob("*.py")), *python_models.preprocessing_files().values()):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:16]


def sha256(file: Path) -> str:
    """Return a file's hex SHA-256."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
