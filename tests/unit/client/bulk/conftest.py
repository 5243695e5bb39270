"""A server in memory that classifies and embeds by a photo's first byte, and sources full of such photos."""

import io
import tarfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from resnet_client import client
from resnet_client.__main__ import main
from resnet_client.errors import InvalidImageError
from resnet_client.requests import FEATURES, Inference
from resnet_client.responses import Answer

WIDTH = 8


class Embedding:
    """Class index and first feature are the photo's first byte; byte 255 is no photo."""

    def __init__(self):
        self.asked = []
        self.failures = []

    def send(self, request, _):
        """Fail as told, or answer."""
        if not isinstance(request, Inference):
            outputs = [{"name": FEATURES, "datatype": "FP32", "shape": ["-1", str(WIDTH)]}]
            return {"name": "resnet50", "outputs": outputs}
        photo = request.tensor[0, 0]
        self.asked.append(photo[0])
        if self.failures:
            raise self.failures.pop(0)
        if photo[0] == 255:
            raise InvalidImageError("this is no photo", source="")
        if request.output_name == FEATURES:
            return Answer(np.full((1, WIDTH), photo[0], np.float32), request.model, "")
        classes = [f"{p}:{photo[0] + n}:label {photo[0] + n}".encode() for n, p in enumerate((0.5, 0.25))]
        return Answer(np.array([classes[: request.class_count]], dtype=object), request.model, "3")

    def close(self):
        """Nothing is open."""


@pytest.fixture
def served(monkeypatch):
    """The server that clients made in the test will use."""
    server = Embedding()
    monkeypatch.setattr(client, "connect", lambda *_: server)
    return server


@pytest.fixture
def bulk(tmp_path, monkeypatch, served):
    """Run ``resnet-client bulk`` in a folder of the test's own; returns the rows, or the exit code of a failure."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, output="results.parquet", code=0):
        assert main(["bulk", *map(str, arguments), "--output", output]) == code
        return pq.read_table(output) if code in (0, 1) else None

    return run


@pytest.fixture
def folder(tmp_path):
    """25 photos, 1 to 25, in a folder and one below it, and a file that is none."""
    photos = tmp_path / "photos"
    (photos / "below").mkdir(parents=True)
    for number in range(1, 26):
        (photos / ("below" if number > 20 else "") / f"{number:02d}.jpg").write_bytes(bytes([number, 0]))
    (photos / "notes.txt").write_text("no photo")
    return photos


def write_tar(path, numbers, mode="w"):
    """A shard as WebDataset has it: each photo beside its class."""
    with tarfile.open(path, mode) as archive:
        for number in numbers:
            for suffix, content in ((".jpg", bytes([number, 0])), (".cls", b"7")):
                member = tarfile.TarInfo(f"{number:04d}{suffix}")
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    return path


def write_parquet(path, cells, **options):
    """A Parquet file with a column of photos beside another."""
    pq.write_table(pa.table({"id": list(range(len(cells))), "image": cells}), path, **options)
    return path
