"""The cost of preprocessing a JPEG on one core, by its size and format."""

from __future__ import annotations

import statistics
import time

from resnet_client.preprocessing import prepare

from benchmarks import images
from benchmarks.repository import Repository
from benchmarks.results import Record, progress

_MEGAPIXELS = (0.2, 1, 3, 12, 24)
_ROUNDS = 5


def run(repository: Repository) -> list[Record]:
    """Milliseconds of one core for an image, as ``preprocess`` decodes, resizes and crops it.

    Returns:
        One record for each size and format, with the mean size of the files in ``kilobytes``.
    """
    config = repository.preprocess_config
    records = []
    for megapixels in _MEGAPIXELS:
        for progressive in (False, True):
            jpegs = images.of_megapixels(megapixels, progressive=progressive)
            rounds_ms = []
            for _ in range(_ROUNDS):
                began_s = time.thread_time()
                for jpeg in jpegs:
                    prepare(jpeg, config)
                rounds_ms.append(1e3 * (time.thread_time() - began_s) / len(jpegs))
            what = {"megapixels": megapixels, "format": "progressive" if progressive else "baseline"}
            measured = {"kilobytes": statistics.mean(map(len, jpegs)) / 1e3, "ms": statistics.median(rounds_ms)}
            progress("decoding", what, measured)
            records.append({**what, **measured})
    return records
