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
