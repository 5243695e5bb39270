"""What the sender makes of a server that refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from resnet_build.errors import BuildError
from resnet_build.tuning.load import Caller, Photo
from tritonclient.utils import InferenceServerException


class Refusing:
    """A client whose server takes some photos and refuses others, or everything."""

    def __init__(self, status: str, accepted: int) -> None:
        self._status, self._left = status, accepted

    def infer(self, *_arguments: Any, **_options: Any) -> None:
        """Answer, or raise what tritonclient does."""
        self._left -= 1
        if self._left < 0:
            raise InferenceServerException("truncated", status=self._status)


def caller(status: str, accepted: int) -> Caller:
    """A sender of two photos."""
    return Caller(Refusing(status, accepted), "resnet50", "network_onnx", [Photo("a.jpg", b"a"), Photo("b.jpg", b"b")])


def test_a_damaged_photo_is_named() -> None:
    """With what to do about it, before anything is measured."""
    with pytest.raises(BuildError, match=r"the photo b\.jpg cannot be tuned with: truncated; leave it out of --images"):
        caller("StatusCode.INVALID_ARGUMENT", 1).check_photos()
    caller("", 2).check_photos()


def test_a_server_that_does_not_answer_is_told() -> None:
    """For photos, callers and pixels alike; the photo is not blamed."""
    with pytest.raises(BuildError, match=r"the server does not answer to the photo b\.jpg: truncated$"):
        caller("StatusCode.UNAVAILABLE", 1).check_photos()
    with pytest.raises(BuildError, match="the server does not answer to the photo"):
        caller("StatusCode.UNAVAILABLE", 0).closed_loop(1, 0.1)
    with pytest.raises(BuildError, match="the server does not answer to a batch of 3"):
        caller("StatusCode.UNAVAILABLE", 0).compute(np.zeros((3, 224, 224, 3), dtype=np.uint8))


class Backwards:
    """A client whose server answers the last photo first, and one never."""

    def __init__(self, photos: int, refused: int) -> None:
        self._photos, self._refused = photos, refused
        self._waiting: list[Any] = []

    def async_infer(self, _model: str, _inputs: Any, callback: Any, **_options: Any) -> None:
        """Keep all until the last has come."""
        self._waiting.append(callback)
        if len(self._waiting) == self._photos:
            for number in reversed(range(self._photos)):
                error = InferenceServerException("busy") if number == self._refused else None
                self._waiting[number](result=None, error=error)


def test_latencies_are_told_in_the_order_of_arrival() -> None:
    """As many as the rate says, whatever the order of the answers; who got none waited for longest."""
    sender = Caller(Backwards(40, refused=7), "resnet50", "network_onnx", [Photo("a.jpg", b"a")])
    latencies = sender.poisson(rate=400, seconds=0.1, seed=0)
    assert len(latencies) == 40
    assert latencies.pop(7) == 30
    # All were answered at once, so who came first waited longest.
    assert latencies[0] > latencies[-1]
    assert max(latencies) < 30
