"""The web page: its own server asked directly, and the page in a real browser."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from resnet_serve import TritonServer
from resnet_serve.ports import free_ports

from .conftest import EXAMPLES

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
SHOTS = os.environ.get("RESNET_SCREENSHOTS", "")

DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""


@pytest.fixture(scope="module")
def port(server: TritonServer) -> Iterator[int]:
    """The example's own server, connected to the real one."""
    (port,) = free_ports("127.0.0.1", 1)
    command = [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES / "web"), "app:app", "--port", str(port)]
    environment = {**os.environ, "RESNET_URL": server.grpc_url}
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if "Uvicorn running" in line:
                break
        yield port
        process.terminate()
        process.communicate(timeout=30)


def ask(port: int, body: bytes) -> tuple[int, dict]:
    """Post a photo."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=60)) as connection:
        connection.request("POST", "/classify", body)
        response = connection.getresponse()
        return response.status, json.load(response)


def test_a_photo_is_answered(port: int, photos: dict[str, Path]) -> None:
    """Five classes, the best first; what is no photo gets a sentence, what is too long is not read to its end."""
    status, found = ask(port, photos["cat"].read_bytes())
    assert status == 200
    assert found["predictions"][0]["label"] == "Egyptian cat"
    assert len(found["predictions"]) == 5
    status, found = ask(port, b"no photo")
    assert (status, list(found)) == (422, ["error"])
    assert ask(port, bytes(17 * 2**20))[0] == 413


@pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium here (Debian: apt-get install chromium)")
def test_the_page_takes_a_photo_by_drag_and_drop(port: int, photos: dict[str, Path]) -> None:
    """In a real browser: bars for the classes, the widest first; then a sentence for what is no photo."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 760, "height": 820})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"http://127.0.0.1:{port}/")
        drop(page, "cat.png", photos["cat"].read_bytes())
        page.wait_for_selector("#classes li")
        names = page.locator("#classes li span:first-child").all_text_contents()
        widths = [box["width"] for bar in page.locator(".bar").all() if (box := bar.bounding_box())]
        screenshot(page, "cat")
        drop(page, "notes.txt", b"no photo")
        page.wait_for_selector("#error:not(:empty)")
        assert page.locator("#classes li").count() == 0
        screenshot(page, "no-photo")
        browser.close()
    assert names[0] == "Egyptian cat"
    assert len(names) == len(widths) == 5
    assert widths == sorted(widths, reverse=True)
    assert not problems


def drop(page: object, name: str, content: bytes) -> None:
    """Drop a file onto the page."""
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])


def screenshot(page: object, name: str) -> None:
    """Keep what is seen, where somebody wants to look at it."""
    if SHOTS:
        page.screenshot(path=str(Path(SHOTS) / f"{name}.png"))
