"""The exit codes of ``resnet-client``, and the one for the outcomes of a run over images."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Self, TypeVar

from resnet_client.errors import (
    ConfigurationError,
    DeadlineExceededError,
    ImageError,
    ModelNotFoundError,
    OverloadedError,
    ResnetClientError,
    ServerError,
    UnavailableError,
)
from resnet_client.printing import warn
from resnet_client.results import until_server_fails

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resnet_client.results import Outcome

T = TypeVar("T")

_MOST_REASONS = 5


class ExitCode(enum.IntEnum):
    """Exit codes with their meaning."""

    def __new__(cls, value: int, meaning: str) -> Self:
        """Make a member with this number and meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    meaning: str

    OK = 0, "success"
    SOME_FAILED = 1, "some images failed; for doctor: at least one check found a fault"
    USAGE = 2, "an option, URL or input is invalid, or the output cannot be written"
    NOT_READY = 3, "the server cannot be reached, is not ready, is overloaded, or did not answer in time"
    NO_MODEL = 4, "no such model or version"
    SERVER_FAILED = 5, "the server refused the request or failed"
    INTERRUPTED = 130, "interrupted (Ctrl-C)"


def code_of(error: ResnetClientError) -> ExitCode:
    """The exit code of a command that ends with this error."""
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    if isinstance(error, ImageError):
        return ExitCode.SOME_FAILED
    if isinstance(error, ModelNotFoundError):
        return ExitCode.NO_MODEL
    if isinstance(error, UnavailableError | DeadlineExceededError | OverloadedError):
        return ExitCode.NOT_READY
    return ExitCode.SERVER_FAILED


class OutcomeCount:
    """The outcomes of one run."""

    def __init__(self) -> None:
        self._images = self._failed = 0
        self._is_stopped = False
        self._codes: set[ExitCode] = set()
        self._reasons: list[str] = []

    @property
    def has_results(self) -> bool:
        """Whether at least one image has a result."""
        return self._failed < self._images

    def watch(self, outcomes: Iterator[Outcome[T]]) -> Iterator[Outcome[T]]:
        """Pass outcomes on and count them; ends when the server keeps failing."""
        try:
            for outcome in until_server_fails(outcomes):
                self._images += 1
                if outcome.error is not None:
                    self._add(outcome.error)
                yield outcome
        except ServerError:
            self._is_stopped = True

    def finish(self, paths: Iterable[str]) -> ExitCode:
        """Print how many images failed and why; if all failed for the same reason, its exit code.

        Raises:
            ConfigurationError: there was no image.
        """
        if not self._images:
            raise ConfigurationError(f"there is no image in {', '.join(paths)}")
        if not self._failed:
            return ExitCode.OK
        stopped = "; stopped, because the server keeps failing" if self._is_stopped else ""
        message = f"resnet-client: {self._failed} of {self._images} images failed{stopped}:"
        warn("\n  ".join([message, *self._reasons]))
        return self._codes.pop() if not self.has_results and len(self._codes) == 1 else ExitCode.SOME_FAILED

    def _add(self, error: ResnetClientError) -> None:
        self._failed += 1
        self._codes.add(code_of(error))
        reason = str(error)
        if reason not in self._reasons and len(self._reasons) < _MOST_REASONS:
            self._reasons.append(reason)
