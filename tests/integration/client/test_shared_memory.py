"""Photos that reach the real server through shared memory, and what happens where they cannot."""

import contextlib
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from resnet_client import Client, ClientConfig, InvalidImageError, ServerError, _shared_memory
from resnet_client._requests import Call, Inference
from resnet_client._transports import connect as connected

FOLDER = Path("/dev/shm")


class Memory:
    """What clients share with the server since the test began."""

    def __init__(self, server):
        self._server = server
        self._before = self._found()

    def files(self):
        """The regions' names on this machine."""
        return self._found() - self._before

    def known(self):
        """The names that the server has mapped."""
        return set(self._asked("get_system_shared_memory_status").get("regions", {}))

    def forget(self):
        """Make the server as it is when it was started again; it keeps what it has answered but not yet dropped."""
        deadline = time.monotonic() + 10
        while self.known():
            assert time.monotonic() < deadline
            with contextlib.suppress(ServerError):
                self._asked("unregister_system_shared_memory")

    def _asked(self, method):
        config = ClientConfig(self._server.grpc_url, admin_token=self._server.admin_token)
        transport = connected(config, *config.endpoints)
        try:
            return transport.send(Call(method), 10)
        finally:
            transport.close()

    @staticmethod
    def _found():
        return {path.name for path in FOLDER.glob("resnet-client-*")}


@pytest.fixture
def memory(server):
    """What is shared; when the test's clients are closed, nothing is left."""
    shared = Memory(server)
    yield shared
    assert not shared.files()
    assert not shared.known()


@pytest.fixture
def sharing(memory, connect, server):
    """A client of each of the four kinds that shares memory with the server."""
    return connect(server, shared_memory=True)


@pytest.fixture
def stranger(memory, connect, server, monkeypatch):
    """The same without the token."""
    monkeypatch.delenv("RESNET_ADMIN_TOKEN")
    return connect(server, shared_memory=True)


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """Shared memory that is not the server's."""
    monkeypatch.setattr(_shared_memory, "_FOLDER", tmp_path / "shm")
    (tmp_path / "shm").mkdir()
    yield tmp_path / "shm"
    assert not list(tmp_path.glob("shm/*"))


@pytest.fixture(scope="module")
def cat(photos):
    """A photo that is large enough."""
    return photos["cat"]


@pytest.fixture(scope="module")
def expected(server, photos):
    """What a client says that shares nothing."""
    with Client(server.grpc_url) as client:
        return {path: client.classify(path) for path in photos.values()}


def test_photos_and_pixels_are_read_there(sharing, memory, cat, expected, monkeypatch):
    """Nothing travels with the request, and the answers are the same."""
    monkeypatch.setattr(Inference, "content", lambda *_: pytest.fail("the photo travels"))
    assert sharing.classify(cat) == expected[cat]
    assert sharing.classify(cat, preprocessing="client").predictions == expected[cat].predictions
    assert memory.files() == memory.known()
    assert len(memory.files()) == 1  # one after the other, they lay in the same place


def test_everyone_gets_his_own_answer(sharing, expected):
    """Photos under way at once have places of their own."""
    photos = list(expected) * 4
    outcomes = sharing.many(photos, max_in_flight=8)
    assert [outcome.result.top.index for outcome in outcomes] == [expected[path].top.index for path in photos]


def test_small_photos_travel_with_their_requests(sharing, memory):
    """For what is as fast that way, the server is not troubled."""
    assert sharing.is_ready()
    assert not memory.files()


def test_bad_photos_are_refused_as_ever(sharing, memory):
    """The server's reason arrives, and the place is used again."""
    for _ in range(3):
        with pytest.raises(InvalidImageError, match="known format"):
            sharing.classify(bytes(100_000))
    assert len(memory.files()) == 1


def test_a_server_that_was_started_again_learns_of_it_anew(sharing, memory, cat, expected):
    """It knows no region any more; the next photo makes it known, and is answered."""
    sharing.classify(cat)
    memory.forget()
    assert not memory.known()
    assert sharing.classify(cat) == expected[cat]
    assert memory.files() == memory.known()


def test_two_ways_to_one_server_are_no_conflict(memory, server, cat, caplog):
    """The same region is known by gRPC and by HTTP."""
    with Client([server.grpc_url, server.http_url], shared_memory=True) as client:
        assert len({client.classify(cat).top.index for _ in range(4)}) == 1
        assert memory.files() == memory.known()
    assert not caplog.records


def check_told_once(client, photo, expected, caplog, reason):
    """Photos are answered all the same, and a warning says once why they travel."""
    assert [client.classify(photo) for _ in range(2)] == [expected[photo]] * 2
    (record,) = caplog.records
    assert reason in record.getMessage()
    assert "photos travel with their requests" in record.getMessage()


def test_without_the_token_photos_travel(stranger, cat, expected, caplog):
    """A server that lets no stranger share memory answers; the warning says what opens it."""
    check_told_once(stranger, cat, expected, caplog, "RESNET_ADMIN_TOKEN")


def test_without_shared_memory_photos_travel(elsewhere, sharing, cat, expected, caplog):
    """A machine that has none is no hindrance."""
    elsewhere.rmdir()
    check_told_once(sharing, cat, expected, caplog, "No such file")


def test_servers_with_other_memory_get_photos_all_the_same(elsewhere, sharing, cat, expected, caplog):
    """One on another machine or in a container finds no such region; its file goes with the client."""
    check_told_once(sharing, cat, expected, caplog, "Unable to open")
    assert list(elsewhere.iterdir())


SCRIPT = """
import os, sys
from resnet_client import Client
client = Client(sys.argv[1], shared_memory=True)
client.classify(sys.argv[2])
assert any(name.startswith("resnet-client-") for name in os.listdir("/dev/shm"))
if sys.argv[3:]:
    os.kill(os.getpid(), int(sys.argv[3]))
"""


def run(url, photo, *signals):
    """A program that classifies a photo and then ends, or is ended; returns its exit status and its complaints."""
    command = [sys.executable, "-c", SCRIPT, url, str(photo), *map(str, map(int, signals))]
    finished = subprocess.run(command, check=False, capture_output=True, text=True, timeout=100)
    return finished.returncode, finished.stderr


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_a_program_that_forgets_to_close_leaves_nothing(memory, server, cat, protocol):
    """What it shared is taken back when it ends."""
    assert run(getattr(server, f"{protocol}_url"), cat) == (0, "")
    assert not memory.files()
    assert not memory.known()


def test_what_a_killed_program_leaves_the_next_one_removes(memory, server, cat):
    """On the machine and in the server; what somebody still uses stays."""
    with Client(server.grpc_url, shared_memory=True) as client:
        client.classify(cat)
        used = memory.files()
        assert run(server.grpc_url, cat, signal.SIGKILL) == (-signal.SIGKILL, "")
        (left,) = memory.files() - used
        assert left in memory.known()
        with Client(server.http_url, shared_memory=True) as other:
            other.classify(cat)
            assert left not in memory.files() | memory.known()
            assert used < memory.files() == memory.known()


def test_a_forked_program_leaves_its_parents_memory_alone(memory, server, cat):
    """Closing the client in the child takes nothing from the parent."""
    script = f"""
import os
from resnet_client import Client
client = Client({server.http_url!r}, shared_memory=True)
client.classify({str(cat)!r})
regions = client._flows.delivery._lending._regions
names = {{region.name for region in regions.all}}
if (child := os.fork()) == 0:
    client.close()
    os._exit(regions.take(1) is not None)
assert os.waitpid(child, 0)[1] == 0
assert names and names <= set(os.listdir("/dev/shm"))
client.classify({str(cat)!r})
"""
    finished = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True, timeout=100)
    assert (finished.returncode, finished.stderr) == (0, "")
