"""Options and state that both clients share. No I/O."""

from __future__ import annotations

import functools
import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from resnet_client.config import (
    ClientConfig,
    Preprocessing,
    check_model,
    check_model_version,
    check_preprocessing,
    check_timeout,
)
from resnet_client.errors import (
    ClosedError,
    ConfigurationError,
    DeadlineExceededError,
    InvalidImageError,
    ResnetClientError,
    ServerError,
)
from resnet_client.images import describe, invalid, is_one
from resnet_client.pool import Pool
from resnet_client.requests import Inference, Target
from resnet_client.results import Outcome
from resnet_client.retry import Deadline, RetryBudget

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from resnet_client.images import ImageSource
    from resnet_client.requests import Request
    from resnet_client.responses import PixelTarget
    from resnet_client.results import Health

T = TypeVar("T")

LOGGER = logging.getLogger("resnet_client")
# Python prints warnings without a handler, and a library must not print.
LOGGER.addHandler(logging.NullHandler())

CHECK_INTERVAL_S = 0.2
CHECK_TIMEOUT_S = 5.0
NAME_POLL_S = 0.01

_LARGEST_INTEGER = 2**31 - 1  # the protocols use signed 32-bit integers


class BaseClient:
    """The options and state of :class:`Client` and :class:`AsyncClient`."""

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
        admin_token: str | None = None,
        ca_certificate: str | os.PathLike[str] | None = None,
        client_certificate: str | os.PathLike[str] | None = None,
        client_key: str | os.PathLike[str] | None = None,
    ) -> None:
        """Set the options. The client connects at the first call. Several URLs are several servers.

        An option that is not given comes from its environment variable (``RESNET_URL``, ``RESNET_TIMEOUT_S``, …), or
        else is its default; :class:`ClientConfig` describes them.

        Raises:
            ConfigurationError: an option is invalid; the message names valid values.
        """
        arguments = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        if isinstance(url, list | tuple):
            arguments["url"] = ",".join(map(str, url))
        self._config = ClientConfig.resolve(arguments)
        self._pool = Pool(self._config.endpoints)
        self._retry_budget = RetryBudget()
        self._pixel_targets: dict[tuple[str, str], PixelTarget] = {}
        self._open()

    def _open(self) -> None:
        """Create the state that I/O needs."""
        raise NotImplementedError

    @property
    def _is_closed(self) -> bool:
        raise NotImplementedError

    def __reduce__(self) -> tuple[object, ...]:
        """Send the options to another process, the admin token included; the copy opens its own connections."""
        return functools.partial(type(self), **vars(self._config)), ()

    @property
    def config(self) -> ClientConfig:
        """The options in force."""
        return self._config

    def __repr__(self) -> str:
        state = " closed" if self._is_closed else ""
        return f"<{type(self).__name__} {self._config.url} model={self._config.model!r}{state}>"

    def _check_open(self) -> None:
        if self._is_closed:
            raise ClosedError(f"this {type(self).__name__} is closed; make a new one, or call inside its with block")

    def _target(
        self,
        model: str | None = None,
        model_version: str | None = None,
        preprocessing: Preprocessing | None = None,
        timeout_s: float | None = None,
    ) -> Target:
        """Complete the arguments of a call with the client's options, and check them.

        A call with its own model does not use the client's ``model_version``.
        """
        self._check_open()
        check_model_version(model_version)
        inherited = self._config.model_version if model is None else None
        version = inherited if model_version is None else model_version
        target = Target(
            model=self._config.model if model is None else model,
            model_version="" if version is None else str(version),
            preprocessing=preprocessing or self._config.preprocessing,
            timeout_s=self._config.timeout_s if timeout_s is None else timeout_s,
        )
        check_model(target.model)
        check_preprocessing(target.preprocessing)
        check_timeout(target.timeout_s)
        return target

    def _check_ready_by(self, deadline: Deadline, health: Health) -> None:
        if deadline.left_s <= CHECK_INTERVAL_S:
            raise DeadlineExceededError(
                f"{self._config.url} was not ready within {deadline.timeout_s:g} s: {health.error}"
            ) from health.error

    def _check_resolved_by(self, deadline: Deadline) -> None:
        if deadline.left_s <= 0:
            raise DeadlineExceededError(f"{self._config.url} was not resolved within {deadline.timeout_s:g} s")


def log_retry(error: ServerError, pause_s: float, request: Request) -> None:
    """Log a failed attempt that is retried, and add it to the trace of the call."""
    LOGGER.warning("%s; retrying in %.2f s", error, pause_s)
    if isinstance(request, Inference):
        request.span.retries(error, pause_s)


@contextmanager
def naming_image(image: ImageSource) -> Iterator[None]:
    """Add the image's name, which the server does not know, to errors about it."""
    try:
        yield
    except InvalidImageError as exc:
        if exc.source:
            raise
        raise invalid(image, str(exc)) from exc.__cause__


@contextmanager
def logged_probe() -> Iterator[None]:
    """Log the failure of a probe, which the pool has recorded."""
    try:
        yield
    except (ServerError, InvalidImageError) as exc:  # InvalidImageError: a server with very low limits
        LOGGER.debug("probe: %s", exc)


def failed(image: ImageSource, error: ResnetClientError, started: Deadline) -> Outcome[T]:
    """Return the outcome of a failed image; only a closed client ends the run."""
    if isinstance(error, ClosedError):
        raise error
    return Outcome(image, error=error, duration_s=-started.left_s)


def check_images(images: T) -> T:
    """Refuse a single image where many are expected: its characters, lines or rows would be taken for images."""
    if is_one(images):
        raise ConfigurationError(
            f"expected several images, but this is one ({describe(images)}); pass a list, such as [image]"
        )
    return images


def check_positive(name: str, value: object) -> int:
    """Refuse a number below 1, or above what the protocols can send."""
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= _LARGEST_INTEGER:
        raise ConfigurationError(f"{name} must be an integer from 1 to {_LARGEST_INTEGER}, not {value!r}")
    return value
