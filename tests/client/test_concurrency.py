"""Many callers at once: each gets its own answer, the server batches, and no connection or file stays open."""

import asyncio
import gc
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import wait_for
from resnet_client import AsyncClient, Client, ClosedError

from .misbehaviour import misbehaving, silent

CALLERS = 8


@pytest.fixture(scope="module")
def crops(images):
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in images.values()]
    made = []
    for number in range(CALLERS):
        array = arrays[number % len(arrays)]
        top, left = (number * 7) % (array.shape[0] - 250), (number * 11) % (array.shape[1] - 250)
        made.append(array[top : top + 250, left : left + 250])
    return made


@pytest.fixture(scope="module")
def alone(server, crops):
    with Client(server.grpc_url) as client:
        return counted(client, lambda: [client.embed(crop) for crop in crops])[0]


def counted(client, call):
    """What a call with all crops returns, and how many batches it needed; Triton's counts lag its responses."""
    images, batches = counts(client)
    found = call()
    wait_for(lambda: counts(client)[0] == images + CALLERS, "not every image is counted once")
    return found, counts(client)[1] - batches


def counts(client):
    """Images and batches that the network has computed."""
    (entry,) = client.statistics(model="network_onnx")
    return entry.inference_count, entry.execution_count


def test_client_gives_each_caller_its_own_answer(connect, server, crops, alone):
    """Many threads or tasks with distinct images share a client, and the server forms batches.

    Each vector is nearest to its own, and equal but for the batch it was computed in.
    """
    client = connect(server)
    calls = [lambda client, crop=crop: client.embed(crop) for crop in crops]
    together, batches = counted(client, lambda: client.together(calls))
    assert batches < CALLERS
    for number, (vector, _) in enumerate(together):
        distances = [float(np.abs(vector - other).max()) for other in alone]
        assert np.argmin(distances) == number
        assert distances[number] < 1e-3


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_async_client_ends_calls_when_it_is_closed(protocol):
    """Tasks get `ClosedError`; one that its owner has cancelled is cancelled."""
    with misbehaving(silent) as port:
        client = AsyncClient(f"{protocol}://127.0.0.1:{port}", timeout_s=20)
        calls = [asyncio.create_task(client.classify(b"x")) for _ in range(4)]
        await asyncio.sleep(0)  # now each waits for its answer
        calls[0].cancel()
        await client.close()
        found = await asyncio.gather(*calls, return_exceptions=True)
    assert [type(error) for error in found] == [asyncio.CancelledError] + [ClosedError] * 3


def open_files():
    """How many files and sockets this process has open."""
    gc.collect()
    return len(list(Path("/proc/self/fd").iterdir()))


def test_classify_many_leaves_nothing_open(server):
    """Runs over HTTP share at most as many connections as there are requests in flight; `close` closes them."""
    before = open_files()
    with Client(server.http_url) as client:
        for _ in range(4):
            list(client.classify_many([b"not an image"] * 8, max_in_flight=4))
        assert open_files() <= before + 4
    assert open_files() <= before
