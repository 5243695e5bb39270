"""Runs of ``resnet-client bulk`` on servers in memory, and sources full of images for them."""

import io
import logging
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import requests
from moto.server import ThreadedMotoServer
from resnet_client import UnavailableError
from resnet_client.__main__ import main
from s3fs import S3FileSystem

UNAVAILABLE = UnavailableError("gone")


@pytest.fixture
def bulk(tmp_path, monkeypatch, stub):
    """Run ``resnet-client bulk`` in a folder of the test's own; returns the rows, or None if there are none."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, output="results.parquet", code=0):
        assert main(["bulk", *map(str, arguments), "--output", output]) == code
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
    S3FileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture
def bucket(s3_server, monkeypatch):
    """The URL of an empty bucket."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3_server)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")  # the machine may have credentials of its own
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "any")
    requests.post(f"{s3_server}/moto-api/reset", timeout=60)
    filesystem = S3FileSystem()
    filesystem.invalidate_cache()
    filesystem.mkdir("bucket")
    return "s3://bucket"
