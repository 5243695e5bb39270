"""``python -m corpus FOLDER``, run in the folder ``tests``: write the corpus as files, to look at or to send."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from resnet_client.example_images import everyday

from corpus.hostile import hostile_images
from corpus.odd import odd_images


def main(folder: Path) -> None:
    """Write ``good/`` and ``refused/``."""
    scene = Image.open(everyday()[0]).convert("RGB")
    scene.thumbnail((320, 320))
    for name, images in (("good", odd_images(scene)), ("refused", hostile_images(scene))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for image in images:
            (folder / name / image.name).write_bytes(image.data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
