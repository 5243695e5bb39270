"""The example that trains ten classes: from images to a served network that knows them."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


def test_ten_classes_are_learnt_and_served(server: TritonServer, images: dict[str, Path], tmp_path: Path) -> None:
    """Five scenes, upright and upside down; the tuned network, built and served, names crops that it has never seen."""
    scenes = {name: images[name] for name in ("cat", "coffee", "rocket", "flower", "china")}
    kinds = [(scene, turn) for scene in scenes for turn in (0, 180)]
    dice = random.Random(1)  # noqa: S311  # the same crops each time

    def crop(scene: str, turn: int) -> Image.Image:
        with Image.open(scenes[scene]) as image:
            side = min(image.size) * 3 // 4
            left, top = (dice.randint(0, size - side) for size in image.size)
            square = image.convert("RGB").crop((left, top, left + side, top + side))
        return square.resize((256, 256)).rotate(turn)

    for scene, turn in kinds:
        folder = tmp_path / "images" / f"{scene} {turn}"
        folder.mkdir(parents=True)
        for number in range(8):
            crop(scene, turn).save(folder / f"{number}.jpg")
    environment = {**os.environ, "RESNET_URL": server.grpc_url}
    tuned = tmp_path / "mine.safetensors"
    command = [sys.executable, EXAMPLES / "fine_tune.py", tmp_path / "images", "--weights", "keras-v1", "--out", tuned]
    subprocess.run(command, env=environment, check=True, timeout=300)
    build = ["--weights", tuned, "--labels", tuned.with_suffix(".txt"), "--arch", "v1", "--resize", "256"]
    repository = tmp_path / "repository"
    command = [sys.executable, "-m", "resnet_build", *build, "--max-batch-size", "2", "--repository", repository]
    subprocess.run(command, check=True, timeout=300)
    with TritonServer(ServerConfig(repository, port=0)) as mine, Client(mine.grpc_url) as client:
        found = [client.classify(crop(*kind)).top.label for kind in kinds]
    right = [label == f"{scene} {turn}" for label, (scene, turn) in zip(found, kinds, strict=True)]
    assert sum(right) >= len(kinds) - 1
