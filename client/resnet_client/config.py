"""The client's options, each declared once: a field is the argument, the environment variable and the flag.

``timeout_s`` is the keyword ``timeout_s``, the environment variable ``RESNET_TIMEOUT_S`` and the flag
``--timeout-s``. Precedence: argument > environment > default.
"""

from __future__ import annotations

import dataclasses
import os
import re
from dataclasses import field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

from resnet_client import tls
from resnet_client.endpoints import Endpoint, parse_all
from resnet_client.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Preprocessing: TypeAlias = Literal["server", "client"]

_LONGEST_TIMEOUT_S = 1e9  # in nanoseconds, it fits into the 64 bits of protocols and server


def _yes_or_no(text: str) -> bool:
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    return known[text.strip().lower()]


_EXPECTED: dict[Any, str] = {_yes_or_no: "yes or no", int: "a whole number", float: "a number"}


def _about(parse: Callable[[str], Any], metavar: str, description: str) -> dict[str, Any]:
    return {"parse": parse, "metavar": metavar, "help": description, "expected": _EXPECTED.get(parse, metavar)}


@dataclasses.dataclass(frozen=True)
class ClientConfig:
    """Options of :class:`Client` and :class:`AsyncClient`, validated.

    Attributes:
        url: ``grpc://``, ``grpcs://``, ``http://`` or ``https://``, host and port; the scheme selects the protocol.
            Several URLs are separated by commas. ``dns:///NAME`` (``http+dns:///NAME``, …) stands for all addresses
            of a name.
        model: name of the served model.
        model_version: its version, such as ``"1"``; None lets the server choose (the latest).
        preprocessing: ``"server"`` sends the encoded image; ``"client"`` decodes and crops it and sends pixels.
        timeout_s: longest wall time of one call in seconds, all attempts together.
        max_attempts: attempts per request, the first included, when the server cannot be reached.
        retry_overload: also retry when the server is overloaded; at most one retry for five requests.
        admin_token: required for the server's restricted APIs, such as model control; never sent with images, nor over
            plain HTTP to another machine.
        ca_certificate: PEM file of the authorities trusted for ``grpcs://`` and ``https://``; None trusts
            those of the system (``https://``) or those that gRPC ships (``grpcs://``).
        client_certificate: PEM file of the client certificate, for mutual TLS.
        client_key: PEM file of the private key, without a passphrase.
    """

    url: str = field(
        default="grpc://localhost:8001",
        metadata=_about(str, "URL", "Server URL, or several separated by commas; the scheme selects the protocol"),
    )
    model: str = field(default="resnet50", metadata=_about(str, "NAME", "Model to use"))
    model_version: str | None = field(default=None, metadata=_about(str, "N", "Version of the model; default: latest"))
    preprocessing: Preprocessing = field(
        default="server", metadata=_about(str, "{server,client}", "Where images are decoded and cropped")
    )
    timeout_s: float = field(
        default=30.0, metadata=_about(float, "SECONDS", "Timeout of each image or request, all attempts included")
    )
    max_attempts: int = field(
        default=4, metadata=_about(int, "N", "Attempts per request when the server cannot be reached")
    )
    retry_overload: bool = field(
        default=False, metadata=_about(_yes_or_no, "", "Also retry when the server is overloaded")
    )
    admin_token: str | None = field(
        default=None,
        repr=False,
        metadata=_about(str, "TOKEN", "Admin token for restricted APIs such as model control"),
    )
    ca_certificate: Path | None = field(
        default=None, metadata=_about(Path, "FILE", "Certificates of trusted authorities (PEM) for TLS")
    )
    client_certificate: Path | None = field(
        default=None, metadata=_about(Path, "FILE", "Client certificate (PEM) for mutual TLS")
    )
    client_key: Path | None = field(
        default=None, metadata=_about(Path, "FILE", "Private key of the client certificate (PEM)")
    )

    def __post_init__(self) -> None:
        parse_all(self.url)
        check_model(self.model)
        check_model_version(self.model_version)
        check_preprocessing(self.preprocessing)
        check_timeout(self.timeout_s)
        if isinstance(self.max_attempts, bool) or not isinstance(self.max_attempts, int) or self.max_attempts < 1:
            raise ConfigurationError(f"max_attempts must be an integer of at least 1, not {self.max_attempts!r}")
        check_admin_token(self.admin_token)
        for name in tls.OPTIONS:
            if getattr(self, name) is not None:
                object.__setattr__(self, name, tls.path_of(name, getattr(self, name)))
        tls.check(self)

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """The parsed URLs."""
        return parse_all(self.url)

    @classmethod
    def resolve(cls, arguments: Mapping[str, Any], environment: Mapping[str, str] | None = None) -> ClientConfig:
        """Combine the sources: argument (unless None) > environment (unless empty) > default.

        A token from the environment is used for the servers of ``RESNET_URL`` and for this machine only.

        Args:
            arguments: by field name; None stands for "not given".
            environment: instead of ``os.environ``.

        Raises:
            ConfigurationError: a value is invalid; the message names the argument or variable.
        """
        environment = os.environ if environment is None else environment
        values: dict[str, Any] = {}
        for option in dataclasses.fields(cls):
            if arguments.get(option.name) is not None:
                values[option.name] = arguments[option.name]
            elif text := environment.get(environment_name(option.name)):
                values[option.name] = _parsed(option, text)
        if arguments.get("admin_token") is None and not _is_meant_by_environment(values.get("url"), environment):
            values.pop("admin_token", None)
        return cls(**values)


def environment_name(name: str) -> str:
    """``timeout_s`` → ``RESNET_TIMEOUT_S``."""
    return f"RESNET_{name.upper()}"


def _is_meant_by_environment(url: str | None, environment: Mapping[str, str]) -> bool:
    """Whether all servers of a URL are in ``RESNET_URL`` or on this machine."""
    known = environment.get(environment_name("url"), "")
    if url is None or url == known:
        return True
    hosts = {endpoint.host for endpoint in parse_all(known)} if known else set()
    return all(endpoint.is_loopback or endpoint.host in hosts for endpoint in parse_all(url))


def _parsed(option: dataclasses.Field[Any], text: str) -> Any:
    try:
        return option.metadata["parse"](text)
    except (ValueError, KeyError) as exc:
        name = environment_name(option.name)
        raise ConfigurationError(f"invalid {name}={text!r}: expected {option.metadata['expected']}") from exc


def check_model(name: object) -> None:
    """Refuse an invalid model name; no protocol can send half of a surrogate pair."""
    if not isinstance(name, str) or not name or re.search(r"[\ud800-\udfff]", name):
        raise ConfigurationError(f"model must be the name of a model, such as 'resnet50', not {name!r}")


def check_model_version(version: object) -> None:
    """Refuse an invalid version; None lets the server choose."""
    if version is not None and not re.fullmatch(r"[1-9][0-9]*", str(version)):
        raise ConfigurationError(f"model_version must be a number of at least 1, such as '1', not {version!r}")


def check_preprocessing(choice: object) -> None:
    """Refuse anything but ``"server"`` and ``"client"``."""
    if choice not in get_args(Preprocessing):
        raise ConfigurationError(f"preprocessing must be 'server' or 'client', not {choice!r}")


def check_timeout(timeout_s: object) -> None:
    """Refuse a timeout that is not a positive number of seconds, or too large for the protocols."""
    if isinstance(timeout_s, bool) or not isinstance(timeout_s, int | float) or not 0 < timeout_s <= _LONGEST_TIMEOUT_S:
        raise ConfigurationError(
            f"timeout_s must be a positive number of seconds, at most {_LONGEST_TIMEOUT_S:g}, not {timeout_s!r}"
        )


def check_admin_token(token: object) -> None:
    """Refuse a token that cannot be a header value; the message does not contain it."""
    if token is not None and not (isinstance(token, str) and re.fullmatch(r"[!-~]+", token)):
        raise ConfigurationError("admin_token must consist of printable ASCII characters without spaces")
