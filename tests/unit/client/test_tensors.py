"""Tensors as they travel: what is written is read again, what cannot be read is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_client import ResponseError, http, tensors
from resnet_client.error_mapping import mapped
from resnet_client.requests import Inference

REQUEST = Inference("m", "", "IMAGE", np.array([[b"x"]], dtype=object), "OUT")


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_tensors_round_trip(texts):
    """Byte strings of any content are read as they were written."""
    tensor = np.empty((len(texts), 1), dtype=object)
    tensor[:, 0] = texts
    assert tensors.read("BYTES", tensor.shape, b"".join(tensors.parts(tensor))).ravel().tolist() == texts


def test_tensors_parts_of_pixels_are_in_row_order():
    """Pixels are sent row by row, also those of an array with another memory layout."""
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(1, 2, 3, 4)[:, ::-1]
    assert b"".join(tensors.parts(pixels)) == pixels.tobytes()


@given(st.sampled_from(["BYTES", "FP32", "FP16", "INT7", ""]), st.lists(st.integers(-2, 9), max_size=3), st.binary())
def test_unreadable_tensors_are_refused(datatype, shape, content):
    """Whatever a server sends, it is a tensor of that shape or an error that is translated."""
    try:
        found = tensors.read(datatype, shape, content)
    except (ValueError, LookupError):
        return
    assert found.size == np.prod(found.shape)


WORDS = st.fixed_dictionaries(
    {},
    optional={
        "name": st.sampled_from(["OUT", "", None]),
        "datatype": st.sampled_from(["BYTES", "FP32", 1]),
        "shape": st.lists(st.integers(-1, 3), max_size=2) | st.none(),
        "parameters": st.dictionaries(st.just("binary_data_size"), st.integers(-9, 99) | st.text(max_size=2)),
    },
)


@given(st.lists(WORDS, max_size=2) | st.none(), st.binary(max_size=20), st.integers(-9, 200) | st.none())
def test_unreadable_answers_are_refused(outputs, behind, length):
    """JSON and bytes of any kind are an answer or a `ResponseError`."""
    words = json.dumps({"outputs": outputs}).encode()
    headers = {"Inference-Header-Content-Length": str(len(words) if length is None else length)}
    try:
        with mapped("http://h:1", 1):
            assert http._read(REQUEST, 200, headers, words + behind).model == "m"
    except ResponseError:
        pass


def test_answers_without_the_length_of_their_words_are_all_words():
    """Triton leaves the header out where no bytes follow."""
    with pytest.raises(KeyError):
        http._read(REQUEST, 200, {}, b'{"outputs": [{"name": "OUT", "data": [1]}]}')
    assert http._read(REQUEST, 200, {}, b'{"outputs": []}').output is None
