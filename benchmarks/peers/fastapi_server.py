"""FastAPI: one request, one execution, in FastAPI's thread pool, on several workers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio.to_thread
import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool

from benchmarks.peers.common import PORT, SETTINGS, Network, best, prepare


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Bound the number of requests computed at once; others wait."""
    anyio.to_thread.current_default_thread_limiter().total_tokens = SETTINGS["concurrency"]
    yield


app = FastAPI(lifespan=lifespan)
network = Network()


@app.post("/classify")
async def classify(request: Request) -> dict[str, Any]:
    """Classify the image in the body."""
    answer: dict[str, Any] = await run_in_threadpool(_answer, await request.body())
    return answer


def _answer(jpeg: bytes) -> dict[str, Any]:
    return best(network(prepare(jpeg)[None])[0])


if __name__ == "__main__":
    uvicorn.run("benchmarks.peers.fastapi_server:app", port=PORT, workers=SETTINGS["workers"], log_level="warning")
