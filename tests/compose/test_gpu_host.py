"""The services for a GPU host: valid in every profile, up to what only a GPU host has."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from resnet_client import Client

from . import project

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1800)]

PROFILES = ("cpu", "wheel", "gateway", "loadtest", "monitoring", "tracing")
CAT_CLASSES = range(281, 288)
FOLDER = Path(__file__).parent


@pytest.mark.parametrize("profiles", [(), *[(name,) for name in PROFILES], PROFILES], ids="+".join)
def test_compose_file_is_valid(profiles: tuple[str, ...]) -> None:
    """Compose itself reads it; each profile adds services of its own to the GPU's."""
    made = project.Project("config")
    flags = [flag for name in profiles for flag in ("--profile", name)]
    services = set(yaml.safe_load(made.run(*flags, "config").stdout)["services"])
    assert {"build", "triton"} <= services
    assert bool(profiles) == (len(services) > 2)


def test_gpu_reservation_is_refused_without_a_gpu() -> None:
    """Everything before it works; the engine names the driver that it lacks."""
    with project.project("gpu", FOLDER / "stand-in.yml") as made:
        made.run("build", "build", "triton")
        made.run("up", "--no-build", "build", check=False)
        done = made.run("up", "--no-build", "--detach", "triton", check=False)
        if done.returncode == 0:
            pytest.skip("this machine has a GPU")
        assert 'could not select device driver "nvidia"' in done.stdout


def test_triton_cpu_serves_with_another_image(cat: bytes) -> None:
    """With a stand-in for NVIDIA's image, ``triton-cpu``'s own command and healthcheck do their work.

    The repository is one for GPUs; without one, TensorRT's keys are passed over.
    """
    variables = {"GPU_ENGINE": "tensorrt", "MODEL_CONFIG": "gpu", "MODELS": "*", "BUILD_ARGS": "--max-batch-size=4"}
    with project.project("cpu", FOLDER / "stand-in.yml", **variables) as made:
        made.run("build", "build", "triton-cpu")
        made.run("up", "--no-build", "--wait", "--wait-timeout", "600", "build", "triton-cpu")
        assert "up to date" in made.run("run", "--rm", "--no-deps", "-T", "build").stdout
        for url in (made.grpc_url, made.http_url):
            with Client(url) as client:
                assert client.classify(cat).top.index in CAT_CLASSES
                assert client.classify(cat, model="resnet50_torchscript").top.index in CAT_CLASSES
    assert made.remains() == []
