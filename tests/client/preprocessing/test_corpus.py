"""Odd and hostile images, here and at the real server: the same pixels, or the same message, and no other effect."""

import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from corpus.served import Preprocess, send_raw, worker
from resnet_client import Client, InvalidImageError, preprocessing
from resnet_client.preprocessing import PreprocessConfig, prepare
from resnet_serve.watchdog import Api

from .expected import torchvision_pixels

PREPROCESSING = PreprocessConfig(resize=256, crop=224)
CALLERS = 8


@pytest.fixture
def preprocess(server):
    served = Preprocess(server)
    yield served
    served.close()


def test_prepare_answers_or_refuses_the_corpus(corpus):
    """Every odd image gives the pixels of what a person sees in it; every hostile one its message."""
    wrong = []
    for image in corpus:
        try:
            found = prepare(image.data, PREPROCESSING)
        except preprocessing.InvalidImageError as exc:
            if image.seen or not re.search(image.cause, str(exc)) or "image" not in str(exc):
                wrong.append(f"{image.name} is refused: {exc}")
        else:
            seen = torchvision_pixels(image.seen, PREPROCESSING) if image.seen else 999
            if (difference := np.abs(found - seen).mean()) > image.tolerance:
                wrong.append(f"{image.name} is accepted; its pixels differ by {difference}")
    assert not wrong
    assert len({image.name for image in corpus}) == len(corpus) > 250


def test_preprocessing_names_files_of_the_corpus_in_its_checks(corpus):
    """Each check that Pillow makes necessary names a file that shows it, and the corpus has that file."""
    modules = Path(preprocessing.__file__).parent.glob("*.py")
    sources = "".join(path.read_text(encoding="utf-8") for path in modules)
    named = set(re.findall(r"[\w-]+\.(?:avif|bmp|gif|jpg|png|tiff|webp)\b", sources))
    assert named - {image.name for image in corpus} == set()
    assert len(named) > 15


def test_server_answers_the_corpus_like_the_client(server, preprocess, corpus, images):
    """Same pixels or same message for each, the same worker after it, and valid images between them unharmed."""
    before = worker(server)
    valid = images["rocket"].read_bytes()
    usual = prepare(valid, PREPROCESSING)
    with ThreadPoolExecutor(CALLERS) as callers:
        pending = [(image, callers.submit(outcome, preprocess.pixels, image.data)) for image in corpus]
        between = [callers.submit(preprocess.pixels, valid) for _ in range(50)]
        local = [outcome(lambda data: prepare(data, PREPROCESSING), image.data) for image in corpus]
        wrong = [
            image.name
            for (image, served), expected in zip(pending, local, strict=True)
            if not np.array_equal(served.result(), expected)
        ]
        harmed = sum(not np.array_equal(one.result(), usual) for one in between)
    assert wrong == []
    assert harmed == 0
    assert worker(server) == before


def outcome(prepare, data):
    """The pixels of an image, or the message that refuses it."""
    try:
        return prepare(data)
    except preprocessing.InvalidImageError as exc:
        return str(exc)


def test_server_refuses_a_request_without_images(server):
    """With a message, and the worker lives on."""
    before = worker(server)
    for data in ([], ["not an image"]):
        nothing = {"name": "IMAGE", "shape": [0, 1], "datatype": "BYTES", "data": data}
        for model in ("preprocess", "resnet50"):
            with pytest.raises(OSError, match="400 .*(expected 1 string elements|\\[image\\])"):
                Api(server.http_url, "").request(f"v2/models/{model}/infer", {"inputs": [nothing]}, timeout_s=10)
    assert worker(server) == before


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
def test_client_shows_the_same_rules_whichever_side_preprocesses(server, corpus, url):
    """Through the ensemble: hostile images are `InvalidImageError` with one message, odd ones have one answer."""
    found = {image.name: image.data for image in corpus}
    with Client(getattr(server, url)) as client:
        for name in HOSTILE:
            messages = set()
            for preprocessing in ("server", "client"):
                with pytest.raises(InvalidImageError) as caught:
                    client.classify(found[name], preprocessing=preprocessing)
                messages.add(str(caught.value))
            assert len(messages) == 1, messages
        for name in ODD:
            tops = {client.classify(found[name], preprocessing=side).top.index for side in ("server", "client")}
            assert len(tops) == 1, name


LYING = (b"\xff\xff\xff\x7f", b"", b"\x01", b"\4\0\0\0ab")


def test_server_refuses_lengths_that_lie_alone(server, preprocess, corpus):
    """A BYTES tensor whose length field claims more than there is fails alone, and the worker lives on."""
    before = worker(server)
    valid = next(image.data for image in corpus if image.name == "rgb.png")
    usual = preprocess.pixels(valid)
    with ThreadPoolExecutor(CALLERS) as callers:
        pending = [
            (callers.submit(send_raw, server, raw), callers.submit(preprocess.pixels, valid)) for raw in LYING * 10
        ]
        assert {lie.result() for lie, _ in pending} == {"StatusCode.INVALID_ARGUMENT"}
        assert all(np.array_equal(one.result(), usual) for _, one in pending)
    assert worker(server) == before
