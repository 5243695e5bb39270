"""The detector, trained on scenes with one object, and served feature maps of real weights."""

from __future__ import annotations

import csv
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from resnet_serve import ServerConfig, TritonServer
from torchvision.ops import box_iou

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


def scenes(folder: Path, images: dict[str, Path], count: int, seed: int) -> list[tuple[str, list[int]]]:
    """Paste the face of the cat somewhere into other images; returns file names and boxes."""
    dice = random.Random(seed)  # noqa: S311  # the same scenes each time
    face = Image.open(images["cat"]).convert("RGB").crop((100, 0, 330, 230))
    folder.mkdir()
    boxes = []
    for number in range(count):
        with Image.open(images[dice.choice(("coffee", "rocket", "china", "flower"))]) as image:
            left, top = dice.randint(0, image.width - 320), dice.randint(0, image.height - 240)
            scene = image.convert("RGB").crop((left, top, left + 320, top + 240))
        side = dice.randint(60, 140)
        x, y = dice.randint(0, 320 - side), dice.randint(0, 240 - side)
        scene.paste(face.resize((side, side)), (x, y))
        scene.save(folder / f"{number}.jpg")
        boxes.append((f"{number}.jpg", [x, y, x + side, y + side]))
    return boxes


def test_detector_finds_objects_in_new_scenes(
    example: Callable[..., str], images: dict[str, Path], tmp_path: Path
) -> None:
    """Of ten, nine at least, as the first box."""
    with (tmp_path / "boxes.csv").open("w", newline="") as table:
        rows = csv.writer(table)
        rows.writerow(("file", "left", "top", "right", "bottom"))
        rows.writerows((f"train/{name}", *box) for name, box in scenes(tmp_path / "train", images, 48, seed=1))
    build = [sys.executable, "-m", "resnet_build", "--weights", "keras-v1", "--backbone", "--max-batch-size", "2"]
    subprocess.run([*build, "--repository", str(tmp_path / "repository")], check=True, timeout=300)
    with TritonServer(ServerConfig(tmp_path / "repository", ("resnet50_backbone",), port=0)) as server:
        assert "epoch 12" in example("detect.py", "train", "boxes.csv", url=server.grpc_url)
        expected = {f"new/{name}": box for name, box in scenes(tmp_path / "new", images, 10, seed=2)}
        shown = example("detect.py", "find", *expected, url=server.grpc_url).splitlines()
    first = {line.split()[0]: [float(side) for side in line.split()[1:]] for line in reversed(shown)}
    found = [first.get(name, [0.0] * 4) for name in expected]
    overlaps = box_iou(torch.tensor(list(expected.values())), torch.tensor(found)).diagonal()
    assert (overlaps > 0.5).sum() >= 9, overlaps
