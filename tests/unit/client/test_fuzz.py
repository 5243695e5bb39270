"""Whatever is put into a parser of the client, it gives a value or refuses with an error of the client's own."""

import csv
import io
import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from resnet_client import ClientConfig, ConfigurationError, ResnetClientError, ResponseError
from resnet_client.endpoints import DEFAULT_PORTS, Endpoint, parse_all
from resnet_client.evaluate import read_samples
from resnet_client.requests import Target
from resnet_client.responses import (
    Answer,
    parameters_of,
    read_classification,
    read_features,
    read_metadata,
    read_pixel_target,
    read_statistics,
)

HOSTILE = st.sampled_from(["", "\x00", "nan", "inf", "-1", "1e999", "9" * 5000, "٣", "\ud800", "[::", "%00", "\r\n"])
TEXT = st.text(max_size=30) | HOSTILE
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(2**63), 2**64])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
MAPPINGS = st.dictionaries(TEXT, JSON, max_size=4)


def near(*parts):
    """Texts made of a grammar's own parts, which get further than random ones."""
    return st.lists(st.sampled_from(parts) | st.integers(0, 99999).map(str), max_size=9).map("".join) | TEXT


def attempted(parse, *arguments):
    """What a parser gives, and its own words where it gives nothing."""
    try:
        return parse(*arguments), ""
    except ResnetClientError as exc:
        return None, str(exc)


URLS = near(
    "grpc", "http", "s", "dns", "+", "://", "/", ":", "@", "[", "]", "::1", "host", ".", ",", "?", "#", "%", " "
)


@given(URLS)
@example("grpc://[::1]:8001")
@example("grpc://[::1%25eth0]:8001")
@example("grpc://[v1.x]:8001")
@example("http://HOST/a//b/")
@example("grpc://host:" + "9" * 5000)
@example("grpc://ho\x00st")
@example("grpc://\u2100host")
@example("http://host/a b")
def test_urls(url):
    """A URL that is read has a host and a port, and reads the same again."""
    try:
        endpoint = Endpoint.parse(url)
    except ConfigurationError:
        return
    assert endpoint.scheme in DEFAULT_PORTS
    assert endpoint.host
    assert 1 <= endpoint.port <= 65535
    assert Endpoint.parse(str(endpoint)) == endpoint


@given(st.lists(URLS, max_size=3).map(",".join) | URLS)
def test_lists_of_urls(urls):
    """A list that is read has an address for each, each once."""
    try:
        endpoints = parse_all(urls)
    except ConfigurationError:
        return
    assert 1 <= len(endpoints) <= urls.count(",") + 1
    assert len(set(endpoints)) == len(endpoints)


@pytest.mark.parametrize("url", ["http://me:{}@host", "grpc://{}@host:x", "ftp://a:{}@b", "http://a:{}@[b"])
def test_passwords_in_urls_are_not_repeated(url):
    """Who puts one into a URL is told that it has no place there, without it."""
    with pytest.raises(ConfigurationError) as told:
        ClientConfig(url=url.format("s3cret-w0rd"))
    assert "s3cret-w0rd" not in str(told.value)


OPTIONS = sorted(ClientConfig.__dataclass_fields__)


@given(st.dictionaries(st.sampled_from(OPTIONS), TEXT | near("1", "yes", "client", ".", "e", "-", "/", "~")))
def test_variables(values):
    """Any variables give options that make sense, or a sentence that names one of them."""
    environment = {f"RESNET_{name.upper()}": text for name, text in values.items()}
    config, refusal = attempted(ClientConfig.resolve, {}, environment)
    if config is None:
        assert any(name in refusal.lower() for name in (*OPTIONS, "server url", "a model is chosen"))
        return
    assert 0 < config.timeout_s < math.inf
    assert config.max_attempts >= 1


ENTRIES = (
    near("0.5", ":", "7", "cat", ",", "-", "e", "nan").map(lambda text: text.encode(errors="replace")) | st.binary()
)


@given(st.lists(ENTRIES | TEXT | st.none() | st.integers(), max_size=4))
@example([b"0.5:1:" + b":" * 9])
@example([b"0.5:" + b"9" * 5000])
@example([b"nan:1:cat", b"0.5:2:dog"])
@example([b"0.5:-1:cat"])
@example([b"\xff:1:x"])
def test_classifications(entries):
    """What is read is ordered, and each class has an index from 0 and a probability that can be compared."""
    output = np.empty((1, len(entries)), dtype=object)
    output[0, :] = entries
    found, refusal = attempted(read_classification, Answer(output, "resnet50", "1"))
    if found is None:
        assert "resnet50" in refusal
        return
    probabilities = [prediction.probability for prediction in found.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert all(math.isfinite(probability) for probability in probabilities)
    assert all(prediction.index >= 0 and prediction.label for prediction in found.predictions)


LABELS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1)


@given(st.lists(st.tuples(st.floats(0, 1), st.integers(0, 10**6), LABELS), min_size=1, max_size=5))
def test_classifications_are_read_as_triton_writes_them(classes):
    """Labels may hold anything, colons and blanks included."""
    classes = [(round(probability, 6), index, label) for probability, index, label in classes]
    entries = [f"{probability:f}:{index}:{label}".encode() for probability, index, label in classes]
    found = read_classification(Answer(np.array([entries], dtype=object), "resnet50", "1"))
    told = [(prediction.probability, prediction.index, prediction.label) for prediction in found.predictions]
    assert sorted(told) == sorted(classes)


@given(st.sampled_from([np.float32, np.int64, object, "S3"]), st.lists(st.integers(0, 3), max_size=3))
def test_features(kind, shape):
    """A vector that is read is a float32 vector."""
    try:
        vector = read_features(Answer(np.zeros(shape, kind), "resnet50", "1"))
    except ResponseError:
        return
    assert vector.dtype == np.float32
    assert vector.ndim == 1


def answers(**shape):
    """JSON with the server's own keys, some of which hold something else."""
    return MAPPINGS | st.fixed_dictionaries({}, optional={name: kind | JSON for name, kind in shape.items()})


TENSORS = st.lists(answers(name=TEXT, datatype=TEXT, shape=st.lists(NUMBERS | TEXT)), max_size=2)
PARAMETERS = st.dictionaries(TEXT | st.just("recipe"), answers(string_value=TEXT), max_size=2)
STEPS = st.lists(answers(model_name=TEXT, model_version=NUMBERS, input_map=MAPPINGS), max_size=2)
CONFIGS = answers(max_batch_size=NUMBERS | TEXT, parameters=PARAMETERS, ensemble_scheduling=answers(step=STEPS))
DURATIONS = answers(count=NUMBERS | TEXT, ns=NUMBERS | TEXT)
MODELS = answers(
    name=TEXT,
    version=TEXT,
    inference_count=NUMBERS | TEXT,
    inference_stats=answers(success=DURATIONS, fail=DURATIONS, queue=DURATIONS),
    batch_stats=st.lists(answers(batch_size=NUMBERS | TEXT, compute_infer=DURATIONS), max_size=2),
)


@given(answers(name=TEXT, version=TEXT, extensions=JSON), answers(inputs=TENSORS, outputs=TENSORS), CONFIGS)
def test_metadata(server, model, config):
    """Metadata that are read have the keys that are promised."""
    try:
        found = read_metadata(server, model, config)
    except ResponseError:
        return
    assert found.keys() == {"server", "model"}
    assert all(isinstance(value, str) for value in found["model"]["parameters"].values())


@given(answers(model_stats=st.lists(MODELS, max_size=3)))
@example({"model_stats": [{"name": [], "inference_count": 1e999}]})
def test_statistics(answer):
    """Statistics that are read are whole numbers under names."""
    try:
        found = read_statistics(answer)
    except ResponseError:
        return
    assert all(isinstance(entry.model, str) and isinstance(entry.success_ns, int) for entry in found)


@given(CONFIGS)
def test_configs(config):
    """A config gives parameters, and a way for pixels or the reason why there is none."""
    parameters, refusal = attempted(parameters_of, config)
    assert refusal or all(isinstance(text, str) for text in parameters.values())
    door, refusal = attempted(read_pixel_target, config, Target("resnet50", "", "client", 1.0))
    assert refusal or door.recipe


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder for label files."""
    return tmp_path_factory.mktemp("fuzz")


ROWS = st.lists(st.lists(TEXT | near("0", "cat.jpg", "-1", "../", "file"), max_size=4), max_size=4)


def table(rows):
    """A label file with these rows."""
    stream = io.StringIO()
    csv.writer(stream).writerows([["file", "class_index"], *rows])
    return stream.getvalue().encode(errors="replace")


@given(ROWS.map(table) | TEXT.map(lambda text: text.encode(errors="replace")) | st.binary())
@example(b"file,class_index\nx\n")
@example(b"file,class_index\n" + b'"' + b"x" * 200_000)
@example(b"file,class_index\nx," + b"9" * 5000)
@example(b"file,class_index\n\x00,0")
def test_label_files_of_evaluations(folder, content):
    """A label file that is read has samples with classes that the model has."""
    path = folder / "labels.csv"
    path.write_bytes(content)
    try:
        samples = read_samples(folder, path, {"cat": [0], "dog": [1]})
    except ConfigurationError:
        return
    assert samples
    assert all(sample.class_index in (0, 1) for sample in samples)
