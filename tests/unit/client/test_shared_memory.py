"""Regions of shared memory: used again, bounded, tidied up."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from resnet_client import DeadlineExceededError, OverloadedError, ResponseError, _shared_memory
from resnet_client._deadline import Deadline
from resnet_client._endpoint import Endpoint
from resnet_client._lending import Lending
from resnet_client._requests import Inference
from resnet_client._shared_memory import Regions, is_orphan
from resnet_client._steps import Pause, Send

PHOTO_BYTES = 100_000


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder in the place of /dev/shm."""
    monkeypatch.setattr(_shared_memory, "_FOLDER", tmp_path)
    return tmp_path


@pytest.fixture
def regions(folder):
    """The regions of one client."""
    made = Regions()
    yield made
    made.remove()


def test_a_region_is_used_again_when_its_photo_is_answered(regions):
    """One after the other, photos lie in the same place; two at once have one each."""
    first = regions.take(PHOTO_BYTES)
    second = regions.take(PHOTO_BYTES)
    assert first is not second
    regions.give_back(first, 0)
    assert regions.take(PHOTO_BYTES) is first
    assert len(regions.all) == 2


def test_a_region_rests_while_a_server_may_still_read_it(regions):
    """A photo that nobody waits for is not overwritten."""
    first = regions.take(PHOTO_BYTES)
    regions.give_back(first, 1000)
    assert regions.take(PHOTO_BYTES) is not first


def test_the_smallest_region_that_fits_is_taken(regions):
    """A small photo leaves the large regions to large photos."""
    large, small = regions.take(10 * PHOTO_BYTES), regions.take(PHOTO_BYTES)
    assert large.size >= 10 * PHOTO_BYTES
    for region in (large, small):
        regions.give_back(region, 0)
    assert regions.take(PHOTO_BYTES) is small
    assert regions.take(PHOTO_BYTES) is large


def test_memory_is_bounded(regions, monkeypatch):
    """Beyond the bound there is none, until a region is given back."""
    monkeypatch.setattr(_shared_memory, "_MOST_BYTES", 1 << 20)
    taken = [regions.take(1 << 18) for _ in range(5)]
    assert [region is None for region in taken] == [False] * 4 + [True]
    regions.give_back(taken[0], 0)
    assert regions.take(1 << 18) is taken[0]


def test_half_of_what_is_free_is_left_to_others(regions, monkeypatch):
    """The server's own workers pass their tensors through the same memory."""
    monkeypatch.setattr(_shared_memory, "_free_bytes", lambda: 1 << 20)
    assert regions.take(1 << 19)
    assert regions.take((1 << 19) + 1) is None


def test_files_are_for_their_owner_and_go_with_him(regions, folder):
    """Nobody else may read a photo; when the regions are removed or forgotten, so are the files."""
    (path,) = [folder / regions.take(PHOTO_BYTES).name]
    assert path.stat().st_mode & 0o777 == 0o600
    regions.remove()
    assert not list(folder.iterdir())
    forgotten = Regions()
    forgotten.take(PHOTO_BYTES)
    del forgotten
    assert not list(folder.iterdir())


def test_what_the_dead_left_is_removed_and_nothing_else(regions, folder):
    """A file without a lock has lost its owner; one with a lock, or with another name, is left alone."""
    used = regions.take(PHOTO_BYTES).name
    left, other = f"resnet-client-{'0' * 32}", "resnet-client-notes.txt"
    for name in (left, other):
        (folder / name).write_bytes(b"x")
    Regions()
    assert {path.name for path in folder.iterdir()} == {used, other}
    assert [is_orphan(name) for name in (used, left, other, "../x", "")] == [False, True, False, False, False]


def test_too_little_memory_is_an_error_before_anything_is_written(regions, folder, monkeypatch):
    """A full /dev/shm would otherwise end the process in the middle of a copy; the file does not stay."""

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space"):
        regions.take(PHOTO_BYTES)
    assert not list(Path(folder).iterdir())
    assert not regions.all


@pytest.mark.parametrize(("error", "places"), [(OverloadedError("full"), 1), (DeadlineExceededError("late"), 2)])
def test_only_a_place_that_the_server_is_done_with_is_used_again(folder, error, places):
    """After a refusal at once; after silence not while the server may still read the photo."""
    lending, server = Lending(), Endpoint.parse("grpc://a")
    photo = Inference("m", "", "IMAGE", np.array([[bytes(PHOTO_BYTES)]], dtype=object), "OUT")
    for _ in range(2):
        flow = lending.send(server, photo, Deadline(10))
        step = next(flow)
        while not isinstance(step.request, Inference):  # makes the region known, asks for others
            step = flow.send({})
        assert step.request.region
        with pytest.raises(type(error)):
            flow.throw(error)
    assert len(list(folder.iterdir())) == places


def known_region(folder):
    """A client's end, its first step; one server knows one region."""
    lending, server = Lending(), Endpoint.parse("grpc://a")
    photo = Inference("m", "", "IMAGE", np.array([[bytes(PHOTO_BYTES)]], dtype=object), "OUT")
    flow = lending.send(server, photo, Deadline(10))
    step = next(flow)
    while not isinstance(step.request, Inference):
        step = flow.send({})
    with pytest.raises(StopIteration):
        flow.send({})
    assert len(list(folder.iterdir())) == 1
    return lending.end()


IN_USE = ResponseError("Cannot unregister shared memory region 'a', it is currently in use.")


def test_a_region_is_asked_back_until_the_server_has_dropped_its_last_request(folder):
    """Triton 2.51 answers a request before it drops it, and refuses in between."""
    flow = known_region(folder)
    assert isinstance(next(flow), Send)
    assert isinstance(flow.throw(IN_USE), Pause)
    assert isinstance(next(flow), Send)
    with pytest.raises(StopIteration):
        flow.send({})
    assert not list(folder.iterdir())


def test_a_server_that_never_lets_go_holds_nobody_up(folder):
    """Closing a client takes about a second at most, and its files go."""
    flow, started_s = known_region(folder), time.monotonic()
    next(flow)
    with pytest.raises(StopIteration):  # each throw is one refusal
        while True:
            time.sleep(flow.throw(IN_USE).duration_s)
            next(flow)
    assert time.monotonic() - started_s < 2
    assert not list(folder.iterdir())
