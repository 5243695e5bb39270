"""Runs over many images, with servers in memory: outcomes in order, a bounded number of requests at once."""

import asyncio
import collections
import io
import itertools
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_client import AsyncClient, Client, ConfigurationError, ImageError

KINDS = ("blocking", "asyncio")
IMAGES = [bytes([number]) for number in range(40)]


def run(kind, images, method="classify_many", **options):
    """All outcomes of a run by a client of this kind, and the error that ended it."""
    outcomes = []

    def blocking():
        with Client() as client:
            for outcome in getattr(client, method)(images, **options):
                outcomes.append(outcome)  # noqa: PERF402  # what came before an error counts

    async def awaited():
        async with AsyncClient() as client:
            async for outcome in getattr(client, method)(images, **options):
                outcomes.append(outcome)  # noqa: PERF401  # as above

    try:
        blocking() if kind == "blocking" else asyncio.run(awaited())
    except LookupError as exc:
        return outcomes, exc
    return outcomes, None


def indexes(outcomes):
    return [outcome.result.top.index for outcome in outcomes]


@pytest.mark.parametrize("kind", KINDS)
def test_many_has_at_most_so_many_requests_in_flight(stub, kind):
    polls = collections.Counter()
    stub.is_due = lambda request: polls.update([id(request)]) or polls[id(request)] > 3  # so that others can start
    assert indexes(run(kind, IMAGES, max_in_flight=5)[0]) == list(range(40))
    assert stub.most_running == 5


@pytest.mark.parametrize("kind", KINDS)
def test_many_does_not_hold_up_others_for_a_slow_image(stub, kind):
    """All images that the window has room for are answered before the first; the order stays."""
    stub.is_due = lambda request: request.tensor[0, 0][0] != 0 or stub.answered >= 15
    assert indexes(run(kind, IMAGES, max_in_flight=4)[0]) == list(range(40))


def test_many_reads_its_source_lazily(stub):
    """An endless generator is read no further than the window, and may be used on after the run."""
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield bytes([number % 256])

    source = endless()
    with Client() as client:
        outcomes = client.classify_many(source, max_in_flight=4)
        assert not taken
        for _ in range(10):
            next(outcomes)
        assert len(taken) <= 10 + 4 * 4
        outcomes.close()
    assert next(source)


@pytest.mark.parametrize("max_in_flight", [1, 8])
def test_many_leaves_no_thread_after_a_break(stub, max_in_flight):
    before = threading.active_count()
    with Client() as client:
        for _ in client.classify_many(itertools.repeat(b"\x01"), max_in_flight=max_in_flight):
            break
    assert threading.active_count() == before


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", ["classify_many", "embed_many"])
def test_many_makes_an_outcome_of_a_failing_image(stub, tmp_path, kind, method):
    """It has an error and its source; the others are answered."""
    sources = [b"\x01", tmp_path / "missing.jpg", np.zeros((2, 2), dtype=float), b"\x02"]
    outcomes, _ = run(kind, sources, method)
    assert [outcome.ok for outcome in outcomes] == [True, False, False, True]
    assert outcomes[1].source == sources[1]
    with pytest.raises(ImageError) as raised:
        _ = outcomes[1].result
    assert raised.value is outcomes[1].error


def broken():
    yield from (b"\x01", b"\x02", b"\x03")
    raise LookupError("camera unplugged")


async def broken_async():
    """The same to iterate with ``async for``."""
    for image in broken():
        yield image


@pytest.mark.parametrize("max_in_flight", [1, 2, 16])
@pytest.mark.parametrize(("kind", "source"), [("blocking", broken), ("asyncio", broken), ("asyncio", broken_async)])
def test_many_raises_errors_of_its_source_unchanged(stub, kind, source, max_in_flight):
    """After the outcomes of what was read before."""
    outcomes, error = run(kind, source(), max_in_flight=max_in_flight)
    assert indexes(outcomes) == [1, 2, 3]
    assert str(error) == "camera unplugged"


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "image",
    ["cat.jpg", Path("cat.jpg"), b"x", bytearray(b"x"), memoryview(b"x"), io.BytesIO(b"x"), Image.new("L", (2, 2))]
    + [np.zeros(shape, np.uint8) for shape in ((5, 5), (5, 5, 3), (5, 5, 4))],
)
def test_many_refuses_one_image(kind, image):
    """What would be taken apart into letters, lines or rows is refused at once, with the remedy."""
    client = kind()
    for many in (client.classify_many, client.embed_many):
        with pytest.raises(ConfigurationError, match="pass a list"):
            many(image)


def test_many_shows_progress_on_standard_error(stub, capsys):
    with Client() as client:
        list(client.classify_many([b"\x01"] * 3, progress=True))
    captured = capsys.readouterr()
    assert not captured.out
    assert "3/3" in captured.err
