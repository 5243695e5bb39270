"""Thousands of hostile and unusual images: no crash, no effect on other images, bounded memory and time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from corpus.mutations import mutations
from corpus.odd import large_images
from corpus.served import Preprocess, cpu_s, forget_peak, memory_mib, worker
from PIL import Image
from resnet_client import InvalidImageError, preprocessing
from resnet_client.images import pixels as pixels_here
from resnet_serve import ServerConfig, TritonServer

pytestmark = pytest.mark.reliability

PREPROCESSING = preprocessing.PreprocessConfig(resize=256, crop=224)
CALLERS = 6
MUTATIONS = 10_000
# A good image after so many bad ones.
BETWEEN = 5
# Above the results, so that only what has no bound can reach them.
MEMORY_MIB, CPU_S = 1_536, 15.0


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[TritonServer]:
    """A server with nothing but `preprocess`, whose one worker is watched."""
    with TritonServer(ServerConfig(repository, ("preprocess",), port=0)) as running:
        yield running


@pytest.fixture
def preprocess(server: TritonServer) -> Iterator[Preprocess]:
    """The served `preprocess`; the worker that it had is the one that it has in the end."""
    asked, before = Preprocess(server), worker(server)
    forget_peak(before)
    yield asked
    asked.close()
    assert worker(server) == before


def outcome(prepare: Callable[[bytes], np.ndarray], image: bytes) -> np.ndarray | str:
    """The pixels of an image, or the message that refuses it."""
    try:
        return prepare(image)
    except (preprocessing.InvalidImageError, InvalidImageError) as exc:
        return str(exc)


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_mutations_of_real_images_end_no_worker(
    server: TritonServer, preprocess: Preprocess, images: dict[str, Path], note: Callable[[str], None]
) -> None:
    """Server and client give the same answer to each, good images between them get their usual pixels, memory stays."""
    damaged = mutations([Image.open(path) for path in images.values()], MUTATIONS)
    good = images["rocket"].read_bytes()
    usual = pixels_here(good, PREPROCESSING)
    disagreeing, harmed, refused = [], [], []

    def compare(image: bytes, number: int) -> None:
        served = outcome(preprocess.pixels, image)
        refused.append(isinstance(served, str))
        if not np.array_equal(served, outcome(lambda data: pixels_here(data, PREPROCESSING), image)):
            disagreeing.append(image)
        if number % BETWEEN == 0:
            harmed.append(not np.array_equal(outcome(preprocess.pixels, good), usual))

    pid, settled = worker(server), 0.0
    started, used = time.monotonic(), cpu_s(pid)
    with ThreadPoolExecutor(CALLERS) as callers:
        for first in range(0, MUTATIONS, MUTATIONS // 10):
            numbers = range(first, first + MUTATIONS // 10)
            list(callers.map(compare, itertools.islice(damaged, len(numbers)), numbers))
            settled = settled or memory_mib(pid, "VmRSS")
    note(
        f"{MUTATIONS} mutations in {time.monotonic() - started:.0f} s: {sum(refused)} refused, {len(disagreeing)} "
        f"answered otherwise than by the client, {sum(harmed)} of {len(harmed)} good images between them harmed; the "
        f"worker took {(cpu_s(pid) - used) / MUTATIONS * 1e3:.1f} ms for each, its memory was {settled:.0f} MiB after "
        f"the first tenth, {memory_mib(pid, 'VmRSS'):.0f} MiB in the end, {memory_mib(pid):.0f} MiB at its peak"
    )
    assert len(refused) == MUTATIONS
    assert disagreeing == []
    assert not any(harmed)
    assert memory_mib(pid) < MEMORY_MIB
    assert memory_mib(pid, "VmRSS") < settled + 200


@pytest.mark.timeout(900)
def test_preprocess_of_the_largest_images_is_bounded(
    server: TritonServer, preprocess: Preprocess, images: dict[str, Path], note: Callable[[str], None]
) -> None:
    """The largest that are accepted, one by one for the time and all at once for the memory."""
    dearest = list(large_images(Image.open(images["coffee"]).convert("RGB")))
    pid, prices = worker(server), {}
    for image in dearest:
        before = cpu_s(pid)
        preprocess.pixels(image.data)
        prices[image.name] = cpu_s(pid) - before
    one = memory_mib(pid)
    with ThreadPoolExecutor(len(dearest)) as callers:
        for pixels in callers.map(preprocess.pixels, [image.data for image in dearest]):
            assert pixels.any()
    slowest = max(prices, key=prices.__getitem__)
    note(
        f"images of 50 megapixels: {min(prices.values()):.1f} to {prices[slowest]:.1f} s of one core ({slowest}); peak "
        f"memory of the worker {one:.0f} MiB one by one, {memory_mib(pid):.0f} MiB all at once"
    )
    assert prices[slowest] < CPU_S
    assert memory_mib(pid) < MEMORY_MIB
