"""OpenTelemetry spans of calls, if OpenTelemetry is installed and has an exporter."""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Span:
    """The span of a call; this base class records nothing."""

    headers: Mapping[str, str] = {}
    """``traceparent``, sent with each request, so that the server's spans belong to the same trace."""

    def retries(self, error: Exception, pause_s: float) -> None:
        """Record a failed attempt and the pause before the next one, in seconds."""


SILENT = Span()


class _Recorded(Span):
    def __init__(self, span: Any) -> None:
        from opentelemetry import propagate, trace

        self._span = span
        headers: dict[str, str] = {}
        propagate.inject(headers, context=trace.set_span_in_context(span))
        self.headers = headers

    def retries(self, error: Exception, pause_s: float) -> None:
        attributes = {"error.type": type(error).__name__, "error.message": str(error), "pause_s": pause_s}
        self._span.add_event("retry", attributes)


@functools.cache
def _tracer() -> Any:
    """OpenTelemetry's tracer for this package, loaded by the first call; None if it is not installed."""
    try:
        from opentelemetry import trace
    except ImportError:
        return None
    return trace.get_tracer("resnet_client")


@contextlib.contextmanager
def call(name: str, model: str, server: str) -> Iterator[Span]:
    """Record the block, and an error that leaves it, as one call.

    The span does not become the current one, because several tasks share a thread.

    Args:
        name: the client's method.
        model: name of the model.
        server: the client's URL.
    """
    tracer = _tracer()
    if tracer is None:
        yield SILENT
        return
    from opentelemetry import trace

    attributes = {"resnet.model": model, "url.full": server}
    span = tracer.start_span(f"{name} {model}", kind=trace.SpanKind.CLIENT, attributes=attributes)
    if not span.is_recording():  # Triton would record every request with a trace context
        yield SILENT
        return
    try:
        yield _Recorded(span)
    except BaseException as exc:
        span.record_exception(exc)
        span.set_status(trace.Status(trace.StatusCode.ERROR, str(exc)))
        raise
    finally:
        span.end()
