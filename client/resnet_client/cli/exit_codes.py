"""The exit codes of ``resnet-client``, which ``--help`` lists."""

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
