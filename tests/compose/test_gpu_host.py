"""The services for a GPU host: valid in every profile, up to what only a GPU host has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from resnet_client import Client

from . import project
from .project import Project

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


def test_gpu_service_has_the_gpus_and_their_config() -> None:
    """As compose reads the file, without any variable."""
    service = yaml.safe_load(project.Project("config").run("config").stdout)["services"]["triton"]
    assert service["command"] == ["--model-config-name=gpu"]
    (devices,) = service["deploy"]["resources"]["reservations"]["devices"]
    assert (devices["driver"], devices["count"]) == ("nvidia", -1)


@pytest.fixture(scope="module")
def built() -> Iterator[Project]:
    """A repository for GPU hosts, and both services with a stand-in for NVIDIA's image and without a GPU."""
    variables = {"GPU_ENGINE": "tensorrt", "MODELS": "*", "BUILD_ARGS": "--max-batch-size=4"}
    with project.project("gpu", FOLDER / "stand-in.yml", FOLDER / "no-gpu.yml", **variables) as made:
        made.run("build", "build", "triton", "triton-cpu")
        yield made
    assert made.remains() == []


@pytest.mark.parametrize("service", ["triton", "triton-cpu"])
def test_services_behave_alike_with_another_image(built: Project, service: str, cat: bytes) -> None:
    """Every ensemble answers over both protocols, TensorRT's keys are passed over, and a killed worker is replaced."""
    built.run("up", "--no-build", "--wait", "--wait-timeout", "600", "build", service)
    for url in (built.grpc_url, built.http_url):
        with Client(url) as client:
            for model in ("resnet50", "resnet50_torchscript", "resnet50_fp16"):
                assert client.classify(cat, model=model).top.index in CAT_CLASSES
    built.kill_worker(service)
    with Client(built.grpc_url, timeout_s=60) as client:
        client.wait_until_ready(60)
        assert client.classify(cat).top.index in CAT_CLASSES
    assert "a worker of preprocess died" in built.logs(service)
    built.run("stop", service)


def test_service_without_its_default_model_ends(built: Project) -> None:
    """Compose does not wait for the healthcheck: the container ends, and the reason is in its log."""
    damage = "echo damaged > /models/network_onnx/1/model.onnx"
    built.run("run", "--rm", "--no-deps", "-T", "--entrypoint", "sh", "build", "-c", damage)
    done = built.run("up", "--no-build", "--no-deps", "--wait", "--wait-timeout", "300", "triton-cpu", check=False)
    assert done.returncode != 0
    assert "the default model resnet50 could not be loaded, so the server ends; network_onnx: " in built.logs(
        "triton-cpu"
    )
