"""A web page that takes a photo by drag and drop and shows its classes as bars.

    uvicorn --app-dir examples/web app:app --port 8080

The server that classifies is the one in ``RESNET_URL``. One ``AsyncClient`` serves all visitors.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.responses import FileResponse, JSONResponse
from resnet_client import AsyncClient, ImageError, OverloadedError, ResnetClientError

PAGE = Path(__file__).with_name("page.html")
MOST_BYTES = 16 * 2**20


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """One client for the life of the app."""
    async with AsyncClient() as client:
        app.state.client = client
        yield


app = FastAPI(lifespan=lifespan, title="ResNet-50")


@app.get("/")
async def page() -> FileResponse:
    """The page: one file, nothing from elsewhere."""
    policy = "default-src 'self'; img-src 'self' blob: data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
    return FileResponse(PAGE, headers={"Content-Security-Policy": policy})


@app.post("/classify")
async def classify(request: Request) -> JSONResponse:
    """The photo is the body as it lies on disk; the answer has the five best classes, or a sentence."""
    photo = bytearray()
    async for piece in request.stream():  # refused as soon as it is too long, not when all of it is here
        photo += piece
        if len(photo) > MOST_BYTES:
            return _sentence(413, f"the photo has more than {MOST_BYTES // 2**20} MB")
    client: AsyncClient = request.app.state.client
    try:
        found = await client.classify(bytes(photo))
    except ImageError as exc:
        return _sentence(422, str(exc))
    except OverloadedError:
        return _sentence(503, "too many photos at once; try again")
    except ResnetClientError:
        return _sentence(502, "the server that classifies does not answer")
    return JSONResponse(found.to_dict())


def _sentence(status: int, text: str) -> JSONResponse:
    content: dict[str, Any] = {"error": text}
    return JSONResponse(content, status_code=status)
