"""OpenTelemetry spans of the client's calls, and the trace context that it sends."""

import subprocess
import sys

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF, ALWAYS_ON, Sampler
from opentelemetry.trace import StatusCode
from resnet_client import Client, UnavailableError
from stub import Echo, serving


class Switch(Sampler):
    """Samples where a test wants it: a process has one provider of traces, and keeps it."""

    now: Sampler = ALWAYS_OFF

    def should_sample(self, *arguments, **options):
        return self.now.should_sample(*arguments, **options)

    def get_description(self):
        return "switch"


@pytest.fixture(scope="session")
def kept():
    """What a program has that traces: an SDK, whose spans are exported at once."""
    exporter, provider = InMemorySpanExporter(), TracerProvider(sampler=Switch())
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(provider)
    return exporter


@pytest.fixture
def exporter(kept, monkeypatch):
    monkeypatch.setattr(Switch, "now", ALWAYS_ON)
    kept.clear()
    return kept


def test_client_sends_the_trace_of_each_sampled_call(exporter, monkeypatch):
    """Each call has a trace of its own; one that the sampler drops sends none."""
    seen = []

    class Recorded(Echo):
        def do_POST(self):  # noqa: N802  # the name that the library calls
            seen.append(self.headers.get("traceparent", "")[3:52])
            super().do_POST()

    with serving(Recorded) as server, Client(server.url) as client:
        assert all(outcome.ok for outcome in client.classify_many([b"\1", b"\2"], max_in_flight=1))
        monkeypatch.setattr(Switch, "now", ALWAYS_OFF)
        client.classify(b"\1")
    spans = exporter.get_finished_spans()
    expected = [f"{span.context.trace_id:032x}-{span.context.span_id:016x}" for span in spans]
    assert seen == [*expected, ""]
    assert len(set(expected)) == 2


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
    """The package is optional."""
    program = """
import sys
sys.modules["opentelemetry"] = None
from resnet_client import tracing
with tracing.call("classify", "resnet50", "grpc://localhost:8001") as span:
    assert span is tracing.SILENT and not span.headers
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
