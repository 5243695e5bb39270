"""Tensors as they travel: what is written is read again, and what cannot be read is refused."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_client import Client, ResponseError, tensors
from stub import Handler, serving


def test_tensors_parts_of_pixels_are_in_row_order():
    """Pixels are sent row by row, also those of an array with another memory layout."""
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(1, 2, 3, 4)[:, ::-1]
    assert b"".join(tensors.parts(pixels)) == pixels.tobytes()


@pytest.fixture(scope="module")
def answering():
    """A server that answers each request with the header length and the content that it was given, and a client."""

    class Prepared(Handler):
        def do_POST(self):  # noqa: N802  # the name that the library calls
            self.received()
            self.respond(self.server.content, Inference_Header_Content_Length=self.server.header_length)

    with serving(Prepared) as server, Client(server.url, max_attempts=1) as client:
        yield server, client


HEADERS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["PROBABILITIES__0", "", None]),
        "datatype": st.sampled_from(["BYTES", "FP32", 1]),
        "shape": st.lists(st.integers(-1, 3), max_size=2) | st.none(),
        "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-9, 99) | st.text(max_size=2)),
    },
)


@given(st.lists(HEADERS, max_size=2) | st.none(), st.binary(max_size=20), st.integers(-9, 200) | st.none())
def test_http_refuses_unreadable_responses(answering, outputs, behind, length):
    """JSON and bytes of any kind are a classification or a `ResponseError`."""
    server, client = answering
    header = json.dumps({"outputs": outputs}).encode()
    server.header_length, server.content = len(header) if length is None else length, header + behind
    with contextlib.suppress(ResponseError):
        assert client.classify(b"x").predictions
