"""A transport in memory, for what a real server does not do on request: faults."""

import shutil
import threading
import time

import certifi
import numpy as np
import pytest
import trustme
from resnet_client import ClientConfig, client
from resnet_client.errors import UnavailableError
from resnet_client.requests import Inference
from resnet_client.responses import Answer


class StubTransport:
    """Answers every inference with the first byte of its photo as the class index, all else with nothing."""

    def __init__(self):
        self.sent = []
        self.failures = []
        self.delay_s = 0.0
        self.running = 0
        self.most_running = 0
        self.is_closed = False
        self._lock = threading.Lock()

    def send(self, request, timeout_s):
        """Remember, wait, then fail or answer."""
        with self._lock:
            self.sent.append((request, timeout_s))
            self.running += 1
            self.most_running = max(self.most_running, self.running)
            failure = self.failures.pop(0) if self.failures else None
        time.sleep(self.delay_s)
        with self._lock:
            self.running -= 1
        if failure is not None:
            raise failure
        if not isinstance(request, Inference):
            return {}
        index = request.tensor[0, 0][0]
        return Answer(np.array([[f"0.5:{index}:label {index}".encode()]], dtype=object), request.model, "1")

    def close(self):
        """Remember."""
        self.is_closed = True


@pytest.fixture
def transport(monkeypatch):
    """The stub that clients made in the test will use."""
    stub = StubTransport()
    monkeypatch.setattr(client, "connect", lambda *_: stub)
    return stub


@pytest.fixture
def certificate(tmp_path):
    """A PEM file of authorities."""
    return shutil.copy(certifi.where(), tmp_path / "ca.pem")


@pytest.fixture(scope="session")
def own(tmp_path_factory):
    """The paths of a certificate for a client and of its key."""
    folder = tmp_path_factory.mktemp("own")
    issued = trustme.CA().issue_cert("caller@example.org")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return folder / "certificate.pem", folder / "key.pem"


@pytest.fixture
def unreachable():
    """A failure that is worth another attempt."""
    return UnavailableError("nobody there", status="UNAVAILABLE")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    """Options of the shell that runs the tests must not leak into them."""
    for name in ClientConfig.__dataclass_fields__:
        monkeypatch.delenv(f"RESNET_{name.upper()}", raising=False)
