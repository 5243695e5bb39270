"""From tasks to parts: the one way of a batch of photos, whichever engine runs it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

from resnet_client._bulk._asking import Answer, answers
from resnet_client._bulk._parts import Layout, Part
from resnet_client._bulk._reading import Photo, photos
from resnet_client._bulk._units import Task

_PARTS_AHEAD = 4

Place = tuple[tuple[int, int], int]  # unit and part; place of the photo in the part


@dataclasses.dataclass
class _Open:
    """A part that is not complete yet; ``count`` is known when its last photo was read."""

    names: list[str] = dataclasses.field(default_factory=list)
    answers: dict[int, Answer] = dataclasses.field(default_factory=dict)
    count: int | None = None
    is_last: bool = False


def parts(tasks: Iterable[Task], ask: Callable[[Photo], Answer], layout: Layout, max_in_flight: int) -> Iterator[Part]:
    """Read, ask and yield each part when it is complete; one stream over all tasks, so that no server idles.

    A photo that takes long holds up its part only. At most a few parts are in memory.
    """
    opened: dict[tuple[int, int], _Open] = {}
    ended: list[tuple[int, int]] = []
    stream = _numbered(tasks, layout.part_size, opened, ended)
    ahead = _PARTS_AHEAD * layout.part_size
    for (key, place), answer in answers(stream, ask, max_in_flight=max_in_flight, ahead=ahead):
        opened[key].answers[place] = answer
        yield from _completed([key, *ended], opened, layout)
        ended.clear()
    yield from _completed(ended, opened, layout)


def _completed(keys: Iterable[tuple[int, int]], opened: dict[tuple[int, int], _Open], layout: Layout) -> Iterator[Part]:
    for key in keys:
        part = opened.get(key)
        if part is not None and part.count == len(part.answers):
            del opened[key]
            rows = [part.answers[place] for place in range(part.count)]
            yield Part(*key, part.is_last, layout.table(part.names, rows))


def _numbered(
    tasks: Iterable[Task], part_size: int, opened: dict[tuple[int, int], _Open], ended: list[tuple[int, int]]
) -> Iterator[tuple[Place, Photo]]:
    """The photos of all tasks with their places; opens parts, and notes their ends.

    The end of a part is known one photo late, when the next has been read. By then all its answers may be there,
    so that ends are noted for whoever waits for them.
    """
    for task in tasks:
        number, place = task.parts, 0
        part = opened[task.number, number] = _Open()
        for photo in photos(task.unit, task.photos):
            if place == part_size:
                part.count = place
                ended.append((task.number, number))
                number, place = number + 1, 0
                part = opened[task.number, number] = _Open()
            part.names.append(photo.name)
            yield ((task.number, number), place), photo
            place += 1
        part.count, part.is_last = place, True
        ended.append((task.number, number))
