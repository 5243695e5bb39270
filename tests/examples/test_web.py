"""The web page in a real browser, with the gateway behind it."""

from __future__ import annotations

import base64
import contextlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from gateway import running
from resnet_serve import TritonServer

from .conftest import EXAMPLES

PAGE = EXAMPLES / "web/index.html"

DROP = """([name, content]) => {
  const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
  const data = new DataTransfer();
  data.items.add(new File([bytes], name));
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: data, bubbles: true }));
}"""


@contextlib.contextmanager
def served() -> Iterator[str]:
    """Serve the page as the README does; yields its origin."""
    command = [sys.executable, "-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", str(PAGE.parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        found = re.search(r"http://[0-9.:]+", process.stdout.readline())
        try:
            yield found[0]
        finally:
            process.terminate()


def test_the_page_loads_nothing_from_elsewhere() -> None:
    """One file; the only address in it is the gateway's."""
    page = PAGE.read_text()
    assert "http://localhost:8080" in page
    assert not re.search(r"<script[^>]+src|<link[^>]+https?:|@import|url\(", page)


def test_the_page_takes_an_image_by_drag_and_drop(
    server: TritonServer, images: dict[str, Path], tmp_path: Path, browser: Any
) -> None:
    """In a real browser: bars for the classes, the widest first; a message for what is no image; not elsewhere."""
    with (
        served() as origin,
        served() as foreign,
        running(server.grpc_url, tmp_path / "log", f"--allowed-origins={origin}") as gateway,
    ):
        page = browser.new_page(viewport={"width": 760, "height": 820})
        problems: list[str] = []
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.goto(f"{origin}/?gateway=http://127.0.0.1:{gateway.port}")
        drop(page, "cat.png", images["cat"].read_bytes())
        page.wait_for_selector("#classes li")
        names = page.locator("#classes li span:first-child").all_text_contents()
        widths = [box["width"] for bar in page.locator(".bar").all() if (box := bar.bounding_box())]
        drop(page, "notes.txt", b"no image")
        page.wait_for_selector("#error:not(:empty)")
        assert page.locator("#classes li").count() == 0
        page.goto(f"{foreign}/?gateway=http://127.0.0.1:{gateway.port}")
        drop(page, "cat.png", images["cat"].read_bytes())
        page.wait_for_selector("#error:not(:empty)")
        assert f"does not allow pages of {foreign}" in page.locator("#error").text_content()
        log = gateway.log.read_text()
    assert names[0] == "Egyptian cat"
    assert len(names) == len(widths) == 5
    assert widths == sorted(widths, reverse=True)
    assert not problems
    assert '"POST /v1/classify HTTP/1.1" 403' in log


def drop(page: Any, name: str, content: bytes) -> None:
    """Drop a file onto the page."""
    page.evaluate(DROP, [name, base64.b64encode(content).decode()])
