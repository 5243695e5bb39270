"""One photo's answer, however long the servers are away; and the many that are asked for at once.

What is the photo's fault becomes an error in its row. What is the servers' is waited for: a run over a million
photos must not fill its file with errors because a server was restarted.
"""

from __future__ import annotations

import dataclasses
import queue
import random
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from resnet_client._bulk._reading import Photo
from resnet_client.errors import ClosedError, ImageError, RequestError, ServerError
from resnet_client.results import Classification

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from resnet_client.client import Client

Key = TypeVar("Key")

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


@dataclasses.dataclass(frozen=True)
class Failure:
    """Why a photo has no answer."""

    reason: str


Answer: TypeAlias = "Classification | npt.NDArray[np.float32] | Failure"


class Asker:
    """Asks for one photo after the other, in any number of threads.

    Args:
        client: of the servers.
        top_k: how many classes; None for features.
        patience_s: how long the servers may be away.
    """

    def __init__(self, client: Client, top_k: int | None, patience_s: float) -> None:
        self._client = client
        self._top_k = top_k
        self._patience_s = patience_s
        self._answered_s = time.monotonic()
        self._stopped = threading.Event()

    def stop(self) -> None:
        """Wait for nobody any more."""
        self._stopped.set()

    def __call__(self, photo: Photo) -> Answer:
        """Ask until there is an answer.

        Raises:
            ServerError: no photo at all was answered for as long as our patience lasts.
            ClosedError: the run is over.
        """
        try:
            content = photo.read()
        except ImageError as exc:
            return Failure(str(exc))
        began_s, pause_s = time.monotonic(), _FIRST_PAUSE_S
        while True:
            try:
                answer = self._ask(content)
            except (ImageError, RequestError) as exc:
                answer = Failure(str(exc))
            except ServerError as exc:
                if time.monotonic() - began_s > self._patience_s:
                    if self._answered_s < began_s:
                        raise
                    return Failure(str(exc))  # the others were answered
                if self._stopped.wait(pause_s * random.uniform(0.5, 1.0)):  # noqa: S311  # spreads load
                    raise ClosedError("the run is over") from exc
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            self._answered_s = time.monotonic()
            return answer

    def _ask(self, content: bytes) -> Answer:
        if self._top_k is None:
            return self._client.embed(content)
        return self._client.classify(content, top_k=self._top_k)


def answers(
    photos: Iterator[tuple[Key, Photo]], ask: Callable[[Photo], Answer], *, max_in_flight: int, ahead: int
) -> Iterator[tuple[Key, Answer]]:
    """Ask for many photos at once, and yield the answers as they come, in any order.

    Args:
        photos: with what to know them by again; read lazily.
        ask: called in threads of ours.
        max_in_flight: number of threads. As many photos more wait for them, so that the servers stay busy while
            the caller writes.
        ahead: how many photos may overtake one that takes long.
    """
    todo: queue.SimpleQueue[tuple[int, Key, Photo] | None] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Key, Answer | BaseException]] = queue.SimpleQueue()
    for _ in range(max_in_flight):
        threading.Thread(target=_work, args=(todo, done, ask), name="resnet-client-bulk", daemon=True).start()
    under_way: dict[int, None] = {}  # in the order they were begun
    begun = 0
    try:
        source: Iterator[tuple[Key, Photo]] | None = photos
        while source is not None or under_way:
            has_room = len(under_way) < 2 * max_in_flight and begun - next(iter(under_way), begun) < ahead
            if source is not None and has_room:
                if (entry := next(source, None)) is None:
                    source = None
                else:
                    todo.put((begun, *entry))
                    under_way[begun] = None
                    begun += 1
                if done.empty():
                    continue
            if under_way:
                number, key, answer = done.get()
                del under_way[number]
                if isinstance(answer, BaseException):
                    raise answer
                yield key, answer
    finally:
        for _ in range(max_in_flight):
            todo.put(None)


def _work(todo: Any, done: Any, ask: Callable[[Photo], Answer]) -> None:
    while (entry := todo.get()) is not None:
        number, key, photo = entry
        del entry
        try:
            done.put((number, key, ask(photo)))
        except BaseException as exc:  # noqa: BLE001  # raised again by whoever takes it
            done.put((number, key, exc))
        del photo  # its bytes, while we wait for the next
