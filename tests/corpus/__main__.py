"""``python -m corpus FOLDER``, run in the folder ``tests``: write the corpus as files, to look at or to send."""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image
from resnet_client.example_images import everyday

from corpus.hostile import hostile_photos
from corpus.odd import odd_photos


def main(folder: Path) -> None:
    """Write ``good/`` and ``refused/``."""
    scene = Image.open(everyday()[0]).convert("RGB")
    scene.thumbnail((320, 320))
    for name, photos in (("good", odd_photos(scene)), ("refused", hostile_photos(scene))):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for photo in photos:
            (folder / name / photo.name).write_bytes(photo.data)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
