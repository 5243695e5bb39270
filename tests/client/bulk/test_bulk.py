"""Bulk runs against the real server: killed twice, they end with the rows of a run that was not."""

import bulk
import numpy as np
import pyarrow.parquet as pq
import pytest
from resnet_client import Client

IMAGES = 24


@pytest.fixture(scope="module")
def crops(images, tmp_path_factory):
    scenes = [images[name] for name in ("cat", "coffee", "flower")]
    return bulk.write_crops(tmp_path_factory.mktemp("bulk") / "images", scenes, IMAGES, side=160)


def test_bulk_run_killed_twice_has_the_same_rows(server, crops, tmp_path):
    """SIGKILL in the middle, twice: one row for each image, the same answers, one error."""
    whole, broken = tmp_path / "whole.parquet", tmp_path / "broken.parquet"
    bulk.finish(bulk.start(server.grpc_url, crops, whole))
    options = ("--part-size", "4", "--max-in-flight", "4")  # a part is written after each batch
    for aim in (1, 3):
        process = bulk.start(server.grpc_url, crops, broken, *options)
        bulk.kill_when(process, lambda aim=aim: bulk.parts(broken) >= aim)
    assert f"{IMAGES} images, 1 failed" in bulk.finish(bulk.start(server.grpc_url, crops, broken, *options))
    expected, rows = pq.read_table(whole), pq.read_table(broken)
    assert rows["image"].to_pylist() == sorted(map(str, crops.iterdir()))
    for column in ("image", "error", "index", "label", "model_version"):
        assert rows[column].equals(expected[column]), column
    assert np.allclose(rows["probability"].to_numpy(), expected["probability"].to_numpy(), atol=2e-6, equal_nan=True)


def test_bulk_writes_the_features_of_embed(server, crops, tmp_path):
    """A row of the file is what ``embed`` returns for the image."""
    image, output = crops / "000000.jpg", tmp_path / "features.parquet"
    process = bulk.start(server.grpc_url, image, output, "--embed")
    _, printed = process.communicate(timeout=60)
    assert process.returncode == 0, printed
    (features,) = pq.read_table(output)["features"].to_pylist()
    with Client(server.grpc_url) as client:
        assert np.allclose(features, client.embed(image), atol=1e-4)
    assert len(features) == 2048
