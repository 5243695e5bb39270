"""Traces from the client's call through every step of the ensemble."""

import contextlib
import http.server
import json
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as tritongrpc
import tritonclient.http as tritonhttp
import yaml
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import SpanKind, StatusCode
from resnet_client import AsyncClient, Client, UnavailableError
from resnet_serve import ServerConfig, TritonServer

# Not in `make test`: Triton sometimes sends the spans of a request only after a later one.
pytestmark = pytest.mark.reliability

COMPOSE = Path(__file__).resolve().parents[2] / "docker-compose.yml"
LONGEST_WAIT_S = 10.0
ATTEMPTS = 3
STEPS = {"InferRequest", "resnet50", "preprocess", "network_onnx"}


class Receiver(http.server.ThreadingHTTPServer):
    """Takes spans by OTLP over HTTP, which Triton writes as JSON, as a collector does."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.spans = []
        self.nudge = lambda: None

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/v1/traces"

    def of_trace(self, trace_id, names):
        """Wait until all these spans of a trace have come; return all of the trace by name.

        Triton ends some spans only when the next request comes.
        """
        deadline_s = time.monotonic() + LONGEST_WAIT_S
        while not names <= (found := {s["name"]: s for s in self.spans if s["traceId"] == trace_id}).keys():
            assert time.monotonic() < deadline_s, [(span["name"], span["traceId"]) for span in self.spans]
            self.nudge()
            time.sleep(0.05)
        return found


class Handler(http.server.BaseHTTPRequestHandler):
    """One request of an exporter."""

    server: Receiver

    def do_POST(self):  # the name that the library calls
        content = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for resource in content["resourceSpans"]:
            for scope in resource["scopeSpans"]:
                self.server.spans += scope["spans"]
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_):
        """Silence."""


def whole(receiver, exporter, call):
    """Call until a trace has come whole, for an exporter that is late drops spans; return its spans, and ours."""
    for _ in range(ATTEMPTS):
        exporter.clear()
        call()
        (ours,) = exporter.get_finished_spans()
        with contextlib.suppress(AssertionError):
            return receiver.of_trace(f"{ours.context.trace_id:032x}", STEPS), ours
    pytest.fail(f"none of {ATTEMPTS} traces came whole")


@pytest.fixture(scope="module")
def receiver():
    with Receiver() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture(scope="module")
def traced(repository_copy, receiver, images):
    """A server with the flags of the compose file, tracing switched on."""
    for model in ("resnet50", "preprocess", "network_onnx"):
        repository_copy.add(model)
    compose = yaml.safe_load(COMPOSE.read_text())
    flags = [flag for flag in compose["services"]["triton-cpu"]["entrypoint"] if "trace" in flag]
    assert "--trace-config=rate=${TRACE_RATE:-0}" in flags
    values = {"${TRACE_LEVEL:-OFF}": "TIMESTAMPS", "${TRACE_RATE:-0}": "0"}
    values["http://otel-collector:4318/v1/traces"] = receiver.url
    for variable, value in values.items():
        flags = [flag.replace(variable, value) for flag in flags]
    hasty = "--trace-config=opentelemetry,bsp_schedule_delay=100"
    with (
        TritonServer(ServerConfig(repository_copy.folder, port=0, triton_args=(*flags, hasty))) as server,
        untraced(server, images["cat"]) as receiver.nudge,
    ):
        yield server


@contextlib.contextmanager
def untraced(server, image):
    """A function that sends an image over either protocol as a program without traces does."""
    content = np.array([[image.read_bytes()]], dtype=object)
    clients = {
        tritongrpc: tritongrpc.InferenceServerClient(server.grpc_url.removeprefix("grpc://")),
        tritonhttp: tritonhttp.InferenceServerClient(server.http_url.removeprefix("http://")),
    }

    def send():
        for protocol, client in clients.items():
            tensor = protocol.InferInput("IMAGE", content.shape, "BYTES")
            tensor.set_data_from_numpy(content)
            client.infer("resnet50", [tensor])

    yield send
    for client in clients.values():  # Triton waits for open connections before it ends
        client.close()


class Switch(Sampler):
    """Samples where a test wants it: a process has one provider of traces, and keeps it."""

    now: Sampler = ALWAYS_OFF

    def should_sample(self, *arguments, **options):
        return self.now.should_sample(*arguments, **options)

    def get_description(self):
        return "switch"


@pytest.fixture(scope="session")
def provider():
    """What a program has that traces: an SDK, whose spans are exported at once."""
    made = TracerProvider(sampler=Switch())
    trace.set_tracer_provider(made)
    return made


@pytest.fixture(scope="session")
def kept(provider):
    made = InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(made))
    return made


@pytest.fixture
def exporter(kept, monkeypatch):
    monkeypatch.setattr(Switch, "now", ALWAYS_ON)
    kept.clear()
    return kept


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_client_starts_a_trace_through_every_step(traced, receiver, exporter, images, protocol):
    """Client, ensemble and both steps share a trace id; the parent of the server's first span is the client's."""
    with Client(getattr(traced, f"{protocol}_url")) as client:
        theirs, ours = whole(receiver, exporter, lambda: client.classify(images["cat"]))
    assert (ours.name, ours.kind, ours.attributes["resnet.model"]) == ("classify resnet50", SpanKind.CLIENT, "resnet50")
    ids = {span["spanId"]: name for name, span in theirs.items()}
    (root,) = [span for span in theirs.values() if span["parentSpanId"] not in ids]
    assert root["parentSpanId"] == f"{ours.context.span_id:016x}"
    assert {ids[theirs[step]["parentSpanId"]] for step in ("preprocess", "network_onnx")} == {"resnet50"}


async def test_async_client_starts_a_trace_for_each_call(traced, receiver, exporter, images):
    """Calls that take turns in one thread have a trace each."""
    async with AsyncClient(traced.grpc_url) as client:
        async for outcome in client.classify_many([images["cat"], images["coffee"]]):
            assert outcome.ok
    ids = {f"{span.context.trace_id:032x}" for span in exporter.get_finished_spans()}
    assert len(ids) == 2
    for trace_id in ids:
        with contextlib.suppress(AssertionError):  # the exporter may drop a trace, and the next test begins after both
            receiver.of_trace(trace_id, STEPS)
    assert ids & {span["traceId"] for span in receiver.spans}


def test_client_leaves_calls_untraced_that_are_not_sampled(traced, receiver, exporter, monkeypatch, images):
    """A sampler that drops the call costs the server nothing."""
    # Of the traces of other tests, spans may come still.
    before = {span["traceId"] for span in receiver.spans}
    ours = set()
    with Client(traced.grpc_url) as client:
        with monkeypatch.context() as patch:
            patch.setattr(Switch, "now", ALWAYS_OFF)
            client.classify(images["cat"])

        def call():
            client.classify(images["cat"])
            ours.add(f"{exporter.get_finished_spans()[-1].context.trace_id:032x}")

        # Spans come in the order of the requests: what comes after these has overtaken nothing.
        whole(receiver, exporter, call)
    assert {span["traceId"] for span in receiver.spans} - before <= ours


def test_client_records_retries_as_events(exporter, free_port):
    """A call that fails records how often it tried, and why."""
    url = f"grpc://127.0.0.1:{free_port}"
    with Client(url, max_attempts=2, timeout_s=10) as client, pytest.raises(UnavailableError):
        client.embed(b"image")
    (span,) = exporter.get_finished_spans()
    assert (span.name, span.status.status_code) == ("embed resnet50", StatusCode.ERROR)
    assert [event.name for event in span.events] == ["retry", "exception"]
    assert span.events[0].attributes["error.type"] == "UnavailableError"
    assert span.events[0].attributes["pause_s"] > 0


def test_client_sends_no_trace_without_opentelemetry():
    program = """
import sys
sys.modules["opentelemetry"] = None
from resnet_client import tracing
with tracing.call("classify", "resnet50", "grpc://localhost:8001") as span:
    assert span is tracing.SILENT and not span.headers
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
