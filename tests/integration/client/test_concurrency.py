"""Many callers at once: everyone gets his own answer, and the server batches."""

import asyncio
import gc
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from resnet_client import AsyncClient, Client, ClosedError

from .conftest import settled

CALLERS = 32
STUB = Path(__file__).parents[2] / "loadtest/stub_grpc.py"


@pytest.fixture(scope="module")
def crops(photos):
    """Distinct photos: crops of the four at different places."""
    arrays = [np.asarray(Image.open(path).convert("RGB")) for path in photos.values()]
    made = []
    for number in range(CALLERS):
        array = arrays[number % len(arrays)]
        top, left = (number * 7) % (array.shape[0] - 250), (number * 11) % (array.shape[1] - 250)
        made.append(array[top : top + 250, left : left + 250])
    return made


@pytest.fixture(scope="module")
def alone(server, crops):
    """Each crop's features, asked for one after the other."""
    with Client(server.grpc_url) as client:
        return [client.embed(crop) for crop in crops]


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_everyone_gets_his_own_answer(server, crops, alone, protocol):
    """Many threads with distinct photos share a client: each gets its own answer, and batches were formed."""
    barrier = threading.Barrier(CALLERS)

    def call(client, crop):
        barrier.wait()
        return client.embed(crop)

    with Client(getattr(server, f"{protocol}_url")) as client:
        photos_before, batches_before = settled(client)
        with ThreadPoolExecutor(CALLERS) as pool:
            together = list(pool.map(lambda crop: call(client, crop), crops))
        photos, batches = settled(client)
    assert photos == photos_before + CALLERS
    assert batches - batches_before < CALLERS
    check(together, alone)


async def test_everyone_gets_his_own_answer_with_asyncio(server, crops, alone):
    """Many tasks at once over both protocols, each with its own photo."""
    for url in (server.grpc_url, server.http_url):
        async with AsyncClient(url) as client:
            check(await asyncio.gather(*(client.embed(crop) for crop in crops)), alone)


async def test_async_iterables_are_sources(server, crops, alone):
    """`embed_many` of the asyncio client takes an async generator and keeps its order."""

    async def source():
        for crop in crops[:8]:
            await asyncio.sleep(0)
            yield crop

    async with AsyncClient(server.grpc_url) as client:
        check([outcome.result async for outcome in client.embed_many(source(), max_in_flight=3)], alone[:8])


@pytest.fixture
def slow_url():
    """A stub over gRPC, for the server that all share may not survive cancelled requests (server#7368)."""
    with subprocess.Popen([sys.executable, STUB, "--answer-s", "0.1"], stdout=subprocess.PIPE, text=True) as process:
        yield f"grpc://127.0.0.1:{int(process.stdout.readline())}"
        process.kill()


async def test_leaving_early_cancels_what_is_under_way(slow_url, crops):
    """After a break no task of ours is left."""
    async with AsyncClient(slow_url) as client:
        outcomes = client.classify_many(crops, max_in_flight=8)
        async for _ in outcomes:
            break
        await outcomes.aclose()
        assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("protocol", ["grpc", "http"])
async def test_closing_ends_calls_with_an_error(silent_port, protocol):
    """Tasks that nobody cancelled get `ClosedError` when their client is closed; the cancelled one is cancelled."""
    client = AsyncClient(f"{protocol}://127.0.0.1:{silent_port}", timeout_s=20)
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


def test_threads_of_a_run_leave_nothing_open(server, photos):
    """Runs over HTTP give back their threads' connections and event loops."""
    with Client(server.http_url) as client:
        list(client.classify_many([photos["cat"]] * 8, max_in_flight=8))
        before = open_files()
        for _ in range(3):
            list(client.classify_many([photos["cat"]] * 8, max_in_flight=8))
        assert open_files() <= before + 2


def test_threads_of_the_caller_leave_nothing_open(server, photos):
    """Threads that used a client over HTTP and ended without a word are cleaned up after."""

    def use(*clients):
        for client in clients:
            client.classify(photos["cat"])

    before = open_files()
    with Client(server.http_url) as one, Client(server.http_url) as other:
        for _ in range(6):
            thread = threading.Thread(target=use, args=(one, other))
            thread.start()
            thread.join()
    assert open_files() <= before + 2


def check(found, expected):
    """Each vector is nearest to its own, and equal but for the batch it was computed in."""
    for number, vector in enumerate(found):
        distances = [float(np.abs(vector - other).max()) for other in expected]
        assert np.argmin(distances) == number
        assert distances[number] < 1e-3
