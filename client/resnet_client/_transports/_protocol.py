"""Our requests in the words of tritonclient, whose gRPC and HTTP modules share names; answers likewise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from resnet_client._requests import Answer, Inference

if TYPE_CHECKING:
    from types import ModuleType

    from resnet_client._requests import Request

CONNECT_TIMEOUT_S = 3.0
"""Longest wait for a connection, so that time is left for another attempt; one lost packet costs one second."""


def invocation(protocol: ModuleType, request: Request, timeout_s: float) -> tuple[str, dict[str, Any]]:
    """Name and arguments of the tritonclient method.

    Args:
        protocol: ``tritonclient.grpc`` or ``tritonclient.http``.
        request: what to ask.
        timeout_s: also told to the server, so that work nobody waits for leaves its queue.
    """
    if not isinstance(request, Inference):
        return request.method, dict(request.arguments)
    tensor = protocol.InferInput(request.input_name, list(request.tensor.shape), request.datatype)
    tensor.set_data_from_numpy(request.tensor)
    output = protocol.InferRequestedOutput(request.output_name, class_count=request.class_count)
    return "infer", {
        "model_name": request.model,
        "model_version": request.model_version,
        "inputs": [tensor],
        "outputs": [output],
        "timeout": max(1, round(timeout_s * 1_000_000)),
    }


def is_closed_to_strangers(request: Request) -> bool:
    """Whether a server may want the admin token for this; never for health and inference."""
    return not isinstance(request, Inference) and request.method.startswith("get_")


def read(request: Request, answer: Any) -> Any:
    """The answer without its protocol: an :class:`Answer`, a dictionary, or a flag."""
    if isinstance(request, Inference):
        response = answer.get_response()
        is_http = isinstance(response, dict)
        version = response.get("model_version", "") if is_http else response.model_version
        return Answer(answer.as_numpy(request.output_name), request.model, version)
    if request.method == "get_model_config":
        return answer.get("config", answer)  # only gRPC wraps it
    return answer
