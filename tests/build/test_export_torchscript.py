"""The TorchScript artifact in the oldest libtorch that may serve it."""

from __future__ import annotations

import subprocess
import venv
from pathlib import Path

import numpy as np
import pytest
from resnet_build.export_torchscript import open_artifact

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

# Older than the PyTorch 2.14.0a0 of NVIDIA's 26.09, the oldest image that TRITON_TAG may name.
OLDEST_TORCH = "2.13.0"
# The last one is the largest batch of the model config `gpu`.
BATCHES = (1, 7, 128)

# In the other environment: loads the artifact, and writes the outputs of each batch.
RUN = """
import sys, numpy, torch
network = torch.jit.load(sys.argv[1])
with torch.inference_mode():
    for name in sys.argv[2:]:
        probabilities, features = network(torch.from_numpy(numpy.load(name)))
        numpy.savez(name, probabilities=probabilities.numpy(), features=features.numpy())
"""


def test_artifact_answers_the_same_in_the_oldest_libtorch(repository: Path, tmp_path: Path) -> None:
    """What this PyTorch exported loads in that one, and gives the same for small and large batches."""
    artifact = repository / "network_torchscript/1/model.pt"
    venv.create(tmp_path / "venv", with_pip=True)
    python = tmp_path / "venv/bin/python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", f"torch=={OLDEST_TORCH}", "numpy"], check=True)
    pixels = {}
    for batch in BATCHES:
        name = tmp_path / f"{batch}.npy"
        pixels[name] = np.random.default_rng(batch).integers(0, 256, (batch, 224, 224, 3), np.uint8)
        np.save(name, pixels[name])
    subprocess.run([python, "-c", RUN, artifact, *pixels], check=True)
    network = open_artifact(artifact)
    for name, sent in pixels.items():
        with np.load(f"{name}.npz") as outputs:
            for got, expected in zip((outputs["probabilities"], outputs["features"]), network(sent), strict=True):
                np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-5)
