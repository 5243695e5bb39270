"""Every example runs and prints its result."""

from __future__ import annotations

import contextlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from resnet_serve import TritonServer

from .conftest import EXAMPLES


def test_similar_images_are_found(
    server: TritonServer, example: Callable[..., str], images: dict[str, Path], tmp_path: Path
) -> None:
    """The most similar to a flipped image is the image itself; an image that failed is not listed."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("cat", "coffee", "rocket", "flower"):
        shutil.copy(images[name], folder)
    (folder / "broken.jpg").write_bytes(b"no image")
    embed = [sys.executable, "-m", "resnet_client", "embed", "--url", server.grpc_url, str(folder)]
    subprocess.run([*embed, "--output", str(tmp_path / "features.npz")], timeout=60, check=False)
    with Image.open(images["coffee"]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "flipped.png")
    lines = example("similar_images.py", "features.npz", "flipped.png").splitlines()
    assert len(lines) == 4
    assert Path(lines[0].split("  ")[1]).stem == images["coffee"].stem
    cosines = [float(line.split()[0]) for line in lines]
    assert cosines == sorted(cosines, reverse=True)
    assert 0.8 < cosines[0] <= 1


@pytest.fixture
def inputs(images: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put right and wrong inputs into the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(images["cat"], tmp_path / "cat.png")
    np.savez(tmp_path / "features.npz", images=["cat.png"], features=np.ones((1, 2048), np.float32))
    (tmp_path / "boxes.csv").write_text("file,left,top,right,bottom\ncat.png,1,2,3,4\n")
    (tmp_path / "wrong.csv").write_text("image,x,y\ncat.png,1,2\n")
    for name in ("cat", "dog"):
        (tmp_path / "classes" / name).mkdir(parents=True)


@pytest.mark.usefixtures("inputs")
@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("similar_images.py none.npz cat.png", "none.npz"),
        ("similar_images.py cat.png cat.png", "cat.png is not a file of: resnet-client embed"),
        ("similar_images.py features.npz none.png", "none.png: there is no such file"),
        ("similar_images.py features.npz cat.png", "cannot be reached"),
        ("fine_tune.py classes/cat", "classes/cat needs two or more subfolders, one per class"),
        pytest.param("fine_tune.py classes", "cannot be reached", marks=pytest.mark.slow),  # it waits for a server
        ("detect.py train wrong.csv", "wrong.csv: expected the columns file, left, top, right, bottom"),
        ("detect.py train boxes.csv", "cannot be reached"),
        ("detect.py find cat.png", "detector.safetensors"),
        pytest.param("ray_job.py classes out", "cannot be reached", marks=pytest.mark.slow),  # Ray's import is
        # With a server: without images in the classes, and without a backbone.
        ("fine_tune.py classes --weights random:0", "classes: each class needs an image that can be read"),
        ("detect.py train boxes.csv", "build it with resnet-build --backbone"),
    ],
)
def test_example_reports_wrong_input(
    server: TritonServer, free_port: int, monkeypatch: pytest.MonkeyPatch, command: str, message: str
) -> None:
    """A file, folder or column that is missing or wrong, and a server that does not run, end in one message."""
    needs_server = message.endswith(("can be read", "--backbone"))
    monkeypatch.setenv("RESNET_URL", server.grpc_url if needs_server else f"grpc://127.0.0.1:{free_port}")
    monkeypatch.setattr(sys, "argv", command.split())
    with pytest.raises(SystemExit, match=re.escape(message)):  # Python prints it, and exits with 1
        runpy.run_path(str(EXAMPLES / sys.argv[0]), run_name="__main__")


def test_service_classifies_uploads(
    server: TritonServer, images: dict[str, Path], tmp_path: Path, free_port: int
) -> None:
    """Classes for an image, 422 for a file that is not one, 503 without a server; as curl sends and prints them."""
    (tmp_path / "notes.txt").write_text("no image")
    with serving(server.grpc_url) as address:
        classes = upload(address, images["cat"])
        refused = upload(address, tmp_path / "notes.txt")
    with serving(f"grpc://127.0.0.1:{free_port}") as address:
        unavailable = upload(address, images["cat"])
    assert classes[0] == 200
    assert next(iter(classes[1])) == "Egyptian cat"
    assert len(classes[1]) == 5
    assert (refused[0], unavailable[0]) == (422, 503)
    assert "are not an image in a known format" in refused[1]["detail"]
    assert "cannot be reached" in unavailable[1]["detail"]


@contextlib.contextmanager
def serving(url: str) -> Iterator[str]:
    """Run the FastAPI service on a free port; yields its address."""
    command = [sys.executable, "-m", "uvicorn", "service:app", "--port", "0"]
    environment = {**os.environ, "RESNET_URL": url}
    with subprocess.Popen(command, cwd=EXAMPLES, env=environment, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield next(found[0] for line in process.stderr if (found := re.search(r"http://[0-9.:]+", line)))
        finally:
            process.terminate()


def upload(address: str, file: Path) -> tuple[int, Any]:
    """Status and JSON of an upload by curl."""
    command = ["curl", "--silent", "--write-out", "\n%{http_code}", "--form", f"image=@{file}", f"{address}/classify"]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout
    body, status = shown.rsplit("\n", 1)
    return int(status), json.loads(body)


def test_every_example_is_listed() -> None:
    """The page names all of them, and no other."""
    page = (EXAMPLES.parent / "docs/examples.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(../examples/([\w/]+\.(?:py|html))\)", page))
    kinds = (".py", ".html")
    there = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.suffix in kinds}
    assert listed == there
