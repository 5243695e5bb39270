"""A new version comes into service under load without a failed request, or not at all."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from resnet_build import configs
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer

from .conftest import Callers

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(900)]

CAT = 285
NETWORK, ENSEMBLE = "network_onnx", "resnet50"
Change = Callable[[np.ndarray], np.ndarray]


def shifted(weights: np.ndarray) -> np.ndarray:
    """Every class becomes the one after it: nothing agrees, and the cat is 286."""
    return np.roll(weights, 1, axis=0)


def sharpened(weights: np.ndarray) -> np.ndarray:
    """The same classes with other probabilities: all agree, and each answer shows its version."""
    return weights * np.float32(1.1)


def changed(file: Path, change: Change) -> bytes:
    """A network with another last layer."""
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if ".fc." in tensor.name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return model.SerializeToString()


class Observed:
    """A client whose answers are recorded, with the times of request and answer."""

    def __init__(self, client: Client) -> None:
        self.answers: list[tuple[float, float, int, float]] = []
        self._client = client

    def classify(self, image: Path, **options: object) -> object:
        """Classify, and record class and probability; its last decimals vary with the batch."""
        sent_s = time.monotonic()
        found = self._client.classify(image, **options)
        self.answers.append((sent_s, time.monotonic(), found.top.index, round(found.top.probability, 3)))
        return found

    @property
    def seen(self) -> set[tuple[int, float]]:
        """The different answers."""
        return {(index, probability) for _, _, index, probability in self.answers}


@dataclasses.dataclass
class Service:
    """A network that is served, and a client of it.

    Attributes:
        directory: its directory in the repository.
        server: serves it.
        client: sends requests to it.
        image: of a cat.
    """

    directory: Path
    server: TritonServer
    client: Client
    image: Path

    @property
    def file(self) -> Path:
        """The file of version 1."""
        return next((self.directory / "1").iterdir())

    def place(self, content: bytes) -> None:
        """Put version 2 into the repository."""
        (self.directory / "2").mkdir()
        (self.directory / "2" / self.file.name).write_bytes(content)

    def versions(self) -> list[str]:
        """Versions in service."""
        return self.client.metadata(model=NETWORK)["model"]["versions"]

    def callers(self, observed: Observed) -> tuple[Callers, Callers]:
        """Callers of the ensemble, and one of the network itself."""
        return (
            Callers(observed, self.image, count=2, model=ENSEMBLE),
            Callers(observed, self.image, count=1, model=NETWORK, preprocessing="client"),
        )

    def roll_out(self, version: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        command = [sys.executable, "-m", "resnet_serve", "rollout", "--model-version", str(version), "--calls", "8"]
        command += ["--url", self.server.grpc_url, "--repository", str(self.directory.parent), *arguments]
        environment = {**os.environ, "RESNET_ADMIN_TOKEN": self.server.admin_token}
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600, check=False)


@pytest.fixture(scope="module")
def service(
    plain_repository: Path, images: dict[str, Path], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Service]:
    """Version 1 of one network, in service behind its ensemble, as resnet-serve does it by default."""
    folder = tmp_path_factory.mktemp("rollout")
    for model in ("preprocess", NETWORK, ENSEMBLE):
        shutil.copytree(plain_repository / model, folder / model)
    # Each load warms up with all batches of the configuration; two of them show as much as six.
    path = folder / NETWORK / "config.pbtxt"
    config = configs.parse(path.read_text())
    del config.model_warmup[2:]
    path.write_text(str(config))
    with (
        TritonServer(ServerConfig(folder, port=0)) as server,
        # Without a second attempt, so that the test sees each request that fails.
        Client(server.grpc_url, max_attempts=1, timeout_s=120) as client,
    ):
        yield Service(folder / NETWORK, server, client, images["cat"])


def test_rollout_serves_no_answer_of_a_refused_version(service: Service, note: Callable[[str], None]) -> None:
    """The version is refused, and no client gets an answer from it."""
    service.place(changed(service.file, shifted))
    observed = Observed(service.client)
    ensemble, network = service.callers(observed)
    with ensemble, network:
        result = service.roll_out(2)
        ensemble.wait_for(5)
    assert result.returncode == 1, result.stdout + result.stderr
    assert "its top-1 class equals that of the old version on 0.0% of the images" in result.stdout
    assert service.versions() == ["1"]
    assert sorted(path.name for path in service.directory.iterdir() if path.is_dir()) == ["1", "refused-2"]
    calls = ensemble.calls + network.calls
    assert not ensemble.failed + network.failed
    assert {index for index, _ in observed.seen} == {CAT}
    longest_s = max(call.duration_s for call in calls)
    note(f"0 of {len(calls)} calls failed, none saw version 2, the longest took {longest_s:.1f} s")


def test_rollout_of_a_good_version_fails_no_request(service: Service, note: Callable[[str], None]) -> None:
    """Every answer is one version's or the other's, the new one's from the switch on; going back likewise."""
    service.place(changed(service.file, sharpened))
    observed = Observed(service.client)
    ensemble, network = service.callers(observed)
    started_s = time.monotonic()
    with ensemble, network:
        ensemble.wait_for(5)
        result = service.roll_out(2, "--max-p99-ratio", "5")
        rollout_s = time.monotonic() - started_s
        assert result.returncode == 0, result.stdout + result.stderr
        assert service.versions() == ["1", "2"]
        ensemble.wait_for(10)
        network.wait_for(5)
        back_at_s, forth = time.monotonic(), len(observed.answers)
        back = service.roll_out(1)
        back_s = time.monotonic() - back_at_s
        assert back.returncode == 0, back.stdout + back.stderr
        ensemble.wait_for(10)
        network.wait_for(5)
    assert not ensemble.failed
    # A version that is taken out takes along what the network itself is computing with it: docs/rollout.md.
    assert all("version 2 is not at ready state" in str(call.error) for call in network.failed)
    assert all(call.sent_s + call.duration_s > back_at_s for call in network.failed)
    assert len(network.failed) <= 1
    assert service.versions() == ["1"]
    assert [path.name for path in service.directory.iterdir() if path.name[0].isdigit()] == ["1"]
    first, last = observed.answers[0][2:], observed.answers[forth - 1][2:]
    assert first != last
    assert observed.seen == {first, last}
    assert_switched_once(observed.answers[:forth], last)
    assert_switched_once(observed.answers[forth - 1 :], first)
    longest_s = max(call.duration_s for call in ensemble.calls + network.calls)
    note(
        f"0 of {len(ensemble.calls)} calls of the ensemble failed in a rollout of {rollout_s:.0f} s and a way back "
        f"of {back_s:.0f} s, the longest took {longest_s:.1f} s"
    )


def assert_switched_once(answers: list[tuple[float, float, int, float]], new: tuple[int, float]) -> None:
    """No request sent after the first answer of the new version got one of the old version's."""
    first_s = min(answered_s for _, answered_s, *answer in answers if tuple(answer) == new)
    assert all(tuple(answer) == new for sent_s, _, *answer in answers if sent_s > first_s)
