"""Who may do what: the admin token, the APIs that it opens, and the files of TLS."""

from __future__ import annotations

import os
import re
import secrets
import ssl
from collections.abc import Iterator
from pathlib import Path

from resnet_serve import installation
from resnet_serve.config import APIS, ServerConfig, UnservableError, is_loopback
from resnet_serve.watchdog import TOKEN_FORM, TOKEN_RULE, TOKEN_VARIABLE

_TOKEN_BYTES = 32


def admin_token(config: ServerConfig) -> str:
    """Return the configured token, that of the environment, or a new one.

    Raises:
        UnservableError: it is too short or holds characters that do not fit; the message does not contain it.
    """
    return _checked(config.admin_token or os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(_TOKEN_BYTES))


def token_from(path: Path) -> str:
    """Read the token in a file; a file that is not there is made, with a new token, and only its owner can read it.

    Raises:
        UnservableError: it can be neither read nor made, or holds no token.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        pass
    except OSError as exc:
        raise UnservableError(f"the admin token's file {path} cannot be made: {exc.strerror}") from exc
    else:
        with os.fdopen(descriptor, "w", encoding="ascii") as stream:
            stream.write(f"{secrets.token_urlsafe(_TOKEN_BYTES)}\n")
    try:
        return _checked(path.read_text(encoding="ascii").strip())
    except (OSError, UnicodeDecodeError) as exc:
        raise UnservableError(f"the admin token's file {path} cannot be read: {exc}") from exc


def check(config: ServerConfig) -> None:
    """Refuse APIs that do not exist or may not be open here, and certificates that no server could use.

    Raises:
        UnservableError: the message names the option and the remedy.
    """
    if unknown := sorted(set(config.open_apis) - set(APIS)):
        raise UnservableError(f"{unknown[0]!r} cannot be opened or closed; these can: {', '.join(APIS)}")
    opened = sorted({"model-repository", "shared-memory"} & set(config.open_apis))
    exposed = [host for host in (config.host, config.http_host) if not is_loopback(host)]
    if opened and exposed:
        raise UnservableError(
            f"{opened[0]} cannot be open without the admin token on {exposed[0]}: with it, whoever reaches Triton "
            f"{installation.RELEASE} runs code there (CVE-2025-23319). Leave it out of --open-apis, or listen on "
            "127.0.0.1"
        )
    _check_tls(config)


def warnings(config: ServerConfig) -> Iterator[str]:
    """Yield a message for each address beyond this machine that the embedded Triton listens on."""
    advice = "SECURITY.md lists its known holes; in production use NVIDIA's container"
    if not is_loopback(config.http_host):
        yield (
            f"HTTP of Triton {installation.RELEASE} listens on {config.http_host}, and anyone who reaches it can end "
            f"the server. {advice}, or `resnet-serve gateway`"
        )
    elif not is_loopback(config.host):
        yield f"gRPC of Triton {installation.RELEASE} listens on {config.host}: for trusted networks only. {advice}"


def _check_tls(config: ServerConfig) -> None:
    certificate, key, client_ca = config.tls_certificate, config.tls_key, config.tls_client_ca
    if (certificate is None) != (key is None):
        raise UnservableError("--tls-certificate and --tls-key belong together: give both or neither")
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
        raise UnservableError(f"--tls-certificate {certificate} and --tls-key {key} do not fit ({exc})") from exc
    if client_ca is not None:
        try:
            context.load_verify_locations(client_ca)
        except ssl.SSLError as exc:
            raise UnservableError(f"--tls-client-ca {client_ca} is no PEM file of certificates ({exc})") from exc


def _refuse_passphrase() -> str:
    raise UnservableError("the key of --tls-key has a passphrase, which Triton cannot ask for: give one without")


def _checked(token: str) -> str:
    if not re.fullmatch(TOKEN_FORM, token):
        raise UnservableError(TOKEN_RULE)
    return token
