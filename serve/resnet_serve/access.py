"""Access to the server: the admin token, the APIs that require it, and the TLS files.

Triton itself checks the token of each request: the watchdog passes it in the flags that restrict APIs.
"""

from __future__ import annotations

import os
import re
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path

from resnet_client.endpoints import is_loopback

from resnet_serve import installation
from resnet_serve.config import APIS, ServerConfig, UnservableError
from resnet_serve.watchdog import TOKEN_FORM, TOKEN_RULE, TOKEN_VARIABLE

_TOKEN_BYTES = 32


def admin_token(config: ServerConfig) -> str:
    """Return the configured token, the one in the environment, or a new one.

    Raises:
        UnservableError: it is too short or has invalid characters; the message does not contain it.
    """
    return _checked(config.admin_token or os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(_TOKEN_BYTES))


def token_from(path: Path) -> str:
    """Read the token in a file; create a missing file with a new token, readable by its owner only.

    Raises:
        UnservableError: the file cannot be read or created, or does not contain a valid token.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as exc:
        raise UnservableError(f"the admin token file {path} cannot be created: {exc.strerror}") from exc
    else:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{secrets.token_urlsafe(_TOKEN_BYTES)}\n")
    try:
        return _checked(path.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as exc:
        raise UnservableError(f"the admin token file {path} cannot be read: {exc}") from exc


def check(config: ServerConfig) -> None:
    """Refuse unknown APIs, APIs that must not be open beyond this machine, and invalid TLS files.

    Raises:
        UnservableError: the message names the option and the remedy.
    """
    if unknown := sorted(set(config.open_apis) - set(APIS)):
        raise UnservableError(f"invalid API {unknown[0]!r} in --open-apis: expected names of {', '.join(APIS)}")
    opened = sorted({"model-repository", "shared-memory"} & set(config.open_apis))
    exposed = [host for host in (config.host, config.http_host) if not is_loopback(host)]
    if opened and exposed:
        raise UnservableError(
            f"--open-apis {opened[0]} is not allowed on {exposed[0]}: anyone who can connect to Triton "
            f"{installation.RELEASE} could run code on this machine (CVE-2025-23319). Remove it from --open-apis, or "
            "listen on 127.0.0.1"
        )
    _check_tls(config)


def warnings(config: ServerConfig) -> Iterator[str]:
    """Yield a message if the embedded Triton listens on an address beyond this machine."""
    advice = "docs/SECURITY.md lists its known vulnerabilities; in production use NVIDIA's container"
    if not is_loopback(config.http_host):
        yield (
            f"HTTP of Triton {installation.RELEASE} listens on {config.http_host}: anyone who can connect to it can "
            f"crash the server. {advice}, or `resnet-serve gateway`"
        )
    elif not is_loopback(config.host):
        yield f"gRPC of Triton {installation.RELEASE} listens on {config.host}: for trusted networks only. {advice}"


def _check_tls(config: ServerConfig) -> None:
    certificate, key, client_ca = config.tls_certificate, config.tls_key, config.tls_client_ca
    if (certificate is None) != (key is None):
        raise UnservableError("--tls-certificate and --tls-key require each other: give both or neither")
    if certificate is None or key is None:
        if client_ca is not None:
            raise UnservableError("--tls-client-ca needs --tls-certificate and --tls-key")
        return
    for option, path in (("certificate", certificate), ("key", key), ("client-ca", client_ca)):
        try:
            if path is not None:
                path.open("rb").close()
        except OSError as exc:
            raise UnservableError(f"--tls-{option} {path} cannot be read: {exc.strerror}") from exc
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(certificate, key, password=_refuse_passphrase)
    except (ssl.SSLError, ValueError) as exc:
        raise UnservableError(
            f"--tls-certificate {certificate} and --tls-key {key} are invalid or do not match ({exc})"
        ) from exc
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as exc:
            raise UnservableError(f"--tls-client-ca {client_ca} is not a PEM file of certificates ({exc})") from exc


def _refuse_passphrase() -> str:
    raise UnservableError("--tls-key has a passphrase, which Triton does not support: use a key without one")


def _checked(token: str) -> str:
    if not re.fullmatch(TOKEN_FORM, token):
        raise UnservableError(TOKEN_RULE)
    return token
