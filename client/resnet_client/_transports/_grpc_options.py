"""How gRPC channels are opened and used, blocking or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import tritonclient.grpc as protocol

from resnet_client._transports._protocol import CONNECT_TIMEOUT_S, invocation, is_closed_to_strangers

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig
    from resnet_client._endpoint import Endpoint
    from resnet_client._requests import Request

_UNLIMITED = -1

_CHANNEL_OPTIONS = [
    # gRPC's default of 4 MB is less than one large photo.
    ("grpc.max_send_message_length", _UNLIMITED),
    ("grpc.max_receive_message_length", _UNLIMITED),
    # After a failure gRPC answers UNAVAILABLE by itself until its next attempt to connect, by default a
    # second later and then ever more; our retries are to find a server that is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # It is also how long an attempt to connect may take, by default 20 s.
    ("grpc.min_reconnect_backoff_ms", int(CONNECT_TIMEOUT_S * 1000)),
    # Clients of one process would otherwise share one connection.
    ("grpc.use_local_subchannel_pool", 1),
]


def client_arguments(config: ClientConfig, endpoint: Endpoint) -> dict[str, Any]:
    """Arguments of tritonclient's two gRPC clients."""
    options: list[tuple[str, Any]] = list(_CHANNEL_OPTIONS)
    if endpoint.found_by and endpoint.is_tls:
        options.append(("grpc.ssl_target_name_override", endpoint.found_by))
    files = {
        "root_certificates": config.ca_certificate,
        "private_key": config.client_key,
        "certificate_chain": config.client_certificate,
    }
    return {
        "url": endpoint.target,
        "ssl": endpoint.is_tls,
        "channel_args": options,
        **{name: None if path is None else str(path) for name, path in files.items()},
    }


def arguments_of(config: ClientConfig, request: Request, timeout_s: float) -> tuple[str, dict[str, Any]]:
    """Name and arguments of a method of tritonclient's two gRPC clients."""
    method, arguments = invocation(protocol, request, timeout_s)
    if method.startswith("get_"):
        arguments["as_json"] = True
    if config.admin_token is not None and is_closed_to_strangers(request):
        arguments["headers"] = {"triton-grpc-protocol-admin-key": config.admin_token}
    return method, arguments
