"""What the exit codes mean; ``--help`` prints this list."""

from __future__ import annotations

import enum
from typing import Self

from resnet_client.errors import (
    ConfigurationError,
    DeadlineExceededError,
    ImageError,
    ModelNotFoundError,
    OverloadedError,
    ResnetClientError,
    UnavailableError,
)


class ExitCode(enum.IntEnum):
    """Exit codes with their meaning."""

    def __new__(cls, value: int, meaning: str) -> Self:
        """A member that is its number and has a meaning."""
        member = int.__new__(cls, value)
        member._value_ = value
        member.meaning = meaning
        return member

    meaning: str

    OK = 0, "all is well"
    SOME_FAILED = 1, "some images failed, the others are answered; doctor: something is wrong"
    USAGE = 2, "an option, a URL or an input makes no sense, or the output cannot be written"
    NOT_READY = 3, "the server cannot be reached, is not ready, overloaded, or too slow"
    NO_MODEL = 4, "the server has no such model or version"
    SERVER_FAILED = 5, "the server refused the request or failed"
    INTERRUPTED = 130, "interrupted from the keyboard"


def code_of(error: ResnetClientError) -> ExitCode:
    """The exit code for a command that this error ended."""
    if isinstance(error, ConfigurationError):
        return ExitCode.USAGE
    if isinstance(error, ImageError):
        return ExitCode.SOME_FAILED
    if isinstance(error, ModelNotFoundError):
        return ExitCode.NO_MODEL
    if isinstance(error, UnavailableError | DeadlineExceededError | OverloadedError):
        return ExitCode.NOT_READY
    return ExitCode.SERVER_FAILED


def code_of_run(errors: list[ResnetClientError], images: int) -> ExitCode:
    """The exit code of a run over images: when all failed for one reason, that reason's."""
    if not images:
        return ExitCode.USAGE
    if not errors:
        return ExitCode.OK
    codes = {code_of(error) for error in errors}
    return codes.pop() if len(errors) == images and len(codes) == 1 else ExitCode.SOME_FAILED
