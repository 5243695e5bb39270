"""`make audit`: known vulnerabilities of the pinned packages and of Triton, and secrets in the files of the checkout.

Exit codes: 0 nothing was found, 1 something was found, 2 the check could not be made.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from detect_secrets import SecretsCollection
from detect_secrets.settings import default_settings

ROOT = Path(__file__).resolve().parent.parent
CLEAN, FOUND, UNKNOWN = 0, 1, 2

# Has advisories since 2019. A mirror without advisories, or a service that is down for some, answers as if
# all were well; only one that knows this release is believed.
KNOWN_VULNERABLE = "jinja2==2.10"
_TIMEOUT_S = 600

# Options of resnet-serve.
_OPENING = re.compile(r"--unsafe-http-host|--open-apis[= ]\S*(all|shared-memory|model-repository)")

# The hash of the preprocessing config in rendered configurations; it has to look random.
_PREPROCESSING_HASH = re.compile(r'string_value: "[0-9a-f]{64}"')


@dataclasses.dataclass(frozen=True)
class Finding:
    """What was found.

    Attributes:
        text: one line for people; of a secret it holds the place and the kind, never the secret.
        code: ``FOUND`` or ``UNKNOWN``.
    """

    text: str
    code: int = FOUND


def secrets(root: Path) -> Iterator[Finding]:
    """Look for secrets in a checkout, in what is tracked and in what could be added; needs no network."""
    for name in _files(root):
        lines = (root / name).read_text(encoding="utf-8", errors="replace").splitlines()
        collection = SecretsCollection(root=str(root))
        with default_settings() as settings:
            # Would send what it finds to the services it may belong to.
            settings.disable_filters("detect_secrets.filters.common.is_ignored_due_to_verification_policies")
            collection.scan_file(name)
        for _, secret in collection:
            if not (name.endswith("config.pbtxt") and _PREPROCESSING_HASH.search(lines[secret.line_number - 1])):
                yield Finding(f"{name}:{secret.line_number}: {secret.type}")


def _files(root: Path) -> list[str]:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True).stdout
    return sorted(name for name in listed.split("\0") if name and (root / name).is_file())


def triton(root: Path, tag: str | None) -> Iterator[Finding]:
    """Compare the tritonserver of the wheel, and the container's, with the table of advisories.

    Args:
        root: the checkout.
        tag: the container's tag; None for the default of docker-compose.yml.
    """
    table = tomllib.loads((root / ".ci/triton_advisories.toml").read_text(encoding="utf-8"))
    version = _only(root / "constraints.txt", r"^nvidia-pytriton==(\S+)$")
    embedded = table["nvidia-pytriton"].get(version)
    if embedded is None:
        yield Finding(
            f"nvidia-pytriton {version}: its Triton release is missing in .ci/triton_advisories.toml", UNKNOWN
        )
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


def _known(server: str, table: dict[str, Any]) -> Iterator[Finding]:
    for advisory in table["advisory"]:
        yield Finding(f"{server}: {advisory['id']}: {advisory['effect']}")


def advisories(pins: Path, service: str) -> Iterator[Finding]:
    """Ask an advisory service for all that is pinned."""
    try:
        _check(service)
        lines = pins.read_text(encoding="utf-8").splitlines()
        entries = _asked([line for line in lines if line and not line.startswith("#")], service)
    except ValueError as exc:
        yield Finding(
            f"known vulnerabilities are unknown: the advisory service {service!r} cannot be reached ({exc}). Try "
            "make audit ADVISORIES=osv, or another network",
            UNKNOWN,
        )
        return
    for entry in entries:
        name = f"{entry['name']} {entry.get('version', '')}".strip()
        if reason := entry.get("skip_reason"):
            yield Finding(f"{name}: not checked: {reason}", UNKNOWN)
        for found in entry.get("vulns", []):
            fixed = ", ".join(found["fix_versions"]) or "no release yet"
            yield Finding(f"{name}: {found['id']}; fixed in {fixed}")


def _check(service: str) -> None:
    """Raise ValueError where a service does not know what is known to all."""
    if not any(entry.get("vulns") for entry in _asked([KNOWN_VULNERABLE], service)):
        raise ValueError(f"it knows of no vulnerability in {KNOWN_VULNERABLE}, which has several")


def _asked(pins: Iterable[str], service: str) -> list[dict[str, Any]]:
    """Ask pip-audit; raises ValueError where it has no answer."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text("\n".join(pins), encoding="utf-8")
        command = [sys.executable, "-m", "pip_audit", "--requirement", requirements, "--no-deps", "--disable-pip"]
        command += ["--format", "json", "--progress-spinner", "off", "--vulnerability-service", service]
        try:
            # It also ends with 1 when it found something.
            ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_TIMEOUT_S)
        except subprocess.TimeoutExpired as exc:
            raise ValueError(f"no answer within {_TIMEOUT_S} s") from exc
    try:
        entries: list[dict[str, Any]] = json.loads(ended.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError) as exc:
        raise ValueError((ended.stderr.strip() or "no answer").splitlines()[-1]) from exc
    return entries


def main(argv: list[str] | None = None) -> int:
    """Look for both, print what was found, and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--advisories", choices=("pypi", "osv"), default="pypi", help="advisory service")
    options = parser.parse_args(argv)
    worst = CLEAN
    for title, findings in (
        ("secrets", secrets(ROOT)),
        ("Triton", triton(ROOT, os.environ.get("TRITON_TAG"))),
        ("vulnerabilities", advisories(ROOT / "constraints.txt", options.advisories)),
    ):
        found = list(findings)
        print(f"{title}: " + ("none" if not found else ""))
        for finding in found:
            print(f"  {finding.text}")
        worst = max([worst, *(finding.code for finding in found)])
    return worst


if __name__ == "__main__":
    sys.exit(main())
