"""From images of ten classes to a served network that names them, with the command that the example prints."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image
from resnet_client import Client
from resnet_serve import ServerConfig, TritonServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def test_ten_classes_are_learnt_and_served(
    example: Callable[..., str], images: dict[str, Path], tmp_path: Path
) -> None:
    """Five scenes, upright and upside down; the served network names crops that it has never seen."""
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
    build, _, serve = example("fine_tune.py", "images", "--weights", "keras-v1").splitlines()[-1].partition(" && ")
    assert serve == "resnet-serve --port 8010 --repository mine"
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    subprocess.run(["sh", "-c", build], cwd=tmp_path, env=environment, check=True, timeout=300)
    with TritonServer(ServerConfig(tmp_path / "mine", port=0)) as mine, Client(mine.grpc_url) as client:
        found = [client.classify(crop(*kind)).top.label for kind in kinds]
    right = [label == f"{scene} {turn}" for label, (scene, turn) in zip(found, kinds, strict=True)]
    assert sum(right) >= len(kinds) - 1
