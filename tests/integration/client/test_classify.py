"""Photos through the real server, the same cases for all four clients."""

import io

import numpy as np
import pytest
from PIL import Image
from resnet_client import Client, InvalidImageError, ModelNotFoundError, Prediction, RequestError
from resnet_client.__main__ import main
from resnet_client.cli.exit_codes import ExitCode

CATS = {281, 282, 283, 284, 285}  # tabby, tiger cat, Persian, Siamese, Egyptian


@pytest.fixture(scope="module")
def expected(server, photos):
    """The answers over gRPC, one by one."""
    with Client(server.grpc_url) as client:
        return {name: client.classify(path) for name, path in photos.items()}


def test_a_cat_is_a_cat(client, photos):
    """The photo of a cat is one of ImageNet's cats, the classes are sorted, the model is named."""
    found = client.classify(photos["cat"])
    assert found.top.index in CATS
    assert len(found.predictions) == 5
    assert [p.probability for p in found.predictions] == sorted(
        (p.probability for p in found.predictions), reverse=True
    )
    assert (found.model, found.model_version) == ("resnet50", "1")
    assert isinstance(found.top, Prediction)


def test_all_clients_agree(client, photos, expected):
    """Every transport gives the same answers."""
    for name, path in photos.items():
        check_same(client.classify(path), expected[name])


def test_top_k_is_how_many(client, photos):
    """One class, three, or all there are."""
    assert [len(client.classify(photos["cat"], top_k=k).predictions) for k in (1, 3, 5000)] == [1, 3, 1000]


def test_features_are_a_vector(client, photos):
    """Features are 2048 numbers of 0 and above, different for different photos."""
    cat, coffee = (client.embed(photos[name]) for name in ("cat", "coffee"))
    assert (cat.shape, cat.dtype) == ((2048,), np.float32)
    assert cat.min() >= 0
    assert not np.allclose(cat, coffee)


def test_the_kind_of_source_does_not_matter(client, photos, expected):
    """Path, bytes, file, picture and array of one lossless photo have one answer."""
    path = photos["cat"]
    content = path.read_bytes()
    picture = Image.open(path)
    for source in (str(path), content, io.BytesIO(content), picture, np.asarray(picture)):
        check_same(client.classify(source), expected["cat"])


def test_local_preprocessing_gives_the_same(client, photos, expected):
    """Cropping here or there makes no difference above 0.001."""
    for name, path in photos.items():
        local = {p.index: p.probability for p in client.classify(path, preprocessing="client", top_k=1000).predictions}
        for prediction in expected[name].predictions:
            assert local[prediction.index] == pytest.approx(prediction.probability, abs=1e-3)


def test_local_preprocessing_reaches_a_network_directly(client, photos, expected):
    """A network may be named itself when pixels are cut here."""
    found = client.classify(photos["cat"], model="network_onnx", preprocessing="client")
    assert found.top.index == expected["cat"].top.index
    assert found.model == "network_onnx"


def test_bad_photos_fail_alone(client, photos, expected, tmp_path):
    """A text file, an empty file and half a JPEG fail with their sentences; photos between them do not."""
    jpeg = photos["rocket"].read_bytes()
    for name, content in {
        "text.jpg": b"not a photo",
        "empty.jpg": b"",
        "half.jpg": jpeg[: len(jpeg) // 2],
    }.items():
        (tmp_path / name).write_bytes(content)
    names = ["cat", "text.jpg", "coffee", "empty.jpg", "half.jpg", "missing.jpg", "flower"]
    outcomes = client.many([photos.get(name, tmp_path / name) for name in names], max_in_flight=4)
    for name, outcome in zip(names, outcomes, strict=True):
        if name in photos:
            check_same(outcome.result, expected[name])
    sentences = [str(outcome.error) for outcome in outcomes if not outcome.ok]
    for sentence, part in zip(sentences, ("known format", "empty", "truncated", "no such file"), strict=True):
        assert part in sentence
    assert isinstance(outcomes[1].error, InvalidImageError)
    assert outcomes[1].error.source == str(tmp_path / "text.jpg")


def test_models_that_classify_nothing_name_those_that_do(client, photos):
    """The step before the network is refused with the remedy, not with the name of a tensor only."""
    with pytest.raises(RequestError, match="classify and embed with one such as 'resnet50'"):
        client.classify(photos["cat"], model="preprocess")


@pytest.mark.parametrize("options", [{"model": "no_such_model"}, {"model_version": "99"}])
@pytest.mark.parametrize("preprocessing", ["server", "client"])
def test_missing_models_are_named(client, photos, options, preprocessing):
    """A model or version that is not served is `ModelNotFoundError`."""
    with pytest.raises(ModelNotFoundError, match=r"no_such_model|99"):
        client.classify(photos["cat"], preprocessing=preprocessing, **options)


def test_the_largest_arguments_are_answered(client, photos):
    """What the client lets through, the protocols carry."""
    assert len(client.classify(photos["cat"], top_k=2**31 - 1, timeout_s=1e9).predictions) == 1000


@pytest.mark.parametrize("models", [[], ["--model", "resnet50"], ["--model", "resnet50", "--model", "network_onnx"]])
def test_evaluate_wants_the_version_given(server, photos, tmp_path, models):
    """A version that is not served is exit code 4, not the latest version's figures."""
    (tmp_path / "labels.csv").write_text(f"file,class_index\n{photos['cat']},282\n")
    command = ["evaluate", str(tmp_path), "--labels", str(tmp_path / "labels.csv"), "--url", server.grpc_url, *models]
    assert main([*command, "--model-version", "99"]) == ExitCode.NO_MODEL


def test_metadata_is_alike(client, server):
    """All transports tell the same of server and model."""
    found = client.metadata()
    with Client(server.grpc_url) as other:
        assert found == other.metadata()
    assert found["model"]["inputs"] == [{"name": "IMAGE", "datatype": "BYTES", "shape": [-1, 1]}]
    assert "recipe_sha256" in found["model"]["parameters"]


def test_health_is_an_answer(client):
    """A healthy server has flags and an answer; a missing model is a finding."""
    client.wait_until_ready(30)
    assert client.is_ready()
    assert client.health().answer is not None
    missing = client.health(model="no_such_model")
    assert (missing.ok, missing.server_live, missing.model_ready) == (False, True, False)
    assert isinstance(missing.error, ModelNotFoundError)


def check_same(found, expected):
    """The same classes in the same order; the sixth decimal may depend on the batch it was computed in."""
    assert [p.index for p in found.predictions] == [p.index for p in expected.predictions]
    for one, other in zip(found.predictions, expected.predictions, strict=True):
        assert one.probability == pytest.approx(other.probability, abs=1e-5)
