"""Odd and hostile photos at the real server: what it says is what the client says, and nobody else notices."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from corpus import Photo
from corpus.served import Preprocess, send_raw, worker
from resnet_client import Client, InvalidImageError, preprocessing
from resnet_client.preprocessing import Recipe, prepare
from resnet_serve import TritonServer
from resnet_serve.watchdog import Api

RECIPE = Recipe(resize=256, crop=224)
CALLERS = 8


@pytest.fixture
def preprocess(server: TritonServer) -> Iterator[Preprocess]:
    """The served `preprocess`."""
    asked = Preprocess(server)
    yield asked
    asked.close()


def test_the_server_and_the_client_answer_the_corpus_alike(
    server: TritonServer, preprocess: Preprocess, corpus: list[Photo], photos: dict[str, Path]
) -> None:
    """Same pixels or same sentence for each, the same worker after it, and good photos between them unharmed."""
    before = worker(server)
    good = photos["rocket"].read_bytes()
    usual = prepare(good, RECIPE)
    with ThreadPoolExecutor(CALLERS) as callers:
        pending = [(photo, callers.submit(_answer, preprocess, photo.data)) for photo in corpus]
        between = [callers.submit(preprocess.pixels, good) for _ in range(50)]
        wrong = [photo.name for photo, answer in pending if not _same(answer.result(), _local(photo.data))]
        harmed = sum(not np.array_equal(one.result(), usual) for one in between)
    assert wrong == []
    assert harmed == 0
    assert worker(server) == before


def test_a_request_of_no_photos_is_refused_in_a_sentence(server: TritonServer) -> None:
    """By whoever sees it first, and the worker lives on."""
    before = worker(server)
    for data in ([], ["no photo"]):
        nothing = {"name": "IMAGE", "shape": [0, 1], "datatype": "BYTES", "data": data}
        for model in ("preprocess", "resnet50"):
            with pytest.raises(OSError, match="400 .*(expected 1 string elements|\\[image\\])"):
                Api(server.http_url, "").request(f"v2/models/{model}/infer", {"inputs": [nothing]}, timeout_s=10)
    assert worker(server) == before


def _answer(preprocess: Preprocess, photo: bytes) -> np.ndarray | str:
    try:
        return preprocess.pixels(photo)
    except preprocessing.InvalidImageError as exc:
        return str(exc)


def _local(photo: bytes) -> np.ndarray | str:
    try:
        return prepare(photo, RECIPE)
    except preprocessing.InvalidImageError as exc:
        return str(exc)


def _same(one: np.ndarray | str, other: np.ndarray | str) -> bool:
    return one == other if isinstance(one, str) or isinstance(other, str) else np.array_equal(one, other)


HOSTILE = ("empty.jpg", "text.txt", "bomb.png", "frames.gif", "scans.jpg", "5-tenths.jpg", "run-length.bmp")
ODD = (
    "cmyk-inverted.jpg",
    "palette-transparent.png",
    "grey-16-bit.tiff",
    "1x1.png",
    "animated.webp",
    "absurd-exif.jpg",
)


@pytest.mark.parametrize("url", ["grpc_url", "http_url"])
def test_callers_see_the_same_rules_whoever_preprocesses(server: TritonServer, corpus: list[Photo], url: str) -> None:
    """Through the ensemble: hostile photos are `InvalidImageError` with one sentence, odd ones have one answer."""
    found = {photo.name: photo.data for photo in corpus}
    with Client(getattr(server, url)) as client:
        for name in HOSTILE:
            sentences = set()
            for preprocessing in ("server", "client"):
                with pytest.raises(InvalidImageError) as caught:
                    client.classify(found[name], preprocessing=preprocessing)
                sentences.add(str(caught.value))
            assert len(sentences) == 1, sentences
        for name in ODD:
            tops = {client.classify(found[name], preprocessing=who).top.index for who in ("server", "client")}
            assert len(tops) == 1, name


LYING = (b"\xff\xff\xff\x7f", b"", b"\x01", b"\4\0\0\0ab")


def test_lengths_that_lie_harm_nobody_else(server: TritonServer, preprocess: Preprocess, corpus: list[Photo]) -> None:
    """A BYTES tensor whose length field claims more than there is fails alone, and the worker lives on."""
    before = worker(server)
    good = next(photo.data for photo in corpus if photo.name == "rgb.png")
    usual = preprocess.pixels(good)
    with ThreadPoolExecutor(CALLERS) as callers:
        pending = [
            (callers.submit(send_raw, server, raw), callers.submit(preprocess.pixels, good)) for raw in LYING * 10
        ]
        assert {lie.result() for lie, _ in pending} == {"StatusCode.INVALID_ARGUMENT"}
        assert all(np.array_equal(one.result(), usual) for _, one in pending)
    assert worker(server) == before
