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
from resnet_build.repository import Repository
from resnet_build.serving_options import ServingOptions
from resnet_build.weights import imagenet_labels
from resnet_client import Client, preprocessing
from resnet_serve import ALL_MODELS, ServerConfig, TritonServer

from .dali_pipeline import dali_rows

PREPROCESSING = preprocessing.PreprocessConfig(resize=256, crop=224)


@pytest.fixture(scope="module")
def served(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TritonServer]:
    """The built networks in a repository with DALI whose default model is OpenVINO's on a CPU, served as on a GPU."""
    described = Repository(
        tmp_path_factory.mktemp("gpu"),
        labels=imagenet_labels(),
        preprocess_config=PREPROCESSING,
        serving=ServingOptions(max_batch_size=4, warmup_batch=1),
        gpu_options=GpuOptions(preprocessing="dali"),
        variants=("fp32",),
        default="fp32",
    )
    names = ("network_onnx/1/model.onnx", "network_torchscript/1/model.pt")
    artifacts = {name: repository / name for name in names}
    described.publish(artifacts | {"network_fp32/1/model.onnx": artifacts[names[0]]}, {"versions": {}})
    with TritonServer(ServerConfig(described.root, models=ALL_MODELS, port=0, model_config_name="gpu")) as server:
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


def test_preprocess_check_prepares_what_dali_might_decode_differently(
    served: TritonServer, images: dict[str, Path]
) -> None:
    """A grey JPEG and a PNG with transparency go on as a PPM, whose centre is what `preprocess` answers."""
    coffee = Image.open(images["coffee"]).convert("RGB")
    for encoded in (as_jpeg(coffee.convert("L")), encode(coffee.convert("RGBA"), "PNG")):
        with Image.open(io.BytesIO(ask_check(served, encoded)[0].tobytes())) as image:
            assert (image.format, image.size) == ("PPM", (256, 256))
            assert np.array_equal(np.asarray(image)[16:240, 16:240], preprocessing.prepare(encoded, PREPROCESSING))


def test_preprocess_check_keeps_the_orientation_of_a_jpeg(served: TritonServer, images: dict[str, Path]) -> None:
    """DALI turns it; no other metadata is left."""
    exif = Image.Exif()
    exif[274], exif[271] = 6, "maker"
    encoded = as_jpeg(Image.open(images["coffee"]).convert("RGB"), exif=exif)
    with Image.open(io.BytesIO(ask_check(served, encoded)[0].tobytes())) as image:
        assert (image.format, dict(image.getexif())) == ("JPEG", {274: 6})
        assert np.array_equal(preprocessing.to_rgb(image), preprocessing.decode(encoded))


def test_preprocess_check_bounds_what_a_request_expands_to(served: TritonServer) -> None:
    """Large PNGs, JPEGs of many pixels, and one long JPEG among short ones: each image is the length of a small PPM."""
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (2500, 2500, 3), dtype=np.uint8))
    many_pixels, short = Image.new("RGB", (4100, 4100)), as_jpeg(Image.new("RGB", (64, 64)))
    long = as_jpeg(noise, quality=100, subsampling=0)
    assert 16 << 20 < len(long) < 32 << 20
    for request in ([encode(many_pixels, "PNG")] * 2, [as_jpeg(many_pixels)] * 2, [long, short, short, short]):
        assert ask_check(served, *request).nbytes < len(request) * 200_000


def test_dali_prepares_what_preprocess_check_forwards(
    served: TritonServer, images: dict[str, Path], tmp_path: Path
) -> None:
    """Turned, grey, transparent: the pixels are those of `preprocess`, equal to the bit where that prepared them."""
    coffee = Image.open(images["coffee"]).convert("RGB")
    exif = Image.Exif()
    cases = [(as_jpeg(coffee.convert("L")), 0), (encode(coffee.convert("RGBA"), "PNG"), 0)]
    for exif[274] in range(1, 9):
        cases.append((as_jpeg(coffee, exif=exif), 1))
    forwarded = [ask_check(served, encoded)[0].tobytes() + bytes(1000) for encoded, _ in cases]
    for row, (encoded, most) in zip(dali_rows(forwarded, PREPROCESSING, tmp_path), cases, strict=True):
        difference = np.abs(row.astype(int) - preprocessing.prepare(encoded, PREPROCESSING))
        assert difference.max() <= most


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
    """Encode as JPEG."""
    return encode(image, "JPEG", **options)


def encode(image: Image.Image, form: str, **options: object) -> bytes:
    """Encode."""
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()
