"""A new version comes into service under load without a failed request, or not at all."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper
from resnet_build import configs
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer

from .conftest import Callers

pytestmark = [pytest.mark.reliability, pytest.mark.timeout(900)]

CAT = 285
ENSEMBLES = {"network_onnx": "resnet50", "network_torchscript": "resnet50_torchscript"}
Change = Callable[[np.ndarray], np.ndarray]


def shifted(weights: np.ndarray) -> np.ndarray:
    """Every class becomes the one after it: nothing agrees, and the cat is 286."""
    return np.roll(weights, 1, axis=0)


def sharpened(weights: np.ndarray) -> np.ndarray:
    """The same classes with greater certainty: all agree, and every answer tells its version."""
    return weights * np.float32(1.1)


def changed(file: Path, change: Change) -> bytes:
    """A network with another last layer."""
    return _changed_onnx(file, change) if file.suffix == ".onnx" else _changed_torchscript(file, change)


def _changed_onnx(file: Path, change: Change) -> bytes:
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if ".fc." in tensor.name:
            tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), tensor.name))
    return model.SerializeToString()


def _changed_torchscript(file: Path, change: Change) -> bytes:
    import torch

    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore", FutureWarning)
        module = torch.jit.load(file)
        for name, tensor in module.named_parameters():
            if ".fc." in name:
                tensor.copy_(torch.from_numpy(change(tensor.numpy()).copy()))
        return module.save_to_buffer()


def ten_classes(file: Path) -> bytes:
    """A network of ten classes."""
    model = onnx.load(file)
    for tensor in model.graph.initializer:
        if ".fc." in tensor.name:
            tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor)[:10].copy(), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 10
    return model.SerializeToString()


def slowed(file: Path) -> bytes:
    """The same answers after idle work: large products whose sum, times zero, is added to them."""
    model = onnx.load(file)
    graph = model.graph
    noise = np.random.default_rng(0).normal(0, 0.01, (2048, 2048)).astype(np.float32)
    graph.initializer.extend([numpy_helper.from_array(noise, "idle"), numpy_helper.from_array(np.float32(0), "zero")])
    graph.node[-1].output[0] = "answer"
    last = graph.node[-2].input[0]
    for number in range(400):
        graph.node.append(helper.make_node("MatMul", [last, "idle"], [f"product_{number}"]))
        graph.node.append(helper.make_node("Tanh", [f"product_{number}"], [last := f"bounded_{number}"]))
    graph.node.append(helper.make_node("ReduceMean", [last], ["mean"], keepdims=0))
    graph.node.append(helper.make_node("Mul", ["mean", "zero"], ["nothing"]))
    graph.node.append(helper.make_node("Add", ["answer", "nothing"], ["PROBABILITIES__0"]))
    return model.SerializeToString()


class Observed:
    """A client whose answers are noted, with the times when they were asked for and given."""

    def __init__(self, client: Client) -> None:
        self.answers: list[tuple[float, float, int, float]] = []
        self._client = client

    def classify(self, photo: Path, **options: object) -> object:
        """Ask, and note class and probability; batches make the last of its decimals waver."""
        sent_s = time.monotonic()
        found = self._client.classify(photo, **options)
        self.answers.append((sent_s, time.monotonic(), found.top.index, round(found.top.probability, 3)))
        return found

    @property
    def seen(self) -> set[tuple[int, float]]:
        """The different answers."""
        return {(index, probability) for _, _, index, probability in self.answers}


@dataclasses.dataclass
class Service:
    """A network that is served, its folder, and who asks it.

    Attributes:
        network: its name.
        folder: its folder in the repository.
        server: serves it.
        client: asks it.
        photo: of a cat.
    """

    network: str
    folder: Path
    server: TritonServer
    client: Client
    photo: Path

    @property
    def file(self) -> Path:
        """The file of version 1."""
        return next((self.folder / "1").iterdir())

    def place(self, content: bytes | None) -> None:
        """Put version 2 into the repository; None puts its folder there, and no file."""
        (self.folder / "2").mkdir()
        if content is not None:
            (self.folder / "2" / self.file.name).write_bytes(content)

    def versions(self) -> list[str]:
        """Versions in service."""
        return self.client.metadata(model=self.network)["model"]["versions"]

    def callers(self, observed: Observed) -> tuple[Callers, Callers]:
        """Callers of the ensemble, and one of the network itself."""
        return (
            Callers(observed, self.photo, count=2, model=ENSEMBLES[self.network]),
            Callers(observed, self.photo, count=1, model=self.network, preprocessing="client"),
        )

    def command(self, version: int, *arguments: str) -> list[str]:
        """The command line of a roll-out."""
        command = [sys.executable, "-m", "resnet_serve", "rollout", "--model-version", str(version), "--calls", "8"]
        return [*command, "--url", self.server.grpc_url, "--repository", str(self.folder.parent), *arguments]

    @property
    def environment(self) -> dict[str, str]:
        """Where the command finds the server's token."""
        return {**os.environ, "RESNET_ADMIN_TOKEN": self.server.admin_token}

    def roll_out(self, version: int, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run the command."""
        return subprocess.run(
            self.command(version, *arguments),
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )


@pytest.fixture(scope="module", params=sorted(ENSEMBLES))
def service(
    request: pytest.FixtureRequest,
    repository: Path,
    photos: dict[str, Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Service]:
    """Version 1 of one network, in service behind its ensemble, as resnet-serve does it by default."""
    folder = tmp_path_factory.mktemp("rollout")
    for model in ("preprocess", request.param, ENSEMBLES[request.param]):
        shutil.copytree(repository / model, folder / model)
    # Each load warms up with all batches of the configuration; two of them show as much as six.
    path = folder / request.param / "config.pbtxt"
    config = configs.parse(path.read_text())
    del config.model_warmup[2:]
    path.write_text(str(config))
    with (
        TritonServer(ServerConfig(folder, port=0)) as server,
        # No second attempt: a request that fails is to be seen.
        Client(server.grpc_url, max_attempts=1, timeout_s=120) as client,
    ):
        yield Service(request.param, folder / request.param, server, client, photos["cat"])


@pytest.fixture
def only_onnx(service: Service) -> Service:
    """The ONNX network; what is tested with it is no matter of the network's kind."""
    if service.network != "network_onnx":
        pytest.skip("tested with network_onnx")
    return service


def refused(service: Service, result: subprocess.CompletedProcess[str], reason: str) -> None:
    """Version 2 was refused for a reason, version 1 serves on, and no restart will find version 2."""
    assert result.returncode == 1, result.stdout + result.stderr
    assert re.search(f"version 2 is refused: {reason}", result.stdout), result.stdout
    assert service.versions() == ["1"]
    assert not (service.folder / "2").exists()
    assert [path.name for path in service.folder.glob("refused-2*")]


def test_a_bad_version_is_never_seen(service: Service, figure: Callable[[str], None]) -> None:
    """It is refused, and while it was judged, no caller got an answer of its."""
    service.place(changed(service.file, shifted))
    observed = Observed(service.client)
    ensemble, network = service.callers(observed)
    with ensemble, network:
        result = service.roll_out(2)
        ensemble.wait_for(5)
    refused(service, result, "it agrees on 0.0 % of the pictures")
    calls = ensemble.calls + network.calls
    assert not ensemble.failed + network.failed
    assert {index for index, _ in observed.seen} == {CAT}
    longest_s = max(call.duration_s for call in calls)
    figure(f"0 of {len(calls)} calls failed, none saw version 2, the longest took {longest_s:.1f} s")


def test_a_corrupt_version_leaves_the_old_one_serving(service: Service, figure: Callable[[str], None]) -> None:
    """A truncated file is refused with the runtime's own words; nobody notices."""
    content = service.file.read_bytes()
    service.place(content[: len(content) // 2])
    ensemble, network = service.callers(Observed(service.client))
    with ensemble, network:
        result = service.roll_out(2)
        ensemble.wait_for(5)
    refused(service, result, "it cannot be loaded: .+")
    assert not ensemble.failed + network.failed
    figure(f"0 of {len(ensemble.calls + network.calls)} calls failed")


def test_a_good_version_comes_without_a_failed_request(service: Service, figure: Callable[[str], None]) -> None:
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
    assert [path.name for path in service.folder.iterdir() if path.name[0].isdigit()] == ["1"]
    first, last = observed.answers[0][2:], observed.answers[forth - 1][2:]
    assert first != last
    assert observed.seen == {first, last}
    assert_switched_once(observed.answers[:forth], last)
    assert_switched_once(observed.answers[forth - 1 :], first)
    longest_s = max(call.duration_s for call in ensemble.calls + network.calls)
    figure(
        f"0 of {len(ensemble.calls)} calls of the ensemble failed in a roll-out of {rollout_s:.0f} s and a way back "
        f"of {back_s:.0f} s, the longest took {longest_s:.1f} s"
    )


def assert_switched_once(answers: list[tuple[float, float, int, float]], new: tuple[int, float]) -> None:
    """No request sent after the first answer of the new version got one of the old version's."""
    first_s = min(answered_s for _, answered_s, *answer in answers if tuple(answer) == new)
    assert all(tuple(answer) == new for sent_s, _, *answer in answers if sent_s > first_s)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(ten_classes, "it answers 10 classes instead of 1000|it does not answer", id="classes"),
        pytest.param(lambda _: None, ".*holds no model.onnx", id="missing"),
        pytest.param(slowed, r"its slowest calls \(p99\) take", id="slow"),
    ],
)
def test_an_unfit_version_is_refused(
    only_onnx: Service, content: Callable[[Path], bytes | None], reason: str, figure: Callable[[str], None]
) -> None:
    """Other classes, no file, too slow: each is told."""
    only_onnx.place(content(only_onnx.file))
    result = only_onnx.roll_out(2)
    refused(only_onnx, result, reason)
    figure(re.search("version 2 is refused: (.*)", result.stdout)[1])


def test_a_dry_run_changes_nothing(only_onnx: Service) -> None:
    """It gives the verdict, and leaves even a refused version where it is."""
    only_onnx.place(b"no network")
    result = only_onnx.roll_out(2, "--dry-run")
    assert result.returncode == 1
    assert "version 2 is refused: it cannot be loaded" in result.stdout
    assert (only_onnx.folder / "2/model.onnx").read_bytes() == b"no network"
    shutil.rmtree(only_onnx.folder / "2")


def test_an_interrupted_roll_out_leaves_no_copy_loaded(only_onnx: Service) -> None:
    """SIGTERM while the copy is loaded: exit code 3, the old version in service, nothing beside it."""
    only_onnx.place(only_onnx.file.read_bytes())
    with subprocess.Popen(
        only_onnx.command(2), env=only_onnx.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert "under another name" in process.stdout.readline()
        process.terminate()
        _, complaint = process.communicate(timeout=300)
    assert process.returncode == 3
    assert "interrupted; what was in service still is" in complaint
    assert only_onnx.versions() == ["1"]
    assert not only_onnx.client.is_ready(model="network_onnx_candidate")
    shutil.rmtree(only_onnx.folder / "2")


def test_a_file_of_its_own_is_published_after_the_verdict(only_onnx: Service, tmp_path: Path) -> None:
    """With ``--artifact``, a refused version never lies in the repository, and a good one does after the switch."""
    bad, good = tmp_path / "bad.onnx", tmp_path / "good.onnx"
    bad.write_bytes(changed(only_onnx.file, shifted))
    good.write_bytes(changed(only_onnx.file, sharpened))
    before = sorted(only_onnx.folder.iterdir())
    assert only_onnx.roll_out(2, "--artifact", str(bad)).returncode == 1
    assert sorted(only_onnx.folder.iterdir()) == before
    assert only_onnx.roll_out(2, "--artifact", str(good), "--max-p99-ratio", "5").returncode == 0
    assert (only_onnx.folder / "2/model.onnx").read_bytes() == good.read_bytes()
    assert only_onnx.roll_out(2).stdout == "network_onnx: version 2 is in service already\n"
    assert only_onnx.roll_out(1).returncode == 0
