"""Thousands of hostile and unusual images: no crash, no effect on other images, bounded memory and time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from corpus import Case
from corpus.mutations import mutations
from corpus.odd import large_images
from corpus.served import Preprocess, cpu_s, forget_peak, memory_mib, send_raw, worker
from PIL import Image
from resnet_client import InvalidImageError, preprocessing
from resnet_client.images import pixels as pixels_here
from resnet_serve import ServerConfig, TritonServer
from tritonclient.utils import InferenceServerException

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


@pytest.fixture(scope="module")
def good(images: dict[str, Path]) -> tuple[bytes, np.ndarray]:
    """A good image, and the pixels that it always has."""
    image = images["rocket"].read_bytes()
    return image, pixels_here(image, PREPROCESSING)


def answers(preprocess: Preprocess, image: bytes) -> tuple[np.ndarray | str, np.ndarray | str]:
    """The answers of server and client: pixels, or a message."""
    both: list[np.ndarray | str] = []
    for ask in (preprocess.pixels, lambda image: pixels_here(image, PREPROCESSING)):
        try:
            both.append(ask(image))
        except (preprocessing.InvalidImageError, InvalidImageError) as exc:
            both.append(str(exc))
    return both[0], both[1]


def same(one: np.ndarray | str, other: np.ndarray | str) -> bool:
    """Whether both are the same pixels or the same message."""
    return one == other if isinstance(one, str) or isinstance(other, str) else np.array_equal(one, other)


def is_harmed(preprocess: Preprocess, good: tuple[bytes, np.ndarray]) -> bool:
    """Whether the good image gets anything but its usual pixels."""
    image, usual = good
    try:
        return not np.array_equal(preprocess.pixels(image), usual)
    except (preprocessing.InvalidImageError, InferenceServerException):
        return True


class Comparison:
    """Sends bad images from several callers, good ones between them, and keeps count."""

    def __init__(self, preprocess: Preprocess, good: tuple[bytes, np.ndarray]) -> None:
        self._preprocess, self._good = preprocess, good
        self.refused = self.harmed = self.between = 0
        self.disagreeing: list[bytes] = []

    def __str__(self) -> str:
        good = f"{self.harmed} of {self.between} good images between them harmed"
        return (
            f"{self.refused} refused, {len(self.disagreeing)} answered otherwise than by the client, 0 crashes, {good}"
        )

    def compare(self, images: Iterator[bytes]) -> None:
        """Send all of them."""
        with ThreadPoolExecutor(CALLERS) as callers:
            while some := list(itertools.islice(images, 50 * CALLERS)):
                for image, refused, agreed, harmed in callers.map(self._one, some, itertools.count()):
                    self.refused += refused
                    self.harmed += bool(harmed)
                    self.between += harmed is not None
                    self.disagreeing += [] if agreed else [image]

    def _one(self, image: bytes, number: int) -> tuple[bytes, bool, bool, bool | None]:
        served, local = answers(self._preprocess, image)
        harmed = None if number % BETWEEN else is_harmed(self._preprocess, self._good)
        return image, isinstance(served, str), same(served, local), harmed


@pytest.mark.timeout(900)
@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_mutations_of_real_images_end_no_worker(
    server: TritonServer,
    preprocess: Preprocess,
    good: tuple[bytes, np.ndarray],
    images: dict[str, Path],
    note: Callable[[str], None],
) -> None:
    """Server and client give the same answer to each, good images between them get their usual pixels, memory stays."""
    comparison = Comparison(preprocess, good)
    damaged = mutations([Image.open(path) for path in images.values()], MUTATIONS)
    pid = worker(server)
    started, used = time.monotonic(), cpu_s(pid)
    comparison.compare(itertools.islice(damaged, MUTATIONS // 10))
    settled = memory_mib(pid, "VmRSS")
    comparison.compare(damaged)
    note(
        f"{MUTATIONS} mutations in {time.monotonic() - started:.0f} s: {comparison}; the worker took "
        f"{(cpu_s(pid) - used) / MUTATIONS * 1e3:.1f} ms for each, its memory was {settled:.0f} MiB after the first "
        f"tenth, {memory_mib(pid, 'VmRSS'):.0f} MiB in the end, {memory_mib(pid):.0f} MiB at its peak"
    )
    assert comparison.disagreeing == []
    assert comparison.harmed == 0
    assert memory_mib(pid) < MEMORY_MIB
    assert memory_mib(pid, "VmRSS") < settled + 200


def test_preprocess_survives_the_corpus(
    server: TritonServer,
    preprocess: Preprocess,
    good: tuple[bytes, np.ndarray],
    corpus: list[Case],
    note: Callable[[str], None],
) -> None:
    """Every mode, format, bomb and lie: answered the same by server and client, without effect on others."""
    comparison, pid = Comparison(preprocess, good), worker(server)
    comparison.compare(image.data for image in corpus)
    note(f"{len(corpus)} odd and hostile images: {comparison}; peak memory of the worker {memory_mib(pid):.0f} MiB")
    assert comparison.disagreeing == []
    assert comparison.harmed == 0
    assert comparison.refused == sum(image.seen is None for image in corpus)


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


def test_requests_that_lie_about_their_length_fail_alone(
    server: TritonServer, preprocess: Preprocess, good: tuple[bytes, np.ndarray], note: Callable[[str], None]
) -> None:
    """BYTES tensors shorter than their header, for which Triton's Python backend fails the whole batch."""
    lies = [b"\xff\xff\xff\x7f", b"\x04\0\0\0ab", b"", b"\x01"] * 100
    with ThreadPoolExecutor(2 * CALLERS) as callers:
        pending = [(callers.submit(send_raw, server, lie), callers.submit(is_harmed, preprocess, good)) for lie in lies]
        statuses = {lie.result() for lie, _ in pending}
        harmed = sum(one.result() for _, one in pending)
    note(f"{len(lies)} requests with a wrong length: {harmed} of {len(lies)} valid images next to them failed")
    assert statuses == {"StatusCode.INVALID_ARGUMENT"}
    assert harmed == 0
