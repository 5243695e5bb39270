"""Retries, deadlines and runs over many photos, with a transport in memory."""

import asyncio
import io
import itertools
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import AsyncMock

import numpy as np
import pytest
from PIL import Image
from resnet_client import (
    AsyncClient,
    Client,
    ClosedError,
    ConfigurationError,
    OverloadedError,
    UnavailableError,
    async_client,
)
from resnet_client.responses import Answer


def test_lost_connections_are_tried_again(transport, unreachable):
    """Two failures and then an answer are an answer."""
    transport.failures = [unreachable, unreachable]
    with Client() as client:
        assert client.classify(b"\x07").top.index == 7
    assert len(transport.sent) == 3


def test_attempts_are_limited(transport, unreachable):
    """`max_attempts` counts the first attempt, too."""
    transport.failures = [unreachable] * 9
    with Client(max_attempts=2) as client, pytest.raises(UnavailableError):
        client.classify(b"\x07")
    assert len(transport.sent) == 2


@pytest.mark.parametrize(("retry_overload", "sent"), [(False, 1), (True, 2)])
def test_overload_is_retried_only_where_asked(transport, retry_overload, sent):
    """An overloaded server is spared unless the caller wants otherwise."""
    transport.failures = [OverloadedError("full")]
    with Client(retry_overload=retry_overload) as client:
        outcome = next(client.classify_many([b"\x01"]))
    assert (outcome.ok, len(transport.sent)) == (retry_overload, sent)


def test_all_attempts_share_one_deadline(transport, unreachable):
    """Retrying never takes longer than `timeout_s`, and each attempt is told what is left."""
    transport.failures = [unreachable] * 1000
    started_s = time.monotonic()
    with Client(max_attempts=1000, timeout_s=0.5) as client, pytest.raises(UnavailableError):
        client.classify(b"\x07")
    assert time.monotonic() - started_s < 0.6
    allowed_s = [timeout_s for _, timeout_s in transport.sent]
    assert allowed_s == sorted(allowed_s, reverse=True)
    assert allowed_s[0] <= 0.5


def test_outcomes_come_in_order_and_at_most_so_many_at_once(transport):
    """The order is that of the photos; no more than `max_in_flight` are under way."""
    transport.delay_s = 0.002
    with Client() as client:
        outcomes = list(client.classify_many([bytes([i]) for i in range(100)], max_in_flight=5))
    assert [outcome.result.top.index for outcome in outcomes] == list(range(100))
    assert transport.most_running == 5


def test_a_slow_photo_does_not_hold_up_the_others(transport):
    """While the first is not answered, all others are; the order stays."""
    answered = threading.Semaphore(0)
    send = transport.send

    def send_the_first_last(request, timeout_s):
        if request.tensor[0, 0][0] == 0:
            waited = [answered.acquire(timeout=20) for _ in range(15)]
            assert all(waited)
        try:
            return send(request, timeout_s)
        finally:
            answered.release()

    transport.send = send_the_first_last
    with Client() as client:
        outcomes = list(client.classify_many([bytes([i]) for i in range(40)], max_in_flight=4))
    assert [outcome.result.top.index for outcome in outcomes] == list(range(40))


async def test_a_slow_photo_does_not_hold_up_the_others_with_asyncio(monkeypatch):
    """The same with tasks."""
    answered = asyncio.Semaphore(0)

    async def send(request, _):
        index = request.tensor[0, 0][0]
        if index == 0:
            async with asyncio.timeout(20):
                for _ in range(15):
                    await answered.acquire()
        answered.release()
        return Answer(np.array([[f"0.5:{index}:x".encode()]], dtype=object), request.model, "1")

    monkeypatch.setattr(async_client, "connect_async", lambda *_: AsyncMock(send=send))
    async with AsyncClient() as client:
        outcomes = [o async for o in client.classify_many([bytes([i]) for i in range(40)], max_in_flight=4)]
    assert [outcome.result.top.index for outcome in outcomes] == list(range(40))


def test_sources_are_read_lazily(transport):
    """An endless generator is read no further than the window."""
    taken = []

    def endless():
        for number in itertools.count():
            taken.append(number)
            yield bytes([number % 256])

    with Client() as client:
        outcomes = client.classify_many(endless(), max_in_flight=4)
        assert not taken
        for _ in range(10):
            next(outcomes)
        assert len(taken) <= 10 + 4 * 4
        outcomes.close()


def test_leaving_early_leaves_no_thread(transport):
    """After a break every thread has ended."""
    before = threading.active_count()
    with Client() as client:
        for _ in client.classify_many(itertools.repeat(b"\x01"), max_in_flight=8):
            break
    assert threading.active_count() == before


def test_a_failing_photo_is_one_outcome(transport, tmp_path):
    """What fails has an error and its source; the others are answered."""
    sources = [b"\x01", tmp_path / "missing.jpg", np.zeros((2, 2), dtype=float), b"\x02"]
    with Client() as client:
        outcomes = list(client.classify_many(sources))
    assert [outcome.ok for outcome in outcomes] == [True, False, False, True]
    assert [outcome.source for outcome in outcomes][1] == sources[1]
    assert all((outcome.result is None) != (outcome.error is None) for outcome in outcomes)


def broken():
    """Three photos and an error."""
    yield from (b"\x01", b"\x02", b"\x03")
    raise LookupError("camera unplugged")


@pytest.mark.parametrize("max_in_flight", [1, 2, 16])
def test_errors_of_the_callers_generator_are_the_callers(transport, max_in_flight):
    """An exception in the source ends the run unchanged, after the outcomes of what was read."""
    found = []
    with Client() as client, pytest.raises(LookupError, match="unplugged"):
        found.extend(o.result.top.index for o in client.classify_many(broken(), max_in_flight=max_in_flight))
    assert found == [1, 2, 3]


@pytest.mark.parametrize("is_async", [False, True])
async def test_errors_of_the_callers_generator_are_the_callers_with_asyncio(monkeypatch, is_async):
    """The same with tasks, whichever kind of generator it is."""

    async def send(request, _):
        return Answer(np.array([[f"0.5:{request.tensor[0, 0][0]}:x".encode()]], dtype=object), request.model, "1")

    async def broken_async():
        for photo in broken():
            yield photo

    found = []
    monkeypatch.setattr(async_client, "connect_async", lambda *_: AsyncMock(send=send))
    async with AsyncClient() as client:
        with pytest.raises(LookupError, match="unplugged"):
            async for outcome in client.classify_many(broken_async() if is_async else broken()):
                found.append(outcome.result.top.index)  # noqa: PERF401  # what came before the error counts
    assert found == [1, 2, 3]


def test_the_callers_generator_is_left_open(transport):
    """Who leaves a run may go on with what it was reading from."""
    photos = (bytes([i]) for i in range(100))
    with Client() as client:
        for _ in client.classify_many(photos, max_in_flight=1):
            break
    assert next(photos)


@pytest.mark.parametrize(
    "options",
    [
        {"max_in_flight": 0},
        {"top_k": 0},
        {"top_k": 2**40},
        {"timeout_s": -1},
        {"timeout_s": 1e30},
        {"model_version": "x"},
        {"model_version": 0},
    ],
)
def test_senseless_arguments_are_refused_at_once(options):
    """The call itself raises, before anything is iterated or connected."""
    with Client() as client, pytest.raises(ConfigurationError, match=next(iter(options)).split("_")[0]):
        client.classify_many([], **options)


@pytest.mark.parametrize("kind", [Client, AsyncClient])
@pytest.mark.parametrize(
    "photo",
    ["cat.jpg", Path("cat.jpg"), b"x", bytearray(b"x"), memoryview(b"x"), io.BytesIO(b"x"), Image.new("L", (2, 2))]
    + [np.zeros(shape, np.uint8) for shape in ((5, 5), (5, 5, 3), (5, 5, 4))],
)
def test_one_photo_is_not_many(kind, photo):
    """What would be taken apart into letters, lines or rows is refused at once, with the remedy."""
    client = kind()
    for many in (client.classify_many, client.embed_many):
        with pytest.raises(ConfigurationError, match="pass a list"):
            many(photo)


def test_a_stack_of_arrays_is_many(transport):
    """An array of four dimensions has a photo in each row."""
    transport.failures = [UnavailableError("stop")] * 8
    with Client(max_attempts=1) as client:
        assert len(list(client.classify_many(np.zeros((3, 5, 5, 3), np.uint8)))) == 3


def test_networks_take_no_photos():
    """A network with server preprocessing is refused with the remedy."""
    with Client() as client, pytest.raises(ConfigurationError, match="preprocessing='client'"):
        client.classify(b"x", model="network_onnx")


@pytest.mark.parametrize("call", ["classify", "statistics", "health"])
def test_names_that_cannot_be_sent_are_no_models(transport, call):
    """Half of a surrogate pair is the caller's fault, and is never sent."""
    arguments = (b"x",) if call == "classify" else ()
    with Client() as client, pytest.raises(ConfigurationError, match=r"not 'resnet\\ud800'"):
        getattr(client, call)(*arguments, model="resnet\ud800")
    assert not transport.sent


def test_closed_clients_say_so(transport):
    """After `close()` every call is a `ClosedError`; closing again is fine."""
    client = Client()
    client.classify(b"\x01")
    client.close()
    client.close()
    assert transport.is_closed
    with pytest.raises(ClosedError):
        client.classify(b"\x01")
    with pytest.raises(ClosedError), client:
        pass


def test_a_models_own_version_is_not_another_models(transport):
    """`model_version` of the client belongs to its model, not to one named in a call."""
    with Client(model_version="3") as client:
        client.classify(b"\x01")
        client.classify(b"\x01", model="other")
    assert [request.model_version for request, _ in transport.sent] == ["3", ""]


def test_retries_are_logged_but_not_printed():
    """Without a logging set-up standard error stays empty; whoever wants the records gets them."""
    code = """
import logging, resnet_client, sys
from contextlib import suppress
def call():
    with resnet_client.Client("grpc://127.0.0.1:1", max_attempts=2) as client, suppress(resnet_client.UnavailableError):
        client.classify(b"x")
call()
logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s")
call()
"""
    finished = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert (finished.stdout, finished.stderr) == ("WARNING resnet_client\n", "")


def test_async_clients_belong_to_one_loop(monkeypatch):
    """A second event loop is refused with the remedy; closing there is fine."""

    async def classify_many():
        return [outcome async for outcome in client.classify_many([b"\x01"])]

    monkeypatch.setattr(async_client, "connect_async", lambda *_: AsyncMock(send=AsyncMock(return_value={})))
    client = AsyncClient()
    asyncio.run(client.statistics())
    for call in (client.statistics, classify_many):
        with pytest.raises(ConfigurationError, match=r"another event loop.*inside each asyncio\.run"):
            asyncio.run(call())
    asyncio.run(client.close())


def test_progress_goes_to_standard_error(transport, capsys):
    """The bar does not disturb standard output."""
    with Client() as client:
        list(client.classify_many([b"\x01"] * 3, progress=True))
    captured = capsys.readouterr()
    assert not captured.out
    assert "3/3" in captured.err
