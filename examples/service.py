"""Classify uploaded images in a FastAPI service, with ``AsyncClient``.

::

    uvicorn service:app --port 8020
    curl -F image=@cat.jpg localhost:8020/classify
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import JSONResponse
from resnet_client import AsyncClient, ImageError, OverloadedError, ResnetClientError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Open one client for all requests, in the event loop that uses it."""
    async with AsyncClient() as app.state.client:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/classify")
async def classify(request: Request, image: UploadFile) -> dict[str, float]:
    """Probabilities of the five most probable classes, by label."""
    result = await request.app.state.client.classify(await image.read(), top_k=5)
    return {prediction.label: prediction.probability for prediction in result.predictions}


@app.exception_handler(ResnetClientError)
async def explain(_: Request, error: ResnetClientError) -> JSONResponse:
    """Answer with the message of the error, and a status that names who can fix it."""
    status = 422 if isinstance(error, ImageError) else 429 if isinstance(error, OverloadedError) else 503
    return JSONResponse({"detail": str(error)}, status)
