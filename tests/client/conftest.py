"""Four kinds of clients for the real server; servers in memory for faults and for what order requests come in."""

import asyncio
import os
import shutil
import socket
import tempfile
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import certifi
import numpy as np
import pytest
import trustme
from resnet_client import ClientConfig, InvalidImageError, UnavailableError, async_client, client
from resnet_client.requests import FEATURES, Inference
from resnet_client.responses import Answer

from .certificates import issue
from .clients import KINDS

POLL_S = 0.001
_NOBODY = 65534
UNREACHABLE = UnavailableError("connection refused")
INVALID = InvalidImageError("the image is damaged", source="")


class Stub:
    """Servers in memory: the first byte of an image is its class and each of its features; 255 is an invalid image.

    Attributes:
        sent: requests and their timeouts, in seconds.
        order: hosts, in the order in which they were asked.
        dead: hosts that cannot be reached.
        closed: hosts whose connections were closed.
        received: first bytes of the images, without the test image, which is the only PNG.
        failures: errors of the next images.
        fail: gets a host and an image, and returns the error of the request, or None.
        probabilities: of the classes of each image.
        outputs: names of the outputs in the metadata.
        width: length of the features.
        is_due: gets a request, and returns whether its response may leave.
        answered: how many responses have left.
        most_running: how many requests were in flight at once.
    """

    width = 8

    def __init__(self):
        self.sent, self.order, self.received, self.failures = [], [], [], []
        self.dead, self.closed = set(), set()
        self.fail = lambda *_: None
        self.is_due = lambda _: True
        self.probabilities, self.outputs = (0.5,), [FEATURES]
        self.answered = self.most_running = self._running = 0
        self._lock = threading.Lock()

    @contextmanager
    def request(self, host, request, timeout_s):
        """Count a request while it is in flight; fail, or yield the response."""
        with self._lock:
            self.sent.append((request, timeout_s))
            self.order.append(host)
            self._running += 1
            self.most_running = max(self.most_running, self._running)
            failure = UNREACHABLE if host in self.dead else self._failure(host, request)
        try:
            yield None if failure else self.response(request)
        finally:
            with self._lock:
                self._running -= 1
                self.answered += 1
        if failure:
            raise failure

    def _failure(self, host, request):
        if not isinstance(request, Inference):
            return None
        image = request.tensor[0, 0]
        if not image.startswith(b"\x89PNG"):
            self.received.append(image[0])
        if self.failures:
            return self.failures.pop(0)
        return INVALID if image[0] == 255 else self.fail(host, image)

    def response(self, request):
        if not isinstance(request, Inference):
            outputs = [{"name": name, "datatype": "FP32", "shape": [-1, self.width]} for name in self.outputs]
            counted = [{"name": "m", "version": "1", "inference_count": 2}]
            answers = {"get_inference_statistics": {"model_stats": counted}, "get_model_metadata": {"outputs": outputs}}
            return request.method.startswith("is_") or answers.get(request.method, {})
        index = request.tensor[0, 0][0]
        if request.output_name == FEATURES:
            return Answer(np.full((1, self.width), index, np.float32), request.model, "1")
        classes = [f"{p}:{index + n}:label {index + n}".encode() for n, p in enumerate(self.probabilities)]
        return Answer(np.array([classes], dtype=object), request.model, "1")


class StubTransport:
    """A blocking connection to one server in memory."""

    def __init__(self, servers, endpoint):
        self.servers, self.host = servers, endpoint.host

    def send(self, request, timeout_s):
        with self.servers.request(self.host, request, timeout_s) as response:
            while not self.servers.is_due(request):
                time.sleep(POLL_S)
        return response

    def close(self):
        self.servers.closed.add(self.host)


class AsyncStubTransport(StubTransport):
    """The same for asyncio."""

    async def send(self, request, timeout_s):
        with self.servers.request(self.host, request, timeout_s) as response:
            while not self.servers.is_due(request):  # noqa: ASYNC110  # the condition is the test's own
                await asyncio.sleep(POLL_S)
        return response

    async def close(self):
        super().close()


@pytest.fixture
def stub(monkeypatch):
    """The servers in memory that all clients made in the test use."""
    servers = Stub()
    monkeypatch.setattr(client, "connect", lambda _, endpoint: StubTransport(servers, endpoint))
    monkeypatch.setattr(async_client, "connect_async", lambda _, endpoint: AsyncStubTransport(servers, endpoint))
    return servers


@pytest.fixture(params=KINDS)
def connect(request):
    """Make a client of one of the four kinds for a port, or for the server's own URL."""
    protocol, kind = KINDS[request.param]
    clients = []

    def make(where, url="{protocol}://127.0.0.1:{port}", **options):
        at_port = isinstance(where, int)
        whole = url.format(protocol=protocol, port=where) if at_port else getattr(where, f"{protocol}_url")
        clients.append(kind(whole, **options))
        return clients[-1]

    make.protocol = protocol
    yield make
    for made in clients:
        made.close()


@pytest.fixture
def certificate(tmp_path):
    return shutil.copy(certifi.where(), tmp_path / "ca.pem")


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """The paths of a certificate for a client and of its key."""
    issued = issue(trustme.CA(), tmp_path_factory.mktemp("own") / "caller", "caller@example.org")
    return issued.certificate, issued.key


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Options of the shell that runs the tests must not leak into them; the token is that of the tests' server."""
    for name in ClientConfig.__dataclass_fields__.keys() - {"admin_token"}:
        monkeypatch.delenv(f"RESNET_{name.upper()}", raising=False)


@pytest.fixture
def odd_files(monkeypatch):
    """``odd/137`` has an image and what cannot be read as one; path → message, for a user without rights."""
    with tempfile.TemporaryDirectory() as parent:  # pytest's own folders are closed to other users
        Path(parent).chmod(0o777)
        folder = Path(parent, "odd/137")
        for images in (Path(parent, "elsewhere"), folder, folder / "closed"):
            images.mkdir(parents=True)
            (images / "image.png").write_bytes(b"\x89")
        (folder / "closed.png").write_bytes(b"\x89")
        links = {"circle.png": "circle.png", "device.png": "/dev/zero", "gone.png": "nowhere"}
        for link, target in (links | {"linked": "../../elsewhere", "loop": "."}).items():
            (folder / link).symlink_to(target)
        os.mkfifo(folder / "pipe.png")
        monkeypatch.chdir(parent)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("odd/137/socket.png")
        for closed in ("closed", "closed.png"):
            (folder / closed).chmod(0)
        user = os.geteuid()
        if user == 0:
            os.seteuid(_NOBODY)  # permissions do not apply to root
        yield _odd_messages()
        os.seteuid(user)
        (folder / "closed").chmod(0o700)


def _odd_messages():
    messages = {
        "circle.png": "it cannot be read (Too many levels of symbolic links)",
        "device.png": "this is a pipe, a socket or a device, not a file",
        "gone.png": "there is no such file",
        "linked": "this is a folder, or a link to a folder, which is not followed; pass the files in it",
        "loop": "this is a folder, or a link to a folder, which is not followed; pass the files in it",
        "pipe.png": "this is a pipe, a socket or a device, not a file",
        "closed": "it cannot be read (Permission denied)",
        "closed.png": "it cannot be read (Permission denied)",
        "socket.png": "this is a pipe, a socket or a device, not a file",
    }
    return {f"odd/137/{name}": f"odd/137/{name}: {message}" for name, message in messages.items()}
