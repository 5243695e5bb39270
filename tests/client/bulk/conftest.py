"""A gRPC server that classifies and embeds an image by its first byte, and sources full of such images."""

import concurrent.futures
import io
import logging
import struct
import tarfile

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from moto.server import ThreadedMotoServer
from resnet_client.__main__ import main
from s3fs import S3FileSystem
from tritonclient.grpc import service_pb2, service_pb2_grpc

WIDTH = 8
UNAVAILABLE = grpc.StatusCode.UNAVAILABLE, "gone"
PNG = b"\x89PNG"


class StubServer(service_pb2_grpc.GRPCInferenceServiceServicer):
    """Class index and first feature are the first byte of the image; byte 255 is not an image.

    Attributes:
        url: where it listens.
        received: first bytes of the images, without the test image (PNG) that checks whether the model is ready.
        failures: status and details for the next requests.
        fail: gets an image, and returns status and details, or None for an answer.
        outputs: names of the outputs in the metadata.
    """

    def __init__(self):
        self.received = []
        self.failures = []
        self.fail = lambda _: None
        self.outputs = ["FEATURES__1"]

    def ModelInfer(self, request, context):  # noqa: N802  # the service's names
        content = request.raw_input_contents[0][4:]
        if not content.startswith(PNG):
            self.received.append(content[0])
        if failure := (self.failures.pop(0) if self.failures else self.fail(content)):
            context.abort(*failure)
        if content[0] == 255:
            context.abort(grpc.StatusCode.INVALID_ARGUMENT, "[image] the image is damaged")
        answer = service_pb2.ModelInferResponse(model_name=request.model_name, model_version="3")
        (output,) = request.outputs
        if output.name == "FEATURES__1":
            answer.outputs.add(name=output.name, datatype="FP32", shape=[1, WIDTH])
            answer.raw_output_contents.append(np.full(WIDTH, content[0], np.float32).tobytes())
            return answer
        count = output.parameters["classification"].int64_param
        classes = [f"{p}:{content[0] + n}:label {content[0] + n}".encode() for n, p in enumerate((0.5, 0.25))][:count]
        answer.outputs.add(name=output.name, datatype="BYTES", shape=[1, len(classes)])
        answer.raw_output_contents.append(b"".join(struct.pack("<I", len(text)) + text for text in classes))
        return answer

    def ServerLive(self, _, __):  # noqa: N802
        return service_pb2.ServerLiveResponse(live=True)

    def ServerReady(self, _, __):  # noqa: N802
        return service_pb2.ServerReadyResponse(ready=True)

    def ModelReady(self, _, __):  # noqa: N802
        return service_pb2.ModelReadyResponse(ready=True)

    def ServerMetadata(self, _, __):  # noqa: N802
        return service_pb2.ServerMetadataResponse(name="stub", version="1")

    def ModelMetadata(self, _, __):  # noqa: N802
        answer = service_pb2.ModelMetadataResponse(name="resnet50", versions=["3"])
        for name in self.outputs:
            answer.outputs.add(name=name, datatype="FP32", shape=[-1, WIDTH])
        return answer

    def ModelConfig(self, _, __):  # noqa: N802
        return service_pb2.ModelConfigResponse()


@pytest.fixture
def served():
    stub = StubServer()
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        server = grpc.server(pool)
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(stub, server)
        stub.url = f"grpc://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        yield stub
        server.stop(None).wait()


@pytest.fixture
def bulk(tmp_path, monkeypatch, served):
    """Run ``resnet-client bulk`` in a folder of the test's own; returns the rows, or None if there are none."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, output="results.parquet", code=0):
        assert main(["bulk", *map(str, arguments), "--output", output, "--url", served.url]) == code
        return pq.read_table(output) if code in (0, 1) else None

    return run


@pytest.fixture
def folder(tmp_path):
    """25 images, 1 to 25, in a folder and one below it, and a file that is not an image."""
    images = tmp_path / "images"
    (images / "below").mkdir(parents=True)
    for number in range(1, 26):
        (images / ("below" if number > 20 else "") / f"{number:02d}.jpg").write_bytes(bytes([number, 0]))
    (images / "notes.txt").write_text("not an image")
    return images


def write_tar(path, numbers, mode="w"):
    """An archive as WebDataset has it: each image followed by its class."""
    with tarfile.open(path, mode) as archive:
        for number in numbers:
            for suffix, content in ((".jpg", bytes([number, 0])), (".cls", b"7")):
                member = tarfile.TarInfo(f"{number:04d}{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path, cells, **options):
    """A Parquet file with a column of images and another one."""
    pq.write_table(pa.table({"id": list(range(len(cells))), "image": cells}), path, **options)
    return path


@pytest.fixture(scope="session")
def s3_server():
    """The S3 API on loopback."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """The URL of an empty bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # the machine may have credentials of its own
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    requests.post(f"{s3_server}/moto-api/reset", timeout=60)
    S3FileSystem.clear_instance_cache()
    S3FileSystem().mkdir("bucket")
    yield "s3://bucket"
    S3FileSystem.clear_instance_cache()
