"""What all tests share: one built repository, one real server, images that packages ship."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from corpus import Case
from corpus.hostile import hostile_images
from corpus.odd import odd_images
from google.protobuf import text_format
from hypothesis import settings
from PIL import Image
from resnet_client import ClientConfig
from resnet_client.admin import ModelControl
from resnet_client.named_configs import config_files, default_name
from resnet_serve import ServerConfig, TritonServer
from tritonclient.grpc import model_config_pb2 as pb

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT.parent / "shared" / "imagenet-sample"

# `quick` uses the same inputs each time, `deep` others each time. No deadlines: they depend on the load of the machine.
settings.register_profile("quick", max_examples=60, deadline=None, derandomize=True)
settings.register_profile("deep", max_examples=600, deadline=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


# Shells start background jobs with SIGINT ignored, and commands that tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)

# One token for every server and every client of the run, in this process and below it, as an operator would
# have it; test_access.py has neither.
os.environ.setdefault("RESNET_ADMIN_TOKEN", secrets.token_urlsafe())


@dataclasses.dataclass(frozen=True)
class LabelledImage:
    """An image whose ImageNet class is known."""

    path: Path
    class_index: int


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of a run share."""
    folder = tmp_path_factory.getbasetemp()
    return folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder


@pytest.fixture(scope="session")
def repository(shared_folder: Path) -> Path:
    """Build the default repository with real weights, once; later runs find it up to date."""
    return _built(ROOT / ".test-repository", shared_folder)


@pytest.fixture(scope="session")
def variant_repository(shared_folder: Path) -> Path:
    """Build a repository with all variants for CPUs, whose ``resnet50`` ends in BF16, once; tests leave it as it is."""
    options = ("--variant=int8", "--variant=fp32", "--default-model=bf16")
    return _built(ROOT / ".test-repository-variants", shared_folder, *options)


def _built(repository: Path, shared: Path, *options: str) -> Path:
    command = [sys.executable, "-m", "resnet_build", "--weights", "keras-v1", "--repository", str(repository), *options]
    with (shared / f"{repository.name}.built").open("a") as built:  # the second worker waits, and finds a line
        fcntl.flock(built, fcntl.LOCK_EX)
        if not os.fstat(built.fileno()).st_size:
            subprocess.run(command, check=True, timeout=600)
            built.write("yes\n")
    return repository


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[TritonServer]:
    """The real server on free ports with the default model, for the whole run."""
    with TritonServer(ServerConfig(repository, port=0)) as running:
        yield running


@pytest.fixture(scope="session")
def all_models(server: TritonServer) -> TritonServer:
    """The same server with all models; TorchScript takes twice as long to load as the server to start."""
    with ModelControl(ClientConfig(server.grpc_url, admin_token=server.admin_token)) as control:
        control.load("resnet50_torchscript")
    return server


@pytest.fixture(scope="session")
def images() -> dict[str, Path]:
    """Images that scikit-image and scikit-learn ship, by name."""
    from resnet_client.example_images import everyday

    names = {"chelsea": "cat"}
    found = {names.get(path.stem, path.stem): path for path in everyday()}
    assert {"cat", "coffee", "rocket", "flower"} <= found.keys()
    return found


@pytest.fixture(scope="session")
def corpus(images: dict[str, Path]) -> list[Case]:
    """Odd and hostile images, a few hundred, of all the kinds that ``tests/corpus`` makes."""
    scene = Image.open(images["coffee"]).convert("RGB")
    scene.thumbnail((240, 240))
    return [*odd_images(scene), *hostile_images(scene)]


@pytest.fixture(scope="session")
def imagenet_sample() -> list[LabelledImage]:
    """Real ImageNet images, where the machine has them."""
    table = SAMPLE / "labels.csv"
    if not table.exists():
        pytest.skip("no ImageNet images here: ../shared/imagenet-sample is missing")
    with table.open(newline="", encoding="utf-8") as stream:
        return [LabelledImage(SAMPLE / row["file"], int(row["class_index"])) for row in csv.DictReader(stream)]


@pytest.fixture(scope="session")
def plain_repository(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The built repository without named configs, for copies: ``config.pbtxt`` is what ``resnet-serve`` uses."""
    folder = tmp_path_factory.mktemp("plain") / "repository"
    ignored = shutil.ignore_patterns("configs", "config.pbtxt", ".*")
    shutil.copytree(repository, folder, copy_function=_link, ignore=ignored)
    for model, path in config_files(repository, default_name(repository)).items():
        shutil.copyfile(path, folder / model / "config.pbtxt")
    return folder


class RepositoryCopy:
    """Models of the built repository in a folder of the test's own; artifacts are linked where they can be.

    Warm-up is left out: it takes most of a start.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder = folder
        self._source = source

    def add(self, model: str, name: str = "", change: Callable[[pb.ModelConfig], None] | None = None) -> None:
        """Copy a model, under another name if one is given, and change its configuration."""
        target = self.folder / (name or model)
        shutil.copytree(self._source / model, target, copy_function=_link, ignore=lambda *_: {"config.pbtxt"})
        text = (self._source / model / "config.pbtxt").read_text()
        config = text_format.Parse(text, pb.ModelConfig())
        config.name = target.name
        del config.model_warmup[:]
        if change is not None:
            change(config)
        origin, _, _ = text.partition("\n")  # a comment, without which tune refuses the config
        (target / "config.pbtxt").write_text(f"{origin}\n{text_format.MessageToString(config)}")


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another file system
        shutil.copyfile(source, target)


@pytest.fixture(scope="module")
def repository_copy(plain_repository: Path, tmp_path_factory: pytest.TempPathFactory) -> RepositoryCopy:
    """An empty folder that models of the built repository can be copied into."""
    return RepositoryCopy(plain_repository, tmp_path_factory.mktemp("repository"))


@pytest.fixture
def free_port() -> int:
    """A port without a listener."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        port: int = listener.getsockname()[1]
        return port


@pytest.fixture
def browser() -> Iterator[Any]:
    """Chromium, where it is installed."""
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("there is no Chromium here (Debian: apt-get install chromium)")
    with sync_playwright() as play:
        chromium = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()
