"""Checks that the default model is ready and classifies a small image.

Triton's readiness does not show this: the server is not ready if any other model failed to load, and a model is ready
although the worker of its Python backend has died.
A refusal under overload counts as an answer. The check uses the standard library and Pillow only, because it runs
inside Triton's container.
"""

from __future__ import annotations

import io
import json
import sys
import urllib.error
import urllib.request
from http import HTTPStatus

from PIL import Image

DEFAULT_SERVER = "http://127.0.0.1:8000"
MODEL = "v2/models/resnet50"
TIMEOUT_S = 10
# Prefix of messages of the model `preprocess` with the status 503; as in resnet_client/error_mapping.py.
OVERLOAD_PREFIX = "[overload] "
# Without a proxy, because the server is in the same container, and urllib does not support networks in `no_proxy`.
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def golden_image() -> bytes:
    """Return a small grey PNG."""
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), (128, 128, 128)).save(buffer, "PNG")
    return buffer.getvalue()


def classify(server: str, image: bytes) -> str:
    """Send one image by Triton's binary HTTP protocol; return ``probability:index:label``."""
    tensor = len(image).to_bytes(4, "little") + image
    header = {
        "inputs": [
            {
                "name": "IMAGE",
                "shape": [1, 1],
                "datatype": "BYTES",
                "parameters": {"binary_data_size": len(tensor)},
            }
        ],
        "outputs": [{"name": "PROBABILITIES__0", "parameters": {"classification": 1, "binary_data": False}}],
    }
    encoded = json.dumps(header).encode()
    request = urllib.request.Request(
        f"{server}/{MODEL}/infer", data=encoded + tensor, headers={"Inference-Header-Content-Length": str(len(encoded))}
    )
    with DIRECT.open(request, timeout=TIMEOUT_S) as response:
        answer: str = json.load(response)["outputs"][0]["data"][0]
    return answer


def main(server: str = DEFAULT_SERVER) -> int:
    """Return 0 if the server answers with a probability, or refuses because it is overloaded."""
    DIRECT.open(f"{server}/{MODEL}/ready", timeout=TIMEOUT_S).close()
    try:
        answer = classify(server, golden_image())
    except urllib.error.HTTPError as exc:
        # If overloaded servers were taken out of service, the others would be overloaded, too.
        if exc.code == HTTPStatus.SERVICE_UNAVAILABLE and OVERLOAD_PREFIX.encode() in exc.read():
            return 0
        raise
    probability, index, label = answer.split(":", 2)
    if not 0.0 < float(probability) <= 1.0:
        raise ValueError(f"the probability of class {index} ({label}) is {probability}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
