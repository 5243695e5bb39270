"""What the doctor writes down about servers that answer this way or that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from resnet_client.__main__ import main
from resnet_client._doctor import Place, collect, examine
from resnet_client._doctor._snapshot import Answered, LargeRequest
from resnet_client.cli import doctor as command
from resnet_client.endpoints import Endpoint
from resnet_client.errors import OverloadedError, RequestError, ResponseError, UnavailableError
from resnet_client.responses import Answer, Call, Inference


def place(answers: Callable[[Any], Any], **changes: Any) -> Place:
    """A server that answers as told."""

    def fetch(_: str) -> str:
        raise OSError("nobody there")

    given = {
        "endpoint": Endpoint.parse("grpc://127.0.0.1:8001"),
        "model": "resnet50",
        "stranger": answers,
        "admin": answers,
        "has_token": False,
        "metrics_url": "http://127.0.0.1:8002/metrics",
        "fetch": fetch,
    }
    return Place(**(given | changes))


def closed_server(request: Any) -> Any:
    """A server that answers photos and health, and nothing else without its token."""
    if isinstance(request, Inference):
        return Answer(np.array([[b"0.9:285:cat"]] * len(request.tensor), dtype=object), request.model, "1")
    if request.method.startswith("is_"):
        return True
    raise RequestError("This API is restricted, expecting header 'admin-key'")


def test_a_server_that_shows_nothing_is_not_checked() -> None:
    """Where even configurations are closed, the report says how to open them, and blames nothing."""
    examination = examine(collect(place(closed_server)))
    assert [finding.check for finding in examination.findings] == ["no-metrics"]
    assert examination.unchecked["no-batching"] == "closed to strangers; give the server's token with --admin-token"
    assert "plaintext" in examination.clean


def test_a_server_that_is_gone_is_an_error() -> None:
    """Nothing is made up about a server that cannot be reached."""

    def gone(_: Any) -> Any:
        raise UnavailableError("nobody there")

    with pytest.raises(UnavailableError):
        collect(place(gone))


def test_an_interface_that_fails_is_not_taken_for_closed() -> None:
    """Only a refusal counts as one; what fails otherwise is not checked."""

    def failing(request: Any) -> Any:
        if isinstance(request, Call) and request.method == "get_trace_settings":
            raise ResponseError("unreadable answer")
        return closed_server(request)

    assert examine(collect(place(failing))).unchecked["control-open"] == "unreadable answer"


def full_server(request: Any) -> Any:
    """A server of one ensemble that is open, in HTTP's words, and overloaded by its second request."""
    if isinstance(request, Inference):
        if len(request.tensor) > 1:
            raise OverloadedError("Exceeds maximum queue size")
        return Answer(np.array([[b"0.9:285:cat", b"0.1:3"]], dtype=object), request.model, "1")
    image = {"name": "IMAGE", "data_type": "TYPE_STRING", "dims": ["1"]}
    output = {"name": "PROBABILITIES__0", "data_type": "TYPE_FP32", "dims": ["2"], "label_filename": "labels.txt"}
    answers = {
        "get_model_repository_index": [{"name": "resnet50", "state": "READY"}, {"name": "old", "state": "UNAVAILABLE"}],
        "get_inference_statistics": {"model_stats": []},
        "get_server_metadata": {"version": "2.51.0"},
        "get_model_metadata": {"versions": ["1"]},
        "get_model_config": {"name": "resnet50", "max_batch_size": 4, "input": [image], "output": [output]},
    }
    assert isinstance(request, Call)
    return answers.get(request.method, True)


def test_the_collector_reads_what_the_server_says() -> None:
    """Versions nobody asked for are no fault, labels are counted, an overload during the look is no verdict."""
    snapshot = collect(place(full_server))
    assert snapshot.unloaded == ()
    assert snapshot.trials["resnet50"].single == Answered((285,), unlabelled=1)
    assert snapshot.large_request == LargeRequest(8 * 2**20)
    found = {finding.check for finding in examine(snapshot).findings}
    assert "labels-incomplete" in found
    assert not {"batch-fails", "overloaded", "readiness-lies"} & found


def network_server(request: Any) -> Any:
    """A server of one network, closed to strangers but for configurations; it takes pixels and nothing else."""
    if isinstance(request, Inference):
        assert (request.input_name, request.tensor.dtype) == ("PIXELS__0", np.uint8)
        assert request.tensor.shape[1:] == (224, 224, 3)
        return Answer(np.array([[b"0.9:285:cat"]] * len(request.tensor), dtype=object), request.model, "1")
    pixels = {"name": "PIXELS__0", "data_type": "TYPE_UINT8", "dims": ["224", "224", "3"]}
    output = {"name": "PROBABILITIES__0", "data_type": "TYPE_FP32", "dims": ["1"], "label_filename": "labels.txt"}
    answers = {
        "get_model_metadata": {"versions": ["1"]},
        "get_model_config": {"name": "network_bf16", "max_batch_size": 4, "input": [pixels], "output": [output]},
    }
    return answers.get(request.method) or closed_server(request)


def test_a_network_is_asked_with_pixels() -> None:
    """What it cannot take is not sent, and said so; the rest is tried as with a model that takes photos."""
    snapshot = collect(place(network_server, model="network_bf16"))
    assert snapshot.trials is not None
    assert snapshot.trials["network_bf16"].batch == Answered((285,) * 4)
    examination = examine(snapshot)
    assert examination.unchecked["large-photos-fail"].startswith("network_bf16 takes pixels, not photos; name a model")
    assert {"readiness-lies", "batch-fails", "batch-differs"} <= {*examination.clean}


@pytest.mark.parametrize(
    ("kind", "dims"), [("TYPE_FP32", [3, 224, 224]), ("TYPE_UINT8", [-1, -1, 3]), ("TYPE_UINT8", [3, 224, 224])]
)
def test_pixels_of_another_make_are_not_sent(kind: str, dims: list[int]) -> None:
    """A trial with what the client never sends would blame the model for it."""

    def server(request: Any) -> Any:
        answer = network_server(request)
        if isinstance(request, Call) and request.method == "get_model_config":
            answer["input"] = [{"name": "PIXELS__0", "data_type": kind, "dims": dims}]
        return answer

    snapshot = collect(place(server, model="network_bf16"))
    assert snapshot.trials == {}
    assert "does not classify photos" in snapshot.unseen["large_request"]


class Door:
    """A connection to the server of one ensemble."""

    def send(self, request: Any, _: float) -> Any:
        """Answer as that server does."""
        return full_server(request)

    def close(self) -> None:
        """Nothing is open."""


@pytest.mark.parametrize(
    ("arguments", "variable", "read"),
    [
        ([], "http://127.0.0.1:7/metrics", ["http://127.0.0.1:7/metrics"]),
        (["--metrics-url", "http://127.0.0.1:9/metrics"], "http://127.0.0.1:7/metrics", ["http://127.0.0.1:9/metrics"]),
        ([], "none", []),
        ([], "", ["http://127.0.0.1:8002/metrics"]),
    ],
    ids=["as resnet-serve --then sets it", "an argument counts more", "none", "empty"],
)
def test_the_metrics_are_where_the_variable_says(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], variable: str, read: list[str]
) -> None:
    """A server on free ports has them anywhere: argument > environment > the port after gRPC's."""
    fetched: list[str] = []

    def fetch(url: str) -> str:
        fetched.append(url)
        return "nv_inference_count 1\n"

    monkeypatch.setattr(command, "connect", lambda *_: Door())
    monkeypatch.setattr(command, "_fetch", fetch)
    monkeypatch.setenv("RESNET_METRICS_URL", variable)
    main(["doctor", "grpc://127.0.0.1:8001", *arguments])
    assert fetched == read
