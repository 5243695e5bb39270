"""Bulk runs at length: 20,000 images and five SIGKILLs, throughput, memory, and the same rows from two Ray nodes."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable
from pathlib import Path

import bulk
import numpy as np
import psutil
import pyarrow.parquet as pq
import pytest
from resnet_client import Client
from resnet_serve import TritonServer

pytestmark = [pytest.mark.slow, pytest.mark.timeout(7200)]

IMAGES = 20_000
KILLS = 5
MODEL = "resnet50_int8"
MEMORY_GROWTH_MIB = 64


@pytest.fixture(scope="module")
def crops(images: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As many images as the promise is made for."""
    scenes = [images[name] for name in ("cat", "coffee", "flower")]
    return bulk.write_crops(tmp_path_factory.mktemp("bulk") / "images", scenes, IMAGES, side=160)


def same(rows: Path, expected: Path) -> None:
    """Compare two files."""
    found, wanted = pq.read_table(rows), pq.read_table(expected)
    for column in ("image", "error", "index", "label"):
        assert found[column].equals(wanted[column]), column
    assert np.allclose(found["probability"].to_numpy(), wanted["probability"].to_numpy(), atol=1e-5, equal_nan=True)


def test_twenty_thousand_images_and_five_kills(
    start_server: Callable[..., TritonServer],
    variant_repository: Path,
    crops: Path,
    tmp_path: Path,
    note: Callable[[str], None],
) -> None:
    """Exactly one row each, equal to an uninterrupted run; memory does not grow; as fast as ``classify_many``.

    The model is the fastest one: the client is tested, and this takes a third of the time.
    """
    url = start_server(variant_repository, models=(MODEL,)).grpc_url
    whole, broken = tmp_path / "whole.parquet", tmp_path / "broken.parquet"
    process = bulk.start(url, crops, whole, "--model", MODEL)
    memory_mib: list[float] = []
    while process.poll() is None:
        memory_mib.append(psutil.Process(process.pid).memory_info().rss / 2**20)
        time.sleep(1)
    rate = float(re.search(r"([\d,.]+)/s", bulk.finish(process))[1].replace(",", ""))
    warm = memory_mib[len(memory_mib) // 4]
    assert max(memory_mib[len(memory_mib) // 4 :]) < warm + MEMORY_GROWTH_MIB

    some = sorted(crops.iterdir())[:2000]
    with Client(url) as client:
        began_s = time.monotonic()
        assert sum(1 for _ in client.classify_many(some, model=MODEL)) == len(some)
        plain = len(some) / (time.monotonic() - began_s)
    note(f"{rate:.1f} images/s, classify_many {plain:.1f}/s; memory {warm:.0f} to {max(memory_mib):.0f} MiB")
    assert rate > 0.95 * plain

    dice = random.Random()  # noqa: S311  # moments of death
    for aim in sorted(dice.sample(range(IMAGES // 200), KILLS)):
        process = bulk.start(url, crops, broken, "--model", MODEL, "--part-size", "200")
        bulk.kill_when(process, lambda aim=aim: bulk.parts(broken) >= aim, timeout_s=3600)
    bulk.finish(bulk.start(url, crops, broken, "--model", MODEL, "--part-size", "200"), timeout_s=3600)
    same(broken, whole)
    assert pq.read_metadata(broken).num_rows == IMAGES


def test_two_ray_nodes_give_the_same_rows(
    start_server: Callable[..., TritonServer], images: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine decides where requests come from, not what the rows hold."""
    pytest.importorskip("ray", reason="the extra ray is not installed")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    crops = bulk.write_crops(tmp_path / "images", [images["cat"], images["coffee"]], 160, side=160)
    url = start_server().grpc_url
    here, spread = tmp_path / "here.parquet", tmp_path / "spread.parquet"
    bulk.finish(bulk.start(url, crops, here, "--part-size", "20"))
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2})
    try:
        cluster.add_node(num_cpus=2)
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        bulk.finish(bulk.start(url, crops, spread, "--part-size", "20", "--engine", "ray", "--workers", "2"))
    finally:
        cluster.shutdown()
    same(spread, here)
