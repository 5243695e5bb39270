"""Healthy means answering: the ensemble is ready, and a tiny image comes back as probabilities.

Readiness alone is not enough: a Python backend whose worker has died stays «ready» and answers nothing.
A refusal under overload is an answer.
Standard library and Pillow only, because it runs inside Triton's container.
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
# How the model `preprocess` starts a message with the status 503; as in resnet_client/error_mapping.py.
OVERLOAD_PREFIX = "[overload] "
# Its own container is never reached through a proxy, and urllib takes no networks such as 127.0.0.0/8 from `no_proxy`.
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
    """Return 0 if the server answers sensibly, or refuses because it is overloaded."""
    DIRECT.open(f"{server}/{MODEL}/ready", timeout=TIMEOUT_S).close()
    try:
        answer = classify(server, golden_image())
    except urllib.error.HTTPError as exc:
        # A server that is taken out for this leaves its load to the others, until none is left.
        if exc.code == HTTPStatus.SERVICE_UNAVAILABLE and OVERLOAD_PREFIX.encode() in exc.read():
            return 0
        raise
    probability, index, label = answer.split(":", 2)
    if not 0.0 < float(probability) <= 1.0:
        raise ValueError(f"the probability of class {index} ({label}) is {probability}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
