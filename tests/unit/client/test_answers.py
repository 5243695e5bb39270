"""Reading Triton's answers."""

import pickle

import numpy as np
import pytest
from resnet_client import Classification, ImageError, Prediction, ResponseError, responses
from resnet_client.responses import Answer


def answer(*entries):
    """An answer with these class strings."""
    return Answer(np.array([list(entries)], dtype=object), "resnet50", "1")


def test_class_strings_are_read():
    """Value, index and label are separated; the label keeps its own colons."""
    found = responses.read_classification(answer(b"0.250000:7:cock", b"0.750000:3:tiger: shark"))
    assert found.top == Prediction(3, "tiger: shark", 0.75)
    assert [p.index for p in found.predictions] == [3, 7]


def test_missing_labels_become_the_index():
    """A model without a label file still has names to show."""
    assert responses.read_classification(answer(b"0.5:12")).top.label == "12"


@pytest.mark.parametrize("entries", [(), (b"half",), (b"a:b:c",), (1.5,)])
def test_other_answers_are_refused(entries):
    """What is no class string is a `ResponseError`."""
    with pytest.raises(ResponseError, match="resnet50"):
        responses.read_classification(answer(*entries))


def test_features_belong_to_the_caller():
    """The vector is a writable float32 copy."""
    sent = np.ones((1, 2048), dtype=np.float32)
    sent.flags.writeable = False
    vector = responses.read_features(Answer(sent, "m", "1"))
    assert (vector.shape, vector.dtype, vector.flags.writeable) == ((2048,), np.float32, True)


@pytest.mark.parametrize("output", [None, np.empty((0,)), np.ones((2, 2048))])
def test_empty_features_are_refused(output):
    """A server that answers without data is not believed."""
    with pytest.raises(ResponseError, match="features"):
        responses.read_features(Answer(output, "m", "1"))


def test_statistics_are_alike_for_both_protocols():
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
    assert responses.read_statistics({"model_stats": [grpc]}) == responses.read_statistics({"model_stats": [http]})
    assert responses.read_statistics({"model_stats": [http]})[0].batch_sizes == {2: 1}
    assert responses.read_statistics({"model_stats": [http]})[0].busy_ns == 5


def test_representation_shows_what_matters():
    """The first three classes, the model and its version fit on a line."""
    found = Classification(tuple(Prediction(i, f"c{i}", 0.2) for i in range(5)), "resnet50", "2")
    assert repr(found) == "<Classification 'c0' 0.200, 'c1' 0.200, 'c2' 0.200, … · resnet50 version 2>"
    assert found.to_dict()["predictions"][1] == {"index": 1, "label": "c1", "probability": 0.2}


def test_image_errors_travel_between_processes():
    """Pickling keeps the message and the source."""
    copy = pickle.loads(pickle.dumps(ImageError("no", source="x.jpg")))  # our own bytes
    assert (str(copy), copy.source) == ("no", "x.jpg")
