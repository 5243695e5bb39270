"""What a client is in a child process: its own connections, no lock that stays closed."""

import subprocess
import sys

import pytest
from stub import Echo, serving

SETUP = """
import asyncio, multiprocessing, os, signal, sys, threading
from resnet_client import AsyncClient, Client
URL, IMAGES = sys.argv[1], sys.argv[2:]
os.register_at_fork(after_in_child=lambda: signal.alarm(20))  # no child that hangs is left behind
def exit_code(child):
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def printed(code, *arguments):
    command = [sys.executable, "-c", SETUP + code, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=90).stdout


@pytest.fixture(scope="module")
def url():
    """A server whose answer is the first byte of the image."""
    with serving(Echo) as server:
        yield server.url


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_fork_gives_children_of_the_real_server_their_own_responses(server, images, protocol):
    """Two children ask for two images in turn with their parent's client."""
    code = """
client = Client(URL)
expected = [client.classify(path).top.index for path in IMAGES]
def call(number):
    return client.classify(IMAGES[number]).top.index == expected[number]
with multiprocessing.get_context("fork").Pool(2) as pool:
    print(expected[0] != expected[1], pool.map(call, [0, 1] * 4, chunksize=1).count(True), call(0))
client.close()
"""
    assert printed(code, getattr(server, f"{protocol}_url"), images["cat"], images["coffee"]) == "True 8 True\n"


def test_fork_gives_children_of_asyncio_their_own_responses(url):
    """An `AsyncClient` is new in a child, in an event loop of the child's own; the parent's works on."""
    code = """
client, loop = AsyncClient(URL), asyncio.new_event_loop()
async def call(number):
    for _ in range(50):
        assert (await client.classify(bytes([number]))).top.index == number
    return number
loop.run_until_complete(call(9))
children = []
for number in (1, 2):
    if not (child := os.fork()):
        os._exit(asyncio.run(call(number)))
    children.append(child)
print(loop.run_until_complete(call(3)), [exit_code(child) for child in children])
loop.run_until_complete(client.close())
"""
    assert printed(code, url) == "3 [1, 2]\n"


def test_fork_leaves_no_lock_closed(url):
    """Whatever lock was held at the fork, calls and the checks of several servers go on in the child."""
    code = """
locks, make = [], threading.Lock
def recorded():
    locks.append(make())
    return locks[-1]
threading.Lock = recorded
client = Client([URL, URL.replace("127.0.0.1", "localhost")], retry_overload=True)
client.classify(bytes([9]))
client.classify(bytes([9]))
threading.Lock = make
held = [lock for lock in locks if lock.acquire(blocking=False)]
assert len(held) > 4
if not (child := os.fork()):
    with client:
        index = client.classify(bytes([7])).top.index
        os._exit(index if "resnet-client-checks" in {thread.name for thread in threading.enumerate()} else 1)
print(exit_code(child))
for lock in held:
    lock.release()
print(client.classify(bytes([8])).top.index)
client.close()
"""
    assert printed(code, url) == "7\n8\n"
