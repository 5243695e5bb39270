"""Find the images most similar to one, with features from the server and a vector index.

    python similar_images.py build images/ images.index
    python similar_images.py find images.index cat.jpg

The index (faiss, cosine similarity of feature vectors) is one file; the paths are in a JSON file next to it. The search
compares all images, which is fast enough for millions; for more, faiss has approximate indexes.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import faiss
import numpy as np
from resnet_client import Client, ResnetClientError

FEATURES = 2048
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}


def directions(vectors: np.ndarray) -> np.ndarray:
    """Vectors (images, 2048) of length 1, so that their product is the cosine of the angle between them."""
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def build(folder: Path, index_file: Path) -> None:
    """Embed all images of a folder and index their features."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    with Client() as client:
        outcomes = list(client.embed_many(paths, progress=True))
    for outcome in outcomes:
        if outcome.error:
            print(f"skipped: {outcome.error}", file=sys.stderr)
    found = [outcome for outcome in outcomes if outcome.ok]
    index = faiss.IndexFlatIP(FEATURES)
    if found:
        index.add(directions(np.stack([outcome.result for outcome in found])))
    faiss.write_index(index, str(index_file))
    index_file.with_suffix(".json").write_text(json.dumps([str(outcome.source) for outcome in found]))
    print(f"{len(found)} images in {index_file}")


def find(index_file: Path, image: Path, count: int) -> None:
    """Print the nearest images, the most similar first, with their cosine similarity."""
    paths = json.loads(index_file.with_suffix(".json").read_text())
    if not paths:
        sys.exit(f"{index_file} holds no images: build it from a folder with images")
    index = faiss.read_index(str(index_file))
    with Client() as client:
        vector = client.embed(image)
    cosines, numbers = index.search(directions(vector[None]), min(count, len(paths)))
    for cosine, number in zip(cosines[0], numbers[0], strict=True):
        print(f"{cosine:.3f}  {paths[number]}")


def main() -> None:
    """Build an index or search it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    builder = commands.add_parser("build", help="Index a folder")
    builder.add_argument("folder", type=Path)
    builder.add_argument("index_file", type=Path)
    finder = commands.add_parser("find", help="Find similar images")
    finder.add_argument("index_file", type=Path)
    finder.add_argument("image", type=Path)
    finder.add_argument("--count", type=int, default=5)
    builder.set_defaults(run=lambda options: build(options.folder, options.index_file))
    finder.set_defaults(run=lambda options: find(options.index_file, options.image, options.count))
    options = parser.parse_args()
    try:
        options.run(options)
    except (ResnetClientError, OSError) as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
