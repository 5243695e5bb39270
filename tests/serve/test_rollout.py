"""``resnet-serve rollout`` on the real server, with two small networks, each behind an ensemble."""

from __future__ import annotations

import contextlib
import dataclasses
import io
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from PIL import Image
from resnet_client import Client, ClientConfig, UnavailableError
from resnet_client.admin import ModelControl
from resnet_serve import ServerConfig, TritonServer
from resnet_serve.rollout import cli
from resnet_serve.rollout.rollout import Rollout, RolloutError
from tritonclient.grpc import model_config_pb2 as pb

from .conftest import add_network
from .small_network import OTHER, SHARPER, network

ENSEMBLES = {"network_a": "resnet50_a", "network_b": "resnet50_b"}
# How long small networks take is noise.
ANY_LATENCY = ("--max-p99-ratio", "1000")


class Ended(NamedTuple):
    """How a rollout has ended."""

    code: int
    printed: str
    errors: str


@dataclasses.dataclass
class Service:
    """A running server, its repository, and a client and model control for it."""

    repository: Path
    server: TritonServer
    client: Client
    control: ModelControl

    def place(self, **contents: bytes) -> None:
        """Put version 2 of networks into the repository."""
        for name, content in contents.items():
            (self.repository / name / "2").mkdir()
            (self.repository / name / "2/model.onnx").write_bytes(content)

    def directories(self, name: str) -> list[str]:
        """The directories of a network."""
        return sorted(path.name for path in (self.repository / name).iterdir() if path.is_dir())

    def versions(self, name: str) -> list[str]:
        """The loaded versions of a network."""
        return self.client.metadata(model=name)["model"]["versions"]

    def arguments(self, version: int, *arguments: str) -> list[str]:
        """Those of a rollout, after ``resnet-serve rollout``."""
        here = ["--url", self.server.grpc_url, "--repository", str(self.repository), "--calls", "8"]
        return [*here, "--model-version", str(version), *arguments]

    def roll_out(self, version: int, *arguments: str, token: str | None = None) -> Ended:
        """Run the command, in this process."""
        printed, errors = io.StringIO(), io.StringIO()
        with (
            pytest.MonkeyPatch.context() as patch,
            contextlib.redirect_stdout(printed),
            contextlib.redirect_stderr(errors),
        ):
            patch.setenv("RESNET_ADMIN_TOKEN", self.server.admin_token if token is None else token)
            code = cli.main(self.arguments(version, *arguments))
        return Ended(code, printed.getvalue(), errors.getvalue())

    def assert_unchanged(self) -> None:
        """Version 1 of both networks is the only one loaded, and no copy is."""
        for name in ENSEMBLES:
            assert self.versions(name) == ["1"]
            assert not self.client.is_ready(model=f"{name}_candidate")


@pytest.fixture(scope="module")
def running(repository_copy: Any) -> Iterator[Service]:
    """Version 1 of both networks, in service."""
    repository_copy.add("preprocess")
    for name, ensemble in ENSEMBLES.items():
        repository_copy.add("network_onnx", name, _three_classes)
        repository_copy.add("resnet50", ensemble, lambda config, name=name: _ends_in(config, name))
        file = repository_copy.folder / name / "1/model.onnx"
        file.unlink()  # it is linked to the built repository's
        file.write_bytes(network())
    with (
        TritonServer(ServerConfig(repository_copy.folder, port=0)) as server,
        Client(server.grpc_url) as client,
        ModelControl(ClientConfig(server.grpc_url, admin_token=server.admin_token)) as control,
    ):
        yield Service(repository_copy.folder, server, client, control)


def _three_classes(config: pb.ModelConfig) -> None:
    del config.output[1:]
    config.output[0].dims[:] = [3]


def _ends_in(config: pb.ModelConfig, name: str) -> None:
    _three_classes(config)
    step = config.ensemble_scheduling.step[1]
    step.model_name = name
    del step.output_map["FEATURES__1"]


@pytest.fixture
def service(running: Service) -> Iterator[Service]:
    """The server with version 1 in service, before and after each test."""
    yield running
    for name in ENSEMBLES:
        for directory in set(running.directories(name)) - {"1"}:
            shutil.rmtree(running.repository / name / directory)
        running.control.load(name)
        assert running.versions(name) == ["1"]


def test_rollout_needs_the_token(service: Service) -> None:
    """Exit code 3, and the variable that is wrong."""
    result = service.roll_out(2, token="wrong")  # noqa: S106  # opens nothing
    assert result.code == 3
    assert "RESNET_ADMIN_TOKEN" in result.errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "version 2 of network_a, network_b is not in "),
        (("--model", "network_b", "--model", "network_a"), "version 2 of network_a is not in "),
        # An ensemble is not a network.
        (("--model", "resnet50_a"), "does not serve a network resnet50_a; it serves network_a, network_b"),
    ],
)
def test_rollout_reports_what_is_missing(service: Service, arguments: tuple[str, ...], message: str) -> None:
    """Exit code 3, and how to make it."""
    if arguments:
        service.place(network_b=network())
    result = service.roll_out(2, *arguments)
    assert result.code == 3
    assert message in result.errors


def test_rollout_brings_versions_into_service_and_back(service: Service) -> None:
    """All networks of the version switch, with their ensembles; going back renames what a restart would serve."""
    service.place(network_a=network(SHARPER), network_b=network(SHARPER))
    result = service.roll_out(2, *ANY_LATENCY)
    assert result.code == 0, result
    for name, ensemble in ENSEMBLES.items():
        assert service.versions(name) == ["1", "2"]
        assert f"  {ensemble}: same top-1 as version 2 on 8 of 8 images" in result.printed.splitlines()
    again = service.roll_out(2)
    assert again.code == 0
    assert again.printed.splitlines() == [f"{name}: version 2 is already in service" for name in ENSEMBLES]
    assert service.directories("network_a") == ["1", "2"]
    (service.repository / "network_a/refused-2").mkdir()  # what was set aside before stays
    back = service.roll_out(1)
    assert back.code == 0, back
    service.assert_unchanged()
    assert service.directories("network_a") == ["1", "refused-2", "refused-2-2"]
    assert service.directories("network_b") == ["1", "refused-2"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(network(OTHER), "on 0.0% of the images; --min-agreement requires 99%", id="agreement"),
        pytest.param(network()[:-500], "network_a_candidate cannot be loaded: ", id="corrupt"),
        pytest.param(network(np.eye(3, 2)), "network_a_candidate", id="classes"),
        pytest.param(network(softmax=False), "is not between 0 and 1", id="logits"),
        pytest.param(network(products=20), "its p99 latency is", id="slow"),
        pytest.param(None, "network_a/2 has no model.onnx", id="no-file"),
    ],
)
def test_rollout_refuses_an_unfit_version(service: Service, content: bytes | None, reason: str) -> None:
    """Exit code 1 and the reason; the old version stays in service, and no restart serves the new one."""
    service.place(network_a=content or b"")
    if content is None:
        (service.repository / "network_a/2/model.onnx").unlink()
    result = service.roll_out(2)
    assert result.code == 1, result
    refusal = next(line for line in result.printed.splitlines() if "is refused" in line)
    assert refusal.startswith("network_a: version 2 is refused: ")
    assert reason in refusal
    assert result.printed.endswith("the old versions stay in service\n")
    service.assert_unchanged()
    assert service.directories("network_a") == ["1", "refused-2"]


def test_rollout_refuses_all_networks_if_one_is_unfit(service: Service) -> None:
    """Versions of one number belong together: the good one is set aside, too."""
    service.place(network_a=network(SHARPER), network_b=network(OTHER))
    result = service.roll_out(2, *ANY_LATENCY)
    assert result.code == 1, result
    assert "network_b: version 2 is refused" in result.printed
    assert "switching" not in result.printed
    service.assert_unchanged()
    assert service.directories("network_a") == service.directories("network_b") == ["1", "refused-2"]


@pytest.mark.parametrize(("weights", "code"), [(SHARPER, 0), (OTHER, 1)])
def test_dry_run_changes_nothing(service: Service, weights: np.ndarray, code: int) -> None:
    """The exit code is the verdict, and even a refused version stays where it is."""
    service.place(network_a=network(weights))
    result = service.roll_out(2, "--dry-run", *ANY_LATENCY)
    assert result.code == code, result
    service.assert_unchanged()
    assert service.directories("network_a") == ["1", "2"]


def test_images_of_a_directory_are_compared(service: Service, tmp_path: Path) -> None:
    """All of them if they are fewer than ``--calls``; without images, exit code 3."""
    service.place(network_a=network(SHARPER))
    empty = service.roll_out(2, "--images", str(tmp_path), "--dry-run")
    assert empty.code == 3
    assert "contains no images" in empty.errors
    for number in range(3):
        Image.new("RGB", (400, 300), (200, 90 * number, 0)).save(tmp_path / f"{number}.png")
    result = service.roll_out(2, "--images", str(tmp_path), "--dry-run", *ANY_LATENCY)
    assert result.code == 0, result
    assert "same top-1: 100.0% of 3 images" in result.printed
    assert service.directories("network_a") == ["1", "2"]


@pytest.fixture
def compared(service: Service, tmp_path: Path) -> Path:
    """A copy of the repository with good new versions; in the server's own, that of network_b is another."""
    service.place(network_a=network(SHARPER), network_b=network(SHARPER))
    shutil.copytree(service.repository, tmp_path / "copy")
    (service.repository / "network_b/2/model.onnx").write_bytes(network(OTHER))
    return tmp_path / "copy"


def test_rollout_goes_back_if_the_server_has_another_file(service: Service, compared: Path) -> None:
    """Ensembles and networks have to answer as the version that was compared; if one does not, all go back."""
    result = service.roll_out(2, "--repository", str(compared), *ANY_LATENCY)
    assert result.code == 1, result
    assert "network_a: version 2 is in service" in result.printed
    assert (
        "version 2 is refused: after the switch, network_b classifies test images differently from version 2"
        in result.printed
    )
    service.assert_unchanged()
    assert sorted(path.name for path in (compared / "network_a").iterdir() if path.is_dir()) == ["1", "refused-2"]


class Failing(ModelControl):
    """Model control that cannot load version 1 of one network again."""

    def load(self, model: str, config: Any = None, files: Any = None) -> None:
        """Load, or fail."""
        if files is None and (model, config["version_policy"]["specific"]["versions"]) == ("network_a", [1]):
            raise UnavailableError("no server here")
        super().load(model, config, files)


def test_rollout_takes_back_all_networks_that_it_can(service: Service, compared: Path) -> None:
    """The refused versions are set aside, and the error names the network that needs a person."""
    options = cli.parser().parse_args(service.arguments(2, *ANY_LATENCY, "--repository", str(compared)))
    with (
        Failing(ClientConfig(service.server.grpc_url, admin_token=service.server.admin_token)) as control,
        pytest.raises(RolloutError, match="version 1 of network_a could not be loaded again .* or restart the server"),
    ):
        Rollout(control, service.client, options).run()
    assert service.versions("network_a") == ["1", "2"]
    assert service.versions("network_b") == ["1"]
    assert not (compared / "network_a/2").exists()
    assert not (compared / "network_b/2").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_interrupted_rollout_changes_nothing(service: Service, number: signal.Signals) -> None:
    """After SIGTERM no copy stays loaded; one that SIGKILL leaves is replaced, not compared, by the next rollout."""
    # Slow, so that it is interrupted while latencies are measured.
    service.place(network_a=network(SHARPER, products=6))
    environment = {**os.environ, "RESNET_ADMIN_TOKEN": service.server.admin_token}
    command = [sys.executable, "-m", "resnet_serve", "rollout", *service.arguments(2, "--calls", "24")]
    with subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert any("largest difference" in line for line in process.stdout)
        process.send_signal(number)
        _, complaint = process.communicate(timeout=60)
    if number == signal.SIGTERM:
        assert process.returncode == 130
        assert "interrupted; the old version stays in service" in complaint
        service.assert_unchanged()
    assert service.directories("network_a") == ["1", "2"]
    (service.repository / "network_a/2/model.onnx").write_bytes(network(OTHER))
    result = service.roll_out(2)
    assert result.code == 1
    assert "equals that of the old version on 0.0% of the images" in result.printed
    service.assert_unchanged()


def test_rollout_needs_model_control(tmp_path: Path) -> None:
    """Exit code 3, and the flags that allow it; the directory stays where it is."""
    add_network(tmp_path, "network_a")
    with (
        TritonServer(ServerConfig(tmp_path, port=0, triton_args=("--model-control-mode=none",))) as server,
        Client(server.grpc_url) as client,
        ModelControl(ClientConfig(server.grpc_url)) as control,
    ):
        service = Service(tmp_path, server, client, control)
        service.place(network_a=network())
        result = service.roll_out(2)
    assert result.code == 3, result
    assert "start it with --model-control-mode=explicit --load-model=" in result.errors
    assert (tmp_path / "network_a/2").is_dir()
