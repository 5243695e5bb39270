"""Every example runs and prints its result."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from .conftest import EXAMPLES


def test_similar_images_are_found(example: Callable[..., str], images: dict[str, Path], tmp_path: Path) -> None:
    """The most similar to a flipped image is the image itself."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("cat", "coffee", "rocket", "flower"):
        shutil.copy(images[name], folder)
    (folder / "broken.jpg").write_bytes(b"no image")
    assert "4 images in" in example("similar_images.py", "build", folder, tmp_path / "images.index")
    with Image.open(images["coffee"]) as image:
        image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "flipped.png")
    lines = example("similar_images.py", "find", tmp_path / "images.index", tmp_path / "flipped.png").splitlines()
    assert len(lines) == 4
    assert Path(lines[0].split("  ")[1]).stem == images["coffee"].stem
    cosines = [float(line.split()[0]) for line in lines]
    assert cosines == sorted(cosines, reverse=True)
    assert 0.8 < cosines[0] <= 1


def test_examples_report_errors_in_one_line(
    run_example: Callable[..., subprocess.CompletedProcess[str]], images: dict[str, Path], tmp_path: Path
) -> None:
    """A server without a backbone, an index of nothing, and no index end in no traceback."""
    (tmp_path / "empty").mkdir()
    assert run_example("similar_images.py", "build", tmp_path / "empty", tmp_path / "images.index").returncode == 0
    for name, arguments, code, message in (
        ("feature_pyramid.py", (images["cat"],), 1, "build it with resnet-build --backbone"),
        ("similar_images.py", ("find", "images.index", images["cat"]), 1, "images.index holds no images: build it"),
        ("similar_images.py", ("find", "none.index", images["cat"]), 1, "No such file or directory: 'none.json'"),
    ):
        result = run_example(name, *arguments)
        assert result.returncode == code
        assert message in result.stderr
        assert "Traceback" not in result.stderr


def test_every_example_is_listed() -> None:
    """The page names all of them, and no other."""
    page = (EXAMPLES.parent / "docs/examples.md").read_text(encoding="utf-8")
    listed = set(re.findall(r"\]\(../examples/([\w/]+\.(?:py|html))\)", page))
    kinds = (".py", ".html")
    there = {str(path.relative_to(EXAMPLES)) for path in EXAMPLES.rglob("*") if path.suffix in kinds}
    assert listed == there
