"""Classify a folder of images in a Ray Data pipeline of your own.

    python ray_job.py images/ classes/               # on this machine
    ray job submit -- python ray_job.py s3://bucket/images s3://bucket/classes

For a run that resumes, and for archives and Parquet files, use `resnet-client bulk --engine ray`.
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import numpy as np
import ray
from resnet_client import Client, ResnetClientError


class Classifier:
    """An actor with a copy of the client, which keeps its connection for all batches."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, Any]:
        """Add label, probability and error to a batch of files."""
        outcomes = list(self._client.classify_many(batch["bytes"]))
        tops = [outcome.result.top if outcome.ok else None for outcome in outcomes]
        return {
            "path": batch["path"],
            "label": [top.label if top else "" for top in tops],
            "probability": [top.probability if top else float("nan") for top in tops],
            "error": [str(outcome.error or "") for outcome in outcomes],
        }


def main() -> None:
    """Read, classify, write Parquet files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", help="Folder or URL")
    parser.add_argument("output", help="Folder or URL for Parquet files")
    parser.add_argument("--actors", type=int, default=2, metavar="N")
    options = parser.parse_args()
    try:
        with Client() as client:
            client.wait_until_ready(timeout_s=5)
            images = ray.data.read_binary_files(options.images, include_paths=True)
            classified = images.map_batches(
                Classifier, fn_constructor_args=(client,), batch_size=64, concurrency=options.actors
            )
            classified.write_parquet(options.output)
    except (ResnetClientError, OSError) as exc:
        sys.exit(str(exc))


if __name__ == "__main__":
    main()
