"""The command lines of the watchdog and of ``tritonserver``."""

from __future__ import annotations

from pathlib import Path

import pytest
from resnet_serve import ServerConfig, flags

REPOSITORY = Path("no-models")  # a built repository may have named configs, which add a flag
CONTROL = "--model-control-mode=explicit"


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ServerConfig(REPOSITORY), [CONTROL, "--load-model=*"]),
        (ServerConfig(REPOSITORY, ("a", "b")), [CONTROL, "--load-model=a", "--load-model=b"]),
        (ServerConfig(REPOSITORY, triton_args=("--model-control-mode=none",)), ["--model-control-mode=none"]),
        (
            ServerConfig(REPOSITORY, model_config_name="tuned"),
            [CONTROL, "--load-model=*", "--model-config-name=tuned"],
        ),
        (ServerConfig(REPOSITORY, model_config_name=""), [CONTROL, "--load-model=*"]),
    ],
)
def test_of_server_lets_models_be_loaded(config: ServerConfig, expected: list[str]) -> None:
    """Unless flags that are passed through decide otherwise; a model config is named if there is one."""
    found = flags.of_server(config, REPOSITORY, Path("/f"), [1, 2, 3])
    assert [flag for flag in found if flag.startswith(("--model-con", "--load-model"))] == expected


@pytest.mark.parametrize(
    ("config", "is_watched"),
    [
        (ServerConfig("models"), True),
        (ServerConfig("models", triton_args=("--grpc-use-ssl=true",)), False),
        (ServerConfig("models", triton_args=("--grpc-use-ssl", "true")), False),
        (ServerConfig("models", triton_args=("--grpc-use-ssl-mutual=true",)), False),
        (ServerConfig("models", tls_certificate=Path("c"), tls_key=Path("k")), False),
    ],
)
def test_of_watchdog_watches_grpc_without_tls(config: ServerConfig, is_watched: bool) -> None:
    """With TLS the client speaks first, by our options as by Triton's own."""
    found = flags.of_watchdog(config, Path("/f"), Path("/l"), [1, 2, 3])
    assert any(flag.startswith("--grpc=") for flag in found) == is_watched
