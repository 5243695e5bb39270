"""How gRPC channels are opened, blocking or not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from resnet_client._config import ClientConfig

_UNLIMITED = -1

_CHANNEL_OPTIONS = [
    # gRPC's default of 4 MB is less than one large photo.
    ("grpc.max_send_message_length", _UNLIMITED),
    ("grpc.max_receive_message_length", _UNLIMITED),
    # After a failure gRPC answers UNAVAILABLE by itself until its next attempt to connect, by default a
    # second later and then ever more; our retries are to find a server that is back.
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # Clients of one process would otherwise share one connection.
    ("grpc.use_local_subchannel_pool", 1),
]


def client_arguments(config: ClientConfig) -> dict[str, Any]:
    """Arguments of tritonclient's two gRPC clients."""
    certificate = None if config.ca_certificate is None else str(config.ca_certificate)
    return {
        "url": config.endpoint.target,
        "ssl": config.endpoint.is_tls,
        "root_certificates": certificate,
        "channel_args": _CHANNEL_OPTIONS,
    }
