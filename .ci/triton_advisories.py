"""Part of `make audit`: known vulnerabilities of Triton, which no scanner finds in a wheel or a container's tag."""

from __future__ import annotations

import os
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent

# Options of resnet-serve.
_OPENING = re.compile(r"--unsafe-http-host|--open-apis[= ]\S*(all|shared-memory|model-repository)")


def findings(root: Path, tag: str | None) -> Iterator[str]:
    """Compare the tritonserver of the wheel, and the container's, with the table of advisories.

    Args:
        root: the checkout.
        tag: the container's tag; None for the default of docker-compose.yml.
    """
    table = tomllib.loads((root / ".ci/triton_advisories.toml").read_text(encoding="utf-8"))
    version = _only(root / "constraints.txt", r"^nvidia-pytriton==(\S+)$")
    embedded = table["nvidia-pytriton"].get(version)
    if embedded is None:
        yield f"nvidia-pytriton {version}: its Triton release is missing in .ci/triton_advisories.toml"
    # In the wheel's server, only HTTP and the APIs that resnet-serve closes are vulnerable, so loopback is enough.
    elif embedded < table["oldest_safe"] and (opened := list(_opened(root))):
        yield from _known(f"nvidia-pytriton {version} (Triton {embedded}), opened in {', '.join(opened)}", table)
    tag = tag or _only(root / "docker-compose.yml", r"TRITON_TAG: \$\{TRITON_TAG:-([^}]+)\}")
    if tag < table["oldest_safe"]:
        yield from _known(f"TRITON_TAG {tag} (use {table['oldest_safe']}-py3 or newer)", table)


def _only(file: Path, pattern: str) -> str:
    return re.findall(pattern, file.read_text(encoding="utf-8"), re.MULTILINE)[0]


def _opened(root: Path) -> Iterator[str]:
    """Yield the places that open the HTTP port of the wheel's server, or an administrator's API, to the network."""
    for file in (root / "docker-compose.yml", *sorted((root / "deploy").rglob("*.*"))):
        for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
            if _OPENING.search(line):
                yield f"{file.relative_to(root)}:{number}"


def _known(server: str, table: dict[str, Any]) -> Iterator[str]:
    for advisory in table["advisory"]:
        yield f"{server}: {advisory['id']}: {advisory['effect']}"


if __name__ == "__main__":
    sys.exit("\n".join(findings(ROOT, os.environ.get("TRITON_TAG"))) or None)
