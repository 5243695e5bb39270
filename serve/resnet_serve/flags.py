"""The command line of ``tritonserver``."""

from __future__ import annotations

from pathlib import Path

from resnet_serve import installation, selection
from resnet_serve.config import ServerConfig


def of(config: ServerConfig, repository: Path, backends: Path, ports: list[int], shm_prefix: str) -> list[str]:
    """Return the flags of ``tritonserver``, without those that close APIs: they hold the admin token.

    Args:
        config: what to run.
        repository: the model repository, absolute.
        backends: the composed backend directory.
        ports: of HTTP, gRPC and metrics.
        shm_prefix: how the names of its shared-memory regions begin.
    """
    http, grpc, metrics = map(str, ports)
    flags = {
        "model-repository": str(repository),
        "backend-directory": str(backends),
        "http-address": config.http_host,
        "http-port": http,
        "grpc-address": config.host,
        "grpc-port": grpc,
        "metrics-address": config.metrics_host,
        "metrics-port": metrics,
        "exit-timeout-secs": str(config.exit_timeout_s),
    }
    regions = [
        f"--backend-config={name},shm-region-prefix-name={shm_prefix}"
        for name in ("python", *installation.NETWORK_BACKENDS)
    ]
    return [
        *(f"--{name}={value}" for name, value in flags.items()),
        # The build writes whole configurations; completing them would start every worker twice.
        "--disable-auto-complete-config",
        *regions,
        *_control(config.triton_args, repository),
        *([f"--model-config-name={name}"] if (name := selection.model_config_name(config)) else []),
        *_tls(config),
        *config.triton_args,
    ]


def _control(triton_args: tuple[str, ...], repository: Path) -> list[str]:
    """Models can be loaded while it runs, which healing and roll-outs need, unless the caller decides otherwise."""
    if any(flag.startswith("--model-control-mode") for flag in triton_args):
        return []
    is_chosen = any(flag.startswith("--load-model") for flag in triton_args)
    chosen = () if is_chosen else selection.servable(repository)
    return ["--model-control-mode=explicit", *(f"--load-model={name}" for name in chosen)]


def _tls(config: ServerConfig) -> list[str]:
    if config.tls_certificate is None:
        return []
    flags = [
        "--grpc-use-ssl=true",
        f"--grpc-server-cert={config.tls_certificate}",
        f"--grpc-server-key={config.tls_key}",
    ]
    if config.tls_client_ca is not None:
        flags += ["--grpc-use-ssl-mutual=true", f"--grpc-root-cert={config.tls_client_ca}"]
    return flags
