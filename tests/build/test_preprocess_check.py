"""The model `preprocess_check`, in a repository for GPU hosts on the real server without a GPU."""

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
from resnet_build.gpu import GpuOptions
from resnet_build.options import ServingOptions
from resnet_build.repository import Repository
from resnet_build.weights import imagenet_labels
from resnet_client import Client, preprocessing
from resnet_serve import ServerConfig, TritonServer


@pytest.fixture(scope="module")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """The built networks in a repository with DALI whose default model is OpenVINO's on a CPU, served as on a GPU."""
    described = Repository(
        tmp_path_factory.mktemp("gpu"),
        labels=imagenet_labels(),
        preprocess_config=preprocessing.PreprocessConfig(resize=256, crop=224),
        serving=ServingOptions(max_batch_size=2, warmup_batch=1),
        gpu_options=GpuOptions(preprocessing="dali"),
        variants=("fp32",),
        default="fp32",
    )
    names = ("network_onnx/1/model.onnx", "network_torchscript/1/model.pt")
    artifacts = {name: repository / name for name in names}
    described.publish(artifacts | {"network_fp32/1/model.onnx": artifacts[names[0]]}, {"versions": {}})
    with TritonServer(ServerConfig(described.root, port=0, model_config_name="gpu")) as server:
        yield server


def ask_check(server: TritonServer, *encoded: bytes) -> np.ndarray:
    """Return the answer of `preprocess_check` to a request."""
    tensor = triton.InferInput("IMAGE", [len(encoded), 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[one] for one in encoded], dtype=object))
    with triton.InferenceServerClient(server.grpc_url.removeprefix("grpc://")) as client:
        return client.infer("preprocess_check", [tensor]).as_numpy("ENCODED")


def test_gpu_repository_serves_without_a_gpu(served: TritonServer, images: dict[str, Path]) -> None:
    """On a CPU, the default model has TorchScript's answers, and DALI's models are not served."""
    with Client(served.grpc_url) as client:
        found = [client.classify(images["cat"], model=name) for name in ("resnet50", "resnet50_torchscript")]
    assert found[0].top == found[1].top
    assert found[0].top.index in range(281, 288)
    models = {model.name: model.config for model in served.models()}
    assert models["resnet50"]["ensemble_scheduling"]["step"][-1]["model_name"] == "network_torchscript"
    assert {"resnet50", "preprocess_check"} < models.keys()
    assert not {"preprocess_dali", "resnet50_dali"} & models.keys()


def test_preprocess_check_passes_on_a_jpeg(served: TritonServer, images: dict[str, Path]) -> None:
    """Without its metadata, and with zeros behind it up to the length of the longest."""
    coffee = Image.open(images["coffee"]).convert("RGB")
    large, small = (as_jpeg(image) for image in (coffee, coffee.resize((100, 80))))
    rows = ask_check(served, large, small)
    assert rows.dtype == np.uint8
    assert np.array_equal(preprocessing.decode(rows[0].tobytes()), preprocessing.decode(large))
    assert np.array_equal(preprocessing.decode(rows[1].tobytes().rstrip(b"\0")), preprocessing.decode(small))


def test_preprocess_check_decodes_what_dali_might_decode_differently(
    served: TritonServer, images: dict[str, Path]
) -> None:
    """A PNG with transparency and a JPEG that lies on its side go on as BMP, upright and in RGB."""
    coffee = Image.open(images["coffee"]).convert("RGB").resize((60, 40))
    png = io.BytesIO()
    coffee.convert("RGBA").save(png, "PNG")
    exif = Image.Exif()
    exif[274] = 6
    for encoded, size in ((png.getvalue(), (60, 40)), (as_jpeg(coffee, exif=exif), (40, 60))):
        with Image.open(io.BytesIO(ask_check(served, encoded)[0].tobytes())) as image:
            assert (image.format, image.mode, image.size) == ("BMP", "RGB", size)
            assert np.array_equal(image, preprocessing.decode(encoded))


def test_preprocess_check_refuses_an_invalid_image(served: TritonServer, images: dict[str, Path]) -> None:
    """In DALI it would fail the requests of others; the message is that of `preprocess`."""
    truncated = as_jpeg(Image.open(images["coffee"]).convert("RGB"))[:-3000]
    for bad, reason in ((b"no image", "not an image in a known format"), (truncated, "truncated")):
        with pytest.raises(triton.InferenceServerException, match=reason):
            ask_check(served, bad)
    with urllib.request.urlopen(served.metrics_url, timeout=10) as page:  # noqa: S310  # http, on loopback
        counts = re.findall(r"^resnet_refused_images_total\{(.*)\} (\d+)$", page.read().decode(), re.MULTILINE)
    of_images = [count for labels, count in counts if 'model="preprocess_check"' in labels and '"image"' in labels]
    assert of_images == ["2"]


def as_jpeg(image: Image.Image, **options: object) -> bytes:
    """Encode."""
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", **options)
    return buffer.getvalue()
