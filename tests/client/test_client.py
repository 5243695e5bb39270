"""Images through the real server, the same cases for all four clients; arguments and state of a client."""

import asyncio
import pickle

import numpy as np
import pytest
from resnet_client import (
    AsyncClient,
    Client,
    ClosedError,
    ConfigurationError,
    InvalidImageError,
    ModelNotFoundError,
    Prediction,
)

CATS = {281, 282, 283, 284, 285}  # tabby, tiger cat, Persian, Siamese, Egyptian


@pytest.fixture
def client(connect, server):
    """A client of each of the four kinds, connected to the real server."""
    return connect(server)


@pytest.fixture(scope="module")
def expected(server, images):
    with Client(server.grpc_url) as client:
        return {name: client.classify(images[name]) for name in ("cat", "coffee", "flower")}


def check_same(found, expected):
    """The same classes in the same order; the sixth decimal may depend on the batch it was computed in."""
    assert [p.index for p in found.predictions] == [p.index for p in expected.predictions]
    for one, other in zip(found.predictions, expected.predictions, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)


def test_classify_names_what_an_image_shows(client, images):
    """The image of a cat is one of ImageNet's cats, the classes are sorted, the model is named."""
    found = client.classify(images["cat"])
    assert found.top.index in CATS
    assert len(found.predictions) == 5
    probabilities = [prediction.probability for prediction in found.predictions]
    assert probabilities == sorted(probabilities, reverse=True)
    assert (found.model, found.model_version) == ("resnet50", "1")
    assert isinstance(found.top, Prediction)


def test_classify_many_gives_the_same_answers_over_each_protocol(client, images, expected):
    for outcome, answer in zip(client.many(map(images.get, expected)), expected.values(), strict=True):
        check_same(outcome.result, answer)


def test_classify_many_preprocesses_like_the_server(client, images, expected):
    """Cropping here or there makes no difference above 0.001, for the network by its own name as well."""
    options = {"preprocessing": "client", "top_k": 1000, "model": "network_onnx"}
    for outcome, answer in zip(client.many(map(images.get, expected), **options), expected.values(), strict=True):
        assert outcome.result.model == "network_onnx"
        local = {p.index: p.probability for p in outcome.result.predictions}
        for prediction in answer.predictions:
            assert local[prediction.index] == pytest.approx(prediction.probability, abs=1e-3)
    check_same(client.classify(images["cat"], preprocessing="client"), expected["cat"])


def test_classify_many_fails_for_invalid_images_only(client, images, expected, tmp_path):
    """A text file, an empty file and half a JPEG fail with their messages; images between them do not."""
    jpeg = images["rocket"].read_bytes()
    contents = {"text.jpg": b"not an image", "empty.jpg": b"", "half.jpg": jpeg[: len(jpeg) // 2]}
    for name, content in contents.items():
        (tmp_path / name).write_bytes(content)
    names = ["cat", "text.jpg", "coffee", "empty.jpg", "half.jpg", "missing.jpg", "flower"]
    outcomes = client.many([images.get(name, tmp_path / name) for name in names], max_in_flight=4)
    for name, outcome in zip(names, outcomes, strict=True):
        if name in images:
            check_same(outcome.result, expected[name])
    messages = [str(outcome.error) for outcome in outcomes if not outcome.ok]
    for message, part in zip(messages, ("known format", "empty", "truncated", "no such file"), strict=True):
        assert part in message
    assert isinstance(outcomes[1].error, InvalidImageError)
    assert outcomes[1].error.source == str(tmp_path / "text.jpg")


def test_classify_returns_as_many_classes_as_requested(client, images):
    """One class, three, or all there are; the largest arguments that the client accepts, the protocols carry."""
    options = ({"top_k": 1}, {"top_k": 3}, {"top_k": 2**31 - 1, "timeout_s": 1e9})
    assert [len(client.classify(images["cat"], **given).predictions) for given in options] == [1, 3, 1000]


def test_embed_returns_a_vector(client, images):
    """Features are 2048 numbers of 0 and above, different for different images."""
    cat, coffee = (client.embed(images[name]) for name in ("cat", "coffee"))
    assert (cat.shape, cat.dtype) == ((2048,), np.float32)
    assert cat.min() >= 0
    assert not np.allclose(cat, coffee)


@pytest.mark.parametrize("options", [{"model": "no_such_model"}, {"model_version": "99"}])
@pytest.mark.parametrize("preprocessing", ["server", "client"])
def test_classify_names_a_missing_model(client, images, options, preprocessing):
    with pytest.raises(ModelNotFoundError, match=r"no_such_model|99"):
        client.classify(images["cat"], preprocessing=preprocessing, **options)


def test_metadata_is_the_same_over_each_protocol(client, server):
    found = client.metadata()
    with Client(server.grpc_url) as other:
        assert found == other.metadata()
    assert found["model"]["inputs"] == [{"name": "IMAGE", "datatype": "BYTES", "shape": [-1, 1]}]
    assert "preprocessing_sha256" in found["model"]["parameters"]


def test_health_holds_flags_and_an_answer(client):
    """A missing model is part of the result."""
    client.wait_until_ready(30)
    assert client.is_ready()
    assert client.health().answer is not None
    missing = client.health(model="no_such_model")
    assert (missing.ok, missing.server_live, missing.model_ready) == (False, True, False)
    assert isinstance(missing.error, ModelNotFoundError)


@pytest.mark.parametrize(
    "options",
    [
        {"max_in_flight": 0},
        {"top_k": 0},
        {"top_k": 2**40},
        {"timeout_s": -1},
        {"timeout_s": 1e30},
        {"model_version": "x"},
        {"model_version": 0},
    ],
)
@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_classify_many_refuses_invalid_arguments_at_once(kind, options):
    """The call itself raises, before anything is iterated or connected."""
    with pytest.raises(ConfigurationError, match=next(iter(options)).split("_")[0]):
        kind().classify_many([], **options)


def test_classify_refuses_images_for_a_network():
    with Client() as client, pytest.raises(ConfigurationError, match="preprocessing='client'"):
        client.classify(b"x", model="network_onnx")


def test_client_does_not_take_its_version_for_another_model(stub):
    """`model_version` of the client belongs to its model, not to one named in a call."""
    with Client(model_version="3") as client:
        client.classify(b"\x01")
        client.classify(b"\x01", model="other")
    assert [request.model_version for request, _ in stub.sent] == ["3", ""]


def test_client_refuses_calls_after_it_is_closed(stub):
    """Closing again is fine."""
    client = Client()
    client.classify(b"\x01")
    client.close()
    client.close()
    assert stub.closed
    with pytest.raises(ClosedError):
        client.classify(b"\x01")
    with pytest.raises(ClosedError), client:
        pass


def test_async_client_refuses_a_second_event_loop(stub):
    """The message has the remedy; closing there is fine."""

    async def classify_many():
        return [outcome async for outcome in client.classify_many([b"\x01"])]

    client = AsyncClient()
    asyncio.run(client.statistics())
    for call in (client.statistics, classify_many):
        with pytest.raises(ConfigurationError, match=r"another event loop.*inside asyncio\.run"):
            asyncio.run(call())
    asyncio.run(client.close())


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_client_can_be_pickled(kind, tmp_path, monkeypatch):
    """A copy in another process has the same options, whatever the environment is there."""
    monkeypatch.setenv("RESNET_TIMEOUT_S", "7")
    original = kind("http://localhost:1", model="m", ca_certificate=None, retry_overload=False)
    content = pickle.dumps(original)
    monkeypatch.setenv("RESNET_TIMEOUT_S", "8")
    monkeypatch.setenv("RESNET_RETRY_OVERLOAD", "yes")
    assert pickle.loads(content).config == original.config
