"""What a server may answer to the client: nothing gets raw to a terminal, and no answer takes memory without bound."""

import concurrent.futures
import csv
import io
import json
import resource
import secrets
import socket
from contextlib import contextmanager

import grpc
import pytest
from resnet_client import Client, ClientConfig, ResponseError
from resnet_client.__main__ import main
from stub import Handler, serving, texts
from tritonclient.grpc import service_pb2, service_pb2_grpc

TOKEN = secrets.token_urlsafe()
ESCAPES = "\x1b]0;owned\x07\x9b31m"


@contextmanager
def http_server(entries, *, body=None):
    """A server that answers every inference with these class strings, or every request with a body."""
    seen = []

    class Answering(Handler):
        def do_GET(self):  # noqa: N802  # the name that the library calls
            seen.append(dict(self.headers))
            self.received()
            if body is None:
                self.respond_classes(entries)
            else:
                self.respond(body)

        do_POST = do_GET  # noqa: N815

    with serving(Answering) as server:
        yield server.url, seen


@contextmanager
def grpc_server(entries):
    """The same over gRPC."""

    class Service(service_pb2_grpc.GRPCInferenceServiceServicer):
        def ModelInfer(self, request, _):  # noqa: N802  # gRPC's name
            response = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="1")
            response.outputs.add(name="PROBABILITIES__0", datatype="BYTES", shape=[1, len(entries)])
            response.raw_output_contents.append(texts(entries))
            return response

    limits = [("grpc.max_send_message_length", -1)]
    server = grpc.server(concurrent.futures.ThreadPoolExecutor(2), options=limits)
    service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(Service(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"grpc://127.0.0.1:{port}", []
    finally:
        server.stop(None).wait()


SERVERS = {"http": http_server, "grpc": grpc_server}


@pytest.fixture(params=SERVERS)
def answering(request):
    """Start a server of either protocol that answers these class strings."""
    return SERVERS[request.param]


@pytest.mark.parametrize(
    ("entries", "reason"),
    [
        ([b"-5.0:7:cock"], "is not between 0 and 1"),
        ([b"nan:7:cock"], "is not between 0 and 1"),
        ([b"0.00001:%d:x" % index for index in range(100_000)], "100000 classes, but 5 were requested"),
    ],
    ids=["negative", "nan", "too many"],
)
def test_classify_refuses_impossible_classes(answering, images, entries, reason):
    """A probability outside 0 to 1 or more classes than requested is an error, over both protocols."""
    with answering(entries) as (url, _), Client(url) as client, pytest.raises(ResponseError, match=reason):
        client.classify(images["cat"])


def test_classify_refuses_a_huge_response(answering, images):
    """It is not read to its end."""
    before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with (
        answering([b"0.5:7:" + b"x" * (150 << 20)]) as (url, _),
        Client(url, max_attempts=1) as client,
        pytest.raises(ResponseError, match=r"64 MiB|larger than max"),
    ):
        client.classify(images["cat"])
    # The server's own copies are in this process, too.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb < 5 * (150 << 10)


@pytest.mark.parametrize("form", [(), ("--json",), ("--csv",)], ids=["text", "json", "csv"])
def test_classify_command_escapes_control_characters(answering, images, capsys, form):
    """A label cannot set colours or a title; JSON stays JSON."""
    with answering([f"0.75:7:{ESCAPES}".encode()]) as (url, _):
        assert main(["classify", "--url", url, "--top-k", "1", *form, str(images["cat"])]) == 0
    shown = capsys.readouterr().out
    assert shown.replace("\n", "").replace("\t", "").isprintable()
    assert r"\u001b]0;owned\u0007\u009b31m" in shown
    if form == ("--json",):
        assert json.loads(shown)["predictions"][0]["label"] == ESCAPES


@pytest.mark.parametrize("label", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_classify_command_neutralises_formulas_in_csv(images, capsys, label):
    """A spreadsheet shows the label and does not compute it."""
    with http_server([f"0.75:7:{label}".encode()]) as (url, _):
        assert main(["classify", "--url", url, "--top-k", "1", "--csv", str(images["cat"])]) == 0
    _, row = csv.reader(io.StringIO(capsys.readouterr().out))
    assert row[3:5] == [f"'{label}", "0.75"]


@pytest.mark.parametrize(
    ("url", "environment_url", "kept"),
    [
        (None, "grpc://triton:8001", True),
        ("grpc://triton:8001", "grpc://triton:8001", True),
        ("http://triton:8000", "grpc://triton:8001", True),
        ("grpc://127.0.0.1:9001", "grpc://triton:8001", True),
        ("grpc://localhost:9001", "", True),
        ("grpc://[::1]:9001", "", True),
        ("grpc://elsewhere:8001", "grpc://triton:8001", False),
        ("grpc://elsewhere:8001", "", False),
        ("grpc://triton:8001,grpc://elsewhere:8001", "grpc://triton:8001", False),
    ],
)
def test_config_keeps_a_token_from_other_hosts(url, environment_url, kept):
    """RESNET_ADMIN_TOKEN is for the servers of RESNET_URL and this machine; an argument is for any server."""
    environment = {"RESNET_ADMIN_TOKEN": "token-of-the-environment", "RESNET_URL": environment_url}
    assert (ClientConfig.resolve({"url": url}, environment).admin_token is not None) == kept
    given = ClientConfig.resolve({"url": url, "admin_token": TOKEN}, environment)
    assert given.admin_token == TOKEN


def test_client_sends_no_token_over_plain_http_to_another_machine(monkeypatch):
    """On this machine it does."""
    with http_server([], body=b'{"model_stats": []}') as (url, seen):
        with Client(url, admin_token=TOKEN) as client:
            client.statistics()
        assert seen[-1]["admin-key"] == TOKEN
        # A name that is not loopback's, for the same server.
        address = socket.getaddrinfo("127.0.0.1", int(url.rpartition(":")[2]))
        monkeypatch.setattr("socket.getaddrinfo", lambda *_, **__: address)
        with Client(url.replace("127.0.0.1", "server.example"), admin_token=TOKEN) as client:
            client.statistics()
    assert len(seen) == 2
    assert "admin-key" not in seen[-1]
