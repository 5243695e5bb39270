"""Reading Triton's responses, whatever they hold."""

import math
import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from resnet_client import Classification, ConfigurationError, ImageError, Prediction, ResponseError
from resnet_client.requests import Target
from resnet_client.responses import (
    Answer,
    read_classification,
    read_features,
    read_metadata,
    read_pixel_target,
    read_statistics,
)
from strategies import TEXT, attempted, near


def answer(*entries):
    return Answer(np.array([list(entries)], dtype=object), "resnet50", "1")


def test_read_classification_shows_the_index_of_a_class_without_label():
    assert read_classification(answer(b"0.5:12"), 1).top.label == "12"


@pytest.mark.parametrize("entries", [(), (b"half",), (b"a:b:c",), (1.5,)])
def test_read_classification_refuses_other_strings(entries):
    with pytest.raises(ResponseError, match="resnet50"):
        read_classification(answer(*entries), 5)


def test_read_features_returns_a_copy():
    """The vector is a writable float32 copy."""
    sent = np.ones((1, 2048), dtype=np.float32)
    sent.flags.writeable = False
    vector = read_features(Answer(sent, "m", "1"))
    assert (vector.shape, vector.dtype, vector.flags.writeable) == ((2048,), np.float32, True)


@pytest.mark.parametrize("output", [None, np.empty((0,)), np.ones((2, 2048))])
def test_read_features_refuses_empty_output(output):
    with pytest.raises(ResponseError, match="features"):
        read_features(Answer(output, "m", "1"))


def test_read_statistics_is_the_same_for_both_protocols():
    """The JSON of gRPC has strings and leaves zeros out; the result is the same."""
    times = {"success": {"count": 3, "ns": 9}, "fail": {"count": 0, "ns": 0}, "queue": {"count": 3, "ns": 4}}
    batch = {"batch_size": 2, "compute_infer": {"count": 1, "ns": 5}}
    http = {
        "name": "m",
        "version": "1",
        "inference_count": 3,
        "inference_stats": times,
        "batch_stats": [batch],
    }
    grpc = {
        "name": "m",
        "version": "1",
        "inference_count": "3",
        "inference_stats": {
            "success": {"count": "3", "ns": "9"},
            "fail": {},
            "queue": {"count": "3", "ns": "4"},
        },
        "batch_stats": [{"batch_size": "2", "compute_infer": {"count": "1", "ns": "5"}}],
    }
    assert read_statistics({"model_stats": [grpc]}) == read_statistics({"model_stats": [http]})
    assert read_statistics({"model_stats": [http]})[0].batch_sizes == {2: 1}
    assert read_statistics({"model_stats": [http]})[0].busy_ns == 5


def test_classification_fits_on_a_line():
    """The first three classes, the model and its version."""
    found = Classification(tuple(Prediction(i, f"c{i}", 0.2) for i in range(5)), "resnet50", "2")
    assert repr(found) == "<Classification 'c0' 0.200, 'c1' 0.200, 'c2' 0.200, … · resnet50 version 2>"
    assert found.to_dict()["predictions"][1] == {"index": 1, "label": "c1", "probability": 0.2}


def test_image_error_can_be_pickled():
    copy = pickle.loads(pickle.dumps(ImageError("no", source="x.jpg")))  # our own bytes
    assert (str(copy), copy.source) == ("no", "x.jpg")


ENTRIES = (
    near("0.5", ":", "7", "cat", ",", "-", "e", "nan").map(lambda text: text.encode(errors="replace")) | st.binary()
)


@given(st.lists(ENTRIES | TEXT | st.none() | st.integers(), max_size=4))
@example([b"0.5:1:" + b":" * 9])
@example([b"0.5:" + b"9" * 5000])
@example([b"nan:1:cat", b"0.5:2:dog"])
@example([b"0.5:-1:cat"])
@example([b"\xff:1:x"])
def test_read_classification_orders_whatever_it_accepts(entries):
    """Each class has an index from 0 and a finite probability."""
    output = np.empty((1, len(entries)), dtype=object)
    output[0, :] = entries
    found, refusal = attempted(read_classification, Answer(output, "resnet50", "1"), 100)
    if found is None:
        assert "resnet50" in refusal
        return
    probabilities = [prediction.probability for prediction in found.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(math.isfinite(probability) for probability in probabilities)
    assert all(prediction.index >= 0 and prediction.label for prediction in found.predictions)


@pytest.mark.parametrize(
    ("read", "arguments"),
    [
        (read_statistics, ({"model_stats": [{"name": "m", "inference_count": "many"}]},)),
        (read_statistics, ({"model_stats": [None]},)),
        (read_metadata, ({}, {"inputs": [{"name": "IMAGE"}]}, {})),
        (read_metadata, ({}, {}, {"parameters": {"preprocessing": "{}"}})),
        (read_pixel_target, ({"parameters": []}, Target("resnet50", "", "client", 1.0))),
    ],
)
def test_responses_refuse_other_json(read, arguments):
    """Whatever a server sends, the error is the client's own."""
    with pytest.raises(ResponseError, match="cannot be read"):
        read(*arguments)


@pytest.mark.parametrize("parameters", [{}, {"preprocessing": {"string_value": "{"}}])
def test_read_pixel_target_names_a_config_that_it_cannot_use(parameters):
    """With the remedy."""
    with pytest.raises(ConfigurationError, match="use preprocessing='server'"):
        read_pixel_target({"parameters": parameters}, Target("resnet50", "", "client", 1.0))
