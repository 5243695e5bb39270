"""`make screenshots`: the images of README.md, of a short load test and of classified images on the real server.

The server's address is in RESNET_URL. Headless Chromium draws the pages.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from PIL import Image
from resnet_client.example_images import everyday

_IMAGES = Path(__file__).parent / "images"
_WIDTH = 1280  # pixels
_SHOWN_WIDTH = 960


def main() -> None:
    """Make all screenshots.

    Raises:
        SystemExit: Chromium is not installed, or the load test could not run.
    """
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("Chromium is not installed: on Debian, apt-get install chromium")
    free = [str(path) for path in everyday() if "skimage" in path.parts]  # CC0 or public domain
    load = ["--profile=steps", "--rate=auto", "--duration=60s", "--slo=p99<=2s,error_rate<=0.1%", "--name=load-test"]
    with tempfile.TemporaryDirectory() as folder:
        _run("resnet-loadtest", "run", *load, "--out", folder)
        _run("resnet-client", "classify", *free, "--html", f"{folder}/classify.html")
        for name, height in (("load-test", 1120), ("classify", 470)):
            page, shot = Path(folder, f"{name}.html").as_uri(), Path(folder, f"{name}.png")
            options = ["--headless", "--no-sandbox", "--hide-scrollbars", f"--window-size={_WIDTH},{height}"]
            subprocess.run([chromium, *options, f"--screenshot={shot}", page], check=True, timeout=120)
            _shrink(shot, _IMAGES / f"{name}.webp")


def _run(command: str, *options: str) -> None:
    ended = subprocess.run([Path(sys.executable).with_name(command), *options], check=False, timeout=300)
    if ended.returncode > 1:  # 1 is the verdict FAIL
        sys.exit(ended.returncode)


def _shrink(shot: Path, path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    with Image.open(shot) as image:
        image.thumbnail((_SHOWN_WIDTH, image.height))
        image.save(path, "WEBP", quality=85, method=6)


if __name__ == "__main__":
    main()
