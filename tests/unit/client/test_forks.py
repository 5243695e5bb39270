"""What a client is in a child process: its own connections, no lock that stays closed."""

import json
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

SETUP = """
import asyncio, multiprocessing, os, signal, sys
from resnet_client import AsyncClient, Client
URL = "http://127.0.0.1:" + sys.argv[1]
os.register_at_fork(after_in_child=lambda: signal.alarm(20))  # no child that hangs is left behind
"""


class Echo(BaseHTTPRequestHandler):
    """A Triton that answers the first byte of each photo as its class."""

    protocol_version = "HTTP/1.1"  # connections stay open
    wbufsize = -1  # an answer is sent as a whole

    def do_POST(self):
        """Answer."""
        content = self.rfile.read(int(self.headers["Content-Length"]))
        length = 4  # of a text, in bytes before it
        text = f"0.5:{content[int(self.headers['Inference-Header-Content-Length']) + length]}:x".encode()
        tensor = len(text).to_bytes(length, "little") + text
        place = {"binary_data_size": len(tensor)}
        output = {"name": "PROBABILITIES__0", "datatype": "BYTES", "shape": [1, 1], "parameters": place}
        words = json.dumps({"outputs": [output]}).encode()
        self.send_response(200)
        self.send_header("Inference-Header-Content-Length", str(len(words)))
        self.send_header("Content-Length", str(len(words + tensor)))
        self.end_headers()
        self.wfile.write(words + tensor)

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def printed():
    """What a program prints that has the server's port as its argument."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def run(code):
            command = [sys.executable, "-c", SETUP + code, str(server.server_port)]
            return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, timeout=90).stdout

        yield run
        server.shutdown()
        thread.join()


def test_children_get_their_own_answers(printed):
    """Four children of a program that has used its client ask at once with it: nobody gets another one's answer."""
    code = """
client = Client(URL)
assert client.classify(bytes([9])).top.index == 9
def call(number):
    return client.classify(bytes([number])).top.index == number
with multiprocessing.get_context("fork").Pool(4) as pool:
    print(sum(pool.imap_unordered(call, [1, 2] * 200)), call(3))
"""
    assert printed(code) == "400 True\n"


def test_children_of_asyncio_get_their_own_answers(printed):
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
print(loop.run_until_complete(call(3)), [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children])
loop.run_until_complete(client.close())
"""
    assert printed(code) == "3 [1, 2]\n"


def test_children_wait_for_no_thread_of_their_parent(printed):
    """Whatever lock was held at the fork, calls and the care for several servers go on in the child."""
    code = """
client = Client([URL, URL.replace("127.0.0.1", "localhost")], retry_overload=True)
client.classify(bytes([9]))
held = [thing._lock for thing in (client, client._pool, client._retry.budget)]
held += [transport._lock for transport in client._transports.values()]
for lock in held:
    lock.acquire()
if not (child := os.fork()):
    with client:
        os._exit(client.classify(bytes([7])).top.index if client._checks is None else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
for lock in held:
    lock.release()
print(client.classify(bytes([8])).top.index)
client.close()
"""
    assert printed(code) == "7\n8\n"


def test_children_have_room_for_photos_of_their_own(printed):
    """What the parent's threads decode at the fork takes no room in a child, and no turn."""
    code = """
from resnet_client import images
from resnet_client.preprocessing import Limits, Recipe, pixels
room, recipe, photo = pixels._room, Recipe(resize=32, crop=24), images.golden()
with room.take(Limits().max_pixels, Limits()), room._first_in_line:
    if not (child := os.fork()):
        os._exit(len(images.pixels(photo, recipe)))
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), len(images.pixels(photo, recipe)))
"""
    assert printed(code) == "24 24\n"


def test_a_closed_client_is_closed_in_a_child(printed):
    """What was closed before the fork stays so."""
    code = """
client = Client(URL)
client.close()
if not (child := os.fork()):
    os._exit(7 if repr(client).endswith("closed>") else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert printed(code) == "7\n"
