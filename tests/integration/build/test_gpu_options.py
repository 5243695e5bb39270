"""A repository that was built for a GPU host, on the real server without a GPU."""

from __future__ import annotations

import io
import re
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tritonclient.grpc as triton
from PIL import Image
from resnet_build import configs, gpu
from resnet_client import Client, preprocessing
from resnet_serve import ServerConfig, TritonServer, models

MODELS = ("preprocess", "network_onnx", "resnet50")


@pytest.fixture(scope="module")
def served(repository_copy) -> Iterator[TritonServer]:
    """The default models with TensorRT and DALI in their configurations."""
    folder = repository_copy.folder
    for model in MODELS:
        repository_copy.add(model)
    texts = {model: (folder / model / "config.pbtxt").read_text() for model in MODELS}
    recipe = preprocessing.Recipe.from_json(configs.parse(texts["resnet50"]).parameters["recipe"].string_value)
    options = gpu.GpuOptions(accelerator="tensorrt", preprocessing="dali")
    texts = gpu.adapt(with_warmup(texts), options)
    files = {f"{model}/config.pbtxt": text for model, text in texts.items()}
    for name, text in {**files, **dict(gpu.small_files(recipe, 32)), "resnet50_dali/1/.keep": ""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    with TritonServer(ServerConfig(folder, port=0)) as server:
        yield server


def with_warmup(texts: dict[str, str]) -> dict[str, str]:
    """The shortest warm-up there is."""
    config = configs.parse(texts["network_onnx"])
    sample = config.model_warmup.add(name="one", batch_size=1)
    sample.inputs["PIXELS__0"].data_type = config.input[0].data_type
    sample.inputs["PIXELS__0"].dims.extend(config.input[0].dims)
    sample.inputs["PIXELS__0"].random_data = True
    return texts | {"network_onnx": str(config)}


def ask_check(server: TritonServer, *encoded: bytes) -> np.ndarray:
    """What the door before DALI makes of a request."""
    tensor = triton.InferInput("IMAGE", [len(encoded), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[one] for one in encoded], dtype=object))
    with triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        return client.infer("preprocess_check", [tensor]).as_numpy("ENCODED")


def test_the_same_repository_serves_without_a_gpu(served: TritonServer, photos: dict[str, Path]) -> None:
    """What is for GPUs only is not in the way: the default door answers, DALI's is not served."""
    with Client(served.grpc_url) as client:
        assert client.classify(photos["cat"]).top.index in range(281, 288)
    assert set(models.without_package(served.config)) == {"preprocess_dali", "resnet50_dali"}


def test_a_jpeg_goes_on_as_it_is(served: TritonServer, photos: dict[str, Path]) -> None:
    """Without its metadata, and with zeros behind it up to the length of the longest."""
    coffee = Image.open(photos["coffee"]).convert("RGB")
    large, small = (as_jpeg(picture) for picture in (coffee, coffee.resize((100, 80))))
    rows = ask_check(served, large, small)
    assert rows.dtype == np.uint8
    assert np.array_equal(preprocessing.decode(rows[0].tobytes()), preprocessing.decode(large))
    assert np.array_equal(preprocessing.decode(rows[1].tobytes().rstrip(b"\0")), preprocessing.decode(small))


def test_what_dali_might_see_otherwise_is_decoded_before(served: TritonServer, photos: dict[str, Path]) -> None:
    """A PNG with transparency and a JPEG that lies on its side go on as BMP, upright and in RGB."""
    coffee = Image.open(photos["coffee"]).convert("RGB").resize((60, 40))
    png = io.BytesIO()
    coffee.convert("RGBA").save(png, "PNG")
    exif = Image.Exif()
    exif[274] = 6
    for encoded, size in ((png.getvalue(), (60, 40)), (as_jpeg(coffee, exif=exif), (40, 60))):
        with Image.open(io.BytesIO(ask_check(served, encoded)[0].tobytes())) as image:
            assert (image.format, image.mode, image.size) == ("BMP", "RGB", size)
            assert np.array_equal(image, preprocessing.decode(encoded))


def test_a_bad_photo_does_not_reach_dali(served: TritonServer, photos: dict[str, Path]) -> None:
    """There it would fail the requests of others; it is refused in the words of `preprocess`."""
    truncated = as_jpeg(Image.open(photos["coffee"]).convert("RGB"))[:-3000]
    for bad, reason in ((b"no photo", "not an image in a known format"), (truncated, "truncated")):
        with pytest.raises(triton.InferenceServerException, match=reason):
            ask_check(served, bad)
    with urllib.request.urlopen(served.metrics_url, timeout=10) as page:  # noqa: S310  # http, on loopback
        counts = re.findall(r"^resnet_refused_photos_total\{(.*)\} (\d+)$", page.read().decode(), re.MULTILINE)
    of_photos = [count for labels, count in counts if 'model="preprocess_check"' in labels and '"photo"' in labels]
    assert of_photos == ["2"]


def as_jpeg(picture: Image.Image, **options: object) -> bytes:
    """Encode."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", **options)
    return buffer.getvalue()
