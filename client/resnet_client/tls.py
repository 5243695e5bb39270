"""Certificates for ``grpcs://`` and ``https://``: the trusted authorities, and the client's own."""

from __future__ import annotations

import os
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from resnet_client.errors import ConfigurationError

if TYPE_CHECKING:
    from resnet_client.config import ClientConfig

OPTIONS = ("ca_certificate", "client_certificate", "client_key")


def path_of(name: str, value: object) -> Path:
    """The file that an option names."""
    if not isinstance(value, str | os.PathLike):
        raise ConfigurationError(f"{name} must be the path of a PEM file, not {value!r}")
    return Path(os.fsdecode(value))


def check(config: ClientConfig) -> None:
    """Refuse certificates that cannot be read, do not match, or would not be used.

    Raises:
        ConfigurationError: the message names the option.
    """
    given = [name for name in OPTIONS if getattr(config, name) is not None]
    if not given:
        return
    if (config.client_certificate is None) != (config.client_key is None):
        raise ConfigurationError("client_certificate and client_key must be set together")
    context(config)
    for endpoint in config.endpoints:
        if not endpoint.is_tls:  # certificates show that encryption is intended
            raise ConfigurationError(f"{given[0]} needs TLS, but {endpoint} does not use it; use grpcs:// or https://")


def context(config: ClientConfig) -> ssl.SSLContext:
    """The TLS settings: verify the server's certificate and host name, present the client's certificate.

    Args:
        config: with the paths of the files.

    Raises:
        ConfigurationError: a file cannot be read, or certificate and key do not match.
    """
    authorities, certificate, key = (getattr(config, name) for name in OPTIONS)
    try:
        made = ssl.create_default_context(cafile=authorities)
    except (OSError, ValueError) as exc:  # ValueError: a null byte in the path
        raise _unreadable("ca_certificate", authorities, exc) from exc
    if certificate is not None:
        try:
            made.load_cert_chain(certificate, key, password=_no_passphrase)
        except (OSError, ValueError) as exc:
            raise _unreadable("client_certificate", f"{certificate}, {key}", exc) from exc
    return made


def _no_passphrase() -> str:
    """Called by OpenSSL for an encrypted key, instead of a prompt on the terminal."""
    raise ValueError("the key is encrypted; use a key without a passphrase")


def _unreadable(name: str, path: Any, cause: Exception) -> ConfigurationError:
    return ConfigurationError(f"{name}: '{path}' cannot be read as a PEM file ({cause})")
