"""What both clients are before any I/O: their options, and the flows made from them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar, TypeVar

from resnet_client import _images
from resnet_client._config import ClientConfig, Preprocessing
from resnet_client._exceptions import ClosedError, ConfigurationError
from resnet_client._flows import Flows

if TYPE_CHECKING:
    from collections.abc import Sequence

    from resnet_client._async_runner import AsyncRunner
    from resnet_client._runner import Runner

T = TypeVar("T")

_LARGEST_INTEGER = 2**31 - 1  # that the protocols carry


class BaseClient:
    """Options and state that :class:`Client` and :class:`AsyncClient` share."""

    _runner_type: ClassVar[type[Runner | AsyncRunner]]
    _runner: Runner | AsyncRunner

    def __init__(  # one keyword for each option
        self,
        url: str | Sequence[str] | None = None,
        *,
        model: str | None = None,
        model_version: str | None = None,
        preprocessing: Preprocessing | None = None,
        timeout_s: float | None = None,
        max_attempts: int | None = None,
        retry_overload: bool | None = None,
        shared_memory: bool | None = None,
        admin_token: str | None = None,
        ca_certificate: str | os.PathLike[str] | None = None,
        client_certificate: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Set the options; nothing is connected before the first call. Several URLs are several servers.

        An option not given comes from its environment variable (``RESNET_URL``, ``RESNET_TIMEOUT_S``, …) or
        else its default; :class:`ClientConfig` describes them.

        Raises:
            ConfigurationError: an option makes no sense; the message says what would.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if isinstance(url, list | tuple):
            arguments["url"] = ",".join(map(str, url))
        self._config = ClientConfig.resolve(arguments)
        self._flows = Flows(self._config)
        self._runner = self._runner_type(self._config, self._flows.delivery)

    @property
    def config(self) -> ClientConfig:
        """The options in force."""
        return self._config

    def __repr__(self) -> str:
        state = " closed" if self._runner.is_closed else ""
        return f"<{type(self).__name__} {self._config.url} model={self._config.model!r}{state}>"

    def _check_open(self) -> None:
        if self._runner.is_closed:
            raise ClosedError(f"this {type(self).__name__} is closed; make a new one, or call inside its with block")


def check_images(images: T) -> T:
    """Refuse one photo where many are wanted: its letters, lines or rows would be taken for photos."""
    if _images.is_one(images):
        raise ConfigurationError(
            f"many photos are wanted, this is one ({_images.describe(images)}): pass a list, such as [photo]"
        )
    return images


def check_top_k(top_k: int) -> int:
    """Refuse what cannot be a number of classes."""
    return _positive("top_k", top_k)


def check_max_in_flight(max_in_flight: int) -> int:
    """Refuse what cannot be a number of photos under way."""
    return _positive("max_in_flight", max_in_flight)


def _positive(name: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_INTEGER:
        raise ConfigurationError(f"{name} must be an integer from 1 to {_LARGEST_INTEGER}, not {value!r}")
    return value
