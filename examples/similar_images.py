"""Print the images most similar to one, by the cosine of their feature vectors.

    resnet-client embed images/ --output features.npz
    python similar_images.py features.npz cat.jpg

All images are compared, which takes a second for a million. For more, put the vectors into an approximate index such as
faiss or hnswlib.
"""

from __future__ import annotations

import argparse
import sys

import numpy as np
from resnet_client import Client, ResnetClientError


def nearest(features_file: str, image: str, count: int) -> list[tuple[float, str]]:
    """Cosine and name of the most similar images, the most similar first."""
    with np.load(features_file) as file:
        names, features = file["images"], file["features"]
    with Client() as client:
        vector = client.embed(image)
    cosines = features @ vector / (np.linalg.norm(features, axis=1) * np.linalg.norm(vector))
    order = np.argsort(-cosines)  # images that failed are NaN and come last
    return [(float(cosines[n]), str(names[n])) for n in order[:count] if np.isfinite(cosines[n])]


def main() -> None:
    """Print a table, or the error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("features", help="File that resnet-client embed has written")
    parser.add_argument("image")
    parser.add_argument("--count", type=int, default=5, metavar="N")
    options = parser.parse_args()
    try:
        found = nearest(options.features, options.image, options.count)
    except (ResnetClientError, OSError) as exc:
        sys.exit(str(exc))
    except (ValueError, KeyError, TypeError):
        sys.exit(f"{options.features} is not a file of: resnet-client embed images/ --output features.npz")
    for cosine, name in found:
        print(f"{cosine:.3f}  {name}")


if __name__ == "__main__":
    main()
