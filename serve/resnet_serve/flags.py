"""The command lines of the watchdog and of ``tritonserver``."""

from __future__ import annotations

from pathlib import Path

from resnet_client.endpoints import bracketed

from resnet_serve import installation, models, ports
from resnet_serve.config import ServerConfig


def of_watchdog(config: ServerConfig, folder: Path, log: Path, numbers: list[int]) -> list[str]:
    """Return the flags of the watchdog, before ``--`` and the server's command.

    Args:
        config: what to run.
        folder: the server's temporary folder.
        log: Triton's log.
        numbers: the ports of HTTP, gRPC and metrics.
    """
    has_tls = config.tls_certificate is not None or any(
        flag.startswith("--grpc-use-ssl") for flag in config.triton_args
    )
    return [
        "--parent-pipe",
        f"--folder={folder}",
        f"--log={log.resolve()}",
        f"--http=http://{bracketed(ports.reachable(config.http_host))}:{numbers[0]}",
        # Not with TLS, where the client sends first: the watchdog waits for the server's first byte.
        *([] if has_tls else [f"--grpc={bracketed(ports.reachable(config.host))}:{numbers[1]}"]),
        f"--closed-apis={','.join(config.closed_apis)}",
        *(["--no-http"] if config.no_http else []),
        f"--exit-timeout-s={config.exit_timeout_s}",
    ]


def of_server(config: ServerConfig, repository: Path, folder: Path, numbers: list[int]) -> list[str]:
    """Return the flags of ``tritonserver``; the watchdog adds those that restrict APIs, with the token.

    Args:
        config: what to run.
        repository: the model repository, absolute.
        folder: the server's temporary folder; its name is the prefix of the shared-memory regions.
        numbers: the ports of HTTP, gRPC and metrics.
    """
    http, grpc, metrics = numbers
    regions = f"shm-region-prefix-name={folder.name}_"
    return [
        f"--model-repository={repository}",
        f"--backend-directory={folder / 'backends'}",
        *(f"--http-address={_of_http(config.http_host)}", f"--http-port={http}"),
        *(f"--grpc-address={bracketed(ports.address_of(config.host))}", f"--grpc-port={grpc}"),
        *(f"--metrics-address={_of_http(config.metrics_host)}", f"--metrics-port={metrics}"),
        f"--exit-timeout-secs={config.exit_timeout_s}",
        *(f"--backend-config={name},{regions}" for name in ("python", *installation.NETWORK_BACKENDS)),
        # The build writes complete configs. To complete them, Triton would start every worker twice.
        "--disable-auto-complete-config",
        # TritonServer checks the default model; another one that fails does not end the server.
        "--exit-on-error=false",
        *_control(config),
        # So that a network's second instance waits until the first is busy (resnet_client.instance_groups).
        "--rate-limit=execution_count",
        *([f"--model-config-name={name}"] if (name := models.model_config_name(config)) else []),
        *_tls(config),
        *config.triton_args,
    ]


def _of_http(host: str) -> str:
    """Return an address as Triton's HTTP library expects it."""
    address = ports.address_of(host)
    return f"ipv6:{address}" if ":" in address else address


def _control(config: ServerConfig) -> list[str]:
    """Let models be loaded at run time, for the watchdog and rollouts, unless the user's flags set another mode."""
    if any(flag.startswith("--model-control-mode") for flag in config.triton_args):
        return []
    return ["--model-control-mode=explicit", *(f"--load-model={name}" for name in models.loadable(config))]


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
