"""Count the outcomes of a run over images, print why images failed, and choose the exit code."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from resnet_client.cli.exit_codes import ExitCode, code_of
from resnet_client.errors import ConfigurationError, ServerError
from resnet_client.printing import warn
from resnet_client.results import until_server_fails

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from resnet_client.errors import ResnetClientError
    from resnet_client.results import Outcome

T = TypeVar("T")

_MOST_REASONS = 5


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
