"""Tensors as they travel: what is written is read again, what cannot be read is refused."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from resnet_client import ResponseError, _tensors
from resnet_client._requests import Inference
from resnet_client._transports import _http_words
from resnet_client._transports._errors import translated

REQUEST = Inference("m", "", "IMAGE", np.array([[b"x"]], dtype=object), "OUT")


def in_memory(request):
    """A request's tensor as it is written where a server reads it."""
    memory = bytearray(request.byte_size + 3)
    request.write_into(memoryview(memory))
    assert memory[-3:] == bytes(3)
    return bytes(memory[:-3])


@given(st.lists(st.binary(max_size=50), max_size=5))
def test_texts(texts):
    """Texts of any content come back; in memory they look as they do on the way."""
    tensor = np.empty((len(texts), 1), dtype=object)
    tensor[:, 0] = texts
    request = Inference("m", "", "IMAGE", tensor, "OUT")
    assert request.content(b"before") == b"before" + in_memory(request)
    assert _tensors.read("BYTES", tensor.shape, request.content()).ravel().tolist() == texts


def test_pixels():
    """Pixels travel row by row, also those of an array that lies otherwise in memory."""
    pixels = np.arange(2 * 3 * 4, dtype=np.uint8).reshape(1, 2, 3, 4)[:, ::-1]
    request = Inference("m", "", "PIXELS__0", pixels, "OUT")
    assert request.content() == in_memory(request) == pixels.tobytes()


@given(st.sampled_from(["BYTES", "FP32", "FP16", "INT7", ""]), st.lists(st.integers(-2, 9), max_size=3), st.binary())
def test_unreadable_tensors_are_refused(datatype, shape, content):
    """Whatever a server sends, it is a tensor of that shape or an error that is translated."""
    try:
        found = _tensors.read(datatype, shape, content)
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
        with translated("http://h:1", 1):
            assert _http_words.answer(REQUEST, 200, headers, words + behind).model == "m"
    except ResponseError:
        pass


def test_answers_without_the_length_of_their_words_are_all_words():
    """Triton leaves the header out where no bytes follow."""
    with pytest.raises(KeyError):
        _http_words.answer(REQUEST, 200, {}, b'{"outputs": [{"name": "OUT", "data": [1]}]}')
    assert _http_words.answer(REQUEST, 200, {}, b'{"outputs": []}').output is None
