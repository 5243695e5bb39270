"""A client that is used on in child processes, with the real server."""

import subprocess
import sys

import pytest


@pytest.mark.parametrize("protocol", ["grpc", "http"])
def test_children_get_their_own_answers(server, photos, protocol):
    """Four children ask for two photos by turns with their parent's client; each gets the answer of its photo."""
    paths = [str(photos[name]) for name in ("cat", "coffee")]
    script = f"""
import multiprocessing
from resnet_client import Client
client = Client({getattr(server, f"{protocol}_url")!r})
paths = {paths!r}
expected = [client.classify(path).top.index for path in paths]
def call(number):
    return client.classify(paths[number]).top.index == expected[number]
with multiprocessing.get_context("fork").Pool(4) as pool:
    print(expected[0] != expected[1], pool.map(call, [0, 1] * 20, chunksize=1).count(True), call(0))
client.close()
"""
    printed = subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.PIPE, text=True, timeout=100)
    assert printed.stdout == "True 40 True\n"
