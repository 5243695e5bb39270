"""FastAPI and eager PyTorch, as tutorials do it: the network in the worker, a request at a time."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

import torch
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from PIL import Image
from resnet_build import weights
from resnet_build.network import load_network
from torchvision.transforms import v2

from benchmarks.peers.common import CROP, PORT, RESIZE, SETTINGS, best

app = FastAPI()
torch.set_num_threads(SETTINGS["threads"])
_found = weights.load(
    os.environ["BENCH_WEIGHTS"],
    cache=weights.default_cache(),
    file_options=weights.FileOptions(),
    report=lambda _: None,
)
network = load_network(_found.architecture, _found.state_dict)
transforms = v2.Compose(
    [
        v2.Resize(RESIZE),
        v2.CenterCrop(CROP),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize(_found.mean, _found.std),
    ]
)


@app.post("/classify")
async def classify(request: Request) -> dict[str, Any]:
    """Classify the image in the body."""
    jpeg = await request.body()
    return await run_in_threadpool(_answer, jpeg) if SETTINGS["threadpool"] else _answer(jpeg)


@torch.inference_mode()
def _answer(jpeg: bytes) -> dict[str, Any]:
    image = Image.open(io.BytesIO(jpeg)).convert("RGB")
    return best(network(transforms(image)[None]).softmax(dim=1)[0].numpy())


if __name__ == "__main__":
    uvicorn.run(
        f"benchmarks.peers.{Path(__file__).stem}:app", port=PORT, workers=SETTINGS["workers"], log_level="warning"
    )
