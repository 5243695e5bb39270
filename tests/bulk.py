"""Runs of ``resnet-client bulk`` as processes that may be killed, and images for them."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from PIL import Image


def write_crops(folder: Path, images: Iterable[Path], count: int, side: int) -> Path:
    """Cut ``count`` square JPEGs out of images, each elsewhere; one in a hundred is damaged."""
    folder.mkdir()
    scenes = [Image.open(path).convert("RGB") for path in images]
    dice = random.Random(7)  # noqa: S311  # the same crops each time
    for number in range(count):
        scene = scenes[number % len(scenes)]
        left, top = (dice.randrange(size - side) for size in scene.size)
        path = folder / f"{number:06d}.jpg"
        scene.crop((left, top, left + side, top + side)).save(path, quality=90)
        if number % 100 == 10:
            path.write_bytes(path.read_bytes()[:200])
    return folder


def start(url: str, source: Path, output: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start a run; it prints a summary to standard error."""
    command = [sys.executable, "-m", "resnet_client", "bulk", str(source), "--output", str(output), "--url", url]
    return subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE, text=True)


def finish(process: subprocess.Popen[str], timeout_s: float = 250.0) -> str:
    """Wait for a run that ends by itself, with damaged images in it; returns what it printed."""
    _, printed = process.communicate(timeout=timeout_s)
    assert process.returncode == 1, printed
    return printed


def kill_when(process: subprocess.Popen[str], ready: Callable[[], bool], timeout_s: float = 120.0) -> None:
    """End a run by SIGKILL as soon as ``ready`` returns true."""
    began_s = time.monotonic()
    while not ready():
        assert process.poll() is None, "it ended before it was killed"
        assert time.monotonic() - began_s < timeout_s, "it does not get that far"
        time.sleep(0.005)
    process.kill()
    process.communicate()


def parts(output: Path) -> int:
    """Parts written so far."""
    return len(list(output.with_name(f"{output.name}.parts").glob("part-*.parquet")))
