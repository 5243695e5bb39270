"""`make audit` and `make lint`: secrets, vulnerabilities and pickles are found."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import pytest
from resnet_serve import installation

ROOT = Path(__file__).resolve().parent.parent
CANARY = "jinja2==2.10"
HASH = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef"  # pragma: allowlist secret
# Put together here, so that this file holds no secret itself.
AWS_KEY_ID = "AKIA" + "Z7QK3RV5WX2MB6NT"
# In place of pip-audit: fails if the file has a line with this text.
PIP_AUDIT = """#!/bin/sh
for file; do :; done
! grep -q -e '{known}' "$file"
"""

Audit = Callable[[str], subprocess.CompletedProcess[str]]


@pytest.fixture
def audit(tmp_path: Path) -> Audit:
    """Run ``make audit`` in a new git repository, with an advisory service that knows one vulnerable package."""
    commands = tmp_path / "bin"
    commands.mkdir()
    (commands / "detect-secrets-hook").symlink_to(Path(sys.executable).with_name("detect-secrets-hook"))
    (commands / "python").symlink_to("/bin/true")
    (tmp_path / ".gitignore").write_text("bin\nprivate.py\n")
    (tmp_path / "constraints.txt").write_text("a==1\nb==2\n")
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)

    def run(known: str) -> subprocess.CompletedProcess[str]:
        (commands / "pip-audit").write_text(PIP_AUDIT.format(known=known))
        (commands / "pip-audit").chmod(0o755)
        command = ["make", "-f", str(ROOT / "Makefile"), "-o", "install", "audit", "BIN=bin", "VENV=bin", "SOURCES="]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    return run


def test_audit_finds_a_secret(audit: Audit, tmp_path: Path) -> None:
    """Not in ignored files, and not in the hash of a preprocessing config; the report does not repeat it."""
    (tmp_path / "private.py").write_text(f"key = '{AWS_KEY_ID}'")
    (tmp_path / "config.pbtxt").write_text(f'    string_value: "{HASH}"\n')
    assert audit(CANARY).returncode == 0
    (tmp_path / "settings.py").write_text(f"\n\nkey = '{AWS_KEY_ID}'\n")
    failed = audit(CANARY)
    assert failed.returncode != 0
    assert "settings.py:3" in failed.stdout
    assert AWS_KEY_ID not in failed.stdout


@pytest.mark.parametrize(("known", "message"), [("b==2", "knows no vulnerability of jinja2 2.10"), ("==", "Error 1")])
def test_audit_needs_a_service_with_advisories(audit: Audit, known: str, message: str) -> None:
    """It fails if a package is vulnerable, or if the service does not know what all others know."""
    failed = audit(known)
    assert failed.returncode != 0
    assert message in failed.stderr


@pytest.fixture(scope="module")
def advisories() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("triton_advisories", ROOT / ".ci/triton_advisories.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def servers(tmp_path: Path) -> Path:
    """A checkout with what decides which server runs and who reaches it."""
    for name in (".ci/triton_advisories.toml", "constraints.txt", "docker-compose.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


def test_audit_triton_accepts_the_checkout(advisories: ModuleType, servers: Path) -> None:
    """The wheel's server has known vulnerabilities, but only loopback reaches them; the container's is newer."""
    assert list(advisories.findings(servers, None)) == []


@pytest.mark.parametrize("option", ["--unsafe-http-host=0.0.0.0", "--open-apis=shared-memory", "--open-apis all"])
def test_audit_triton_finds_an_opened_embedded_server(advisories: ModuleType, servers: Path, option: str) -> None:
    """If a port is opened, each vulnerability is reported with the place that opens it."""
    compose = servers / "docker-compose.yml"
    compose.write_text(f"{compose.read_text()}      - {option}\n")
    found = list(advisories.findings(servers, None))
    assert len(found) == (servers / ".ci/triton_advisories.toml").read_text().count("[[advisory]]")
    place = f"docker-compose.yml:{len(compose.read_text().splitlines())}"
    assert all("Triton 24.10" in text and place in text for text in found)


def test_audit_triton_finds_an_old_container(advisories: ModuleType, servers: Path) -> None:
    """Whether the tag is the default or comes from the environment."""
    assert "use 26.09-py3 or newer" in next(advisories.findings(servers, "26.03-py3"))
    compose = servers / "docker-compose.yml"
    compose.write_text(compose.read_text().replace("TRITON_TAG:-26.11-py3", "TRITON_TAG:-25.06-py3"))
    assert "TRITON_TAG 25.06-py3" in next(advisories.findings(servers, None))
    assert list(advisories.findings(servers, "26.10-py3")) == []


def test_audit_triton_wants_each_wheel_in_the_table(advisories: ModuleType, servers: Path) -> None:
    """An unknown wheel does not count as safe."""
    pins = servers / "constraints.txt"
    pins.write_text(pins.read_text().replace("nvidia-pytriton==0.7.0", "nvidia-pytriton==9.9.9"))
    (found,) = advisories.findings(servers, None)
    assert "9.9.9" in found


def test_audit_table_names_the_embedded_release() -> None:
    """The table has the release that the installed wheel contains."""
    table = tomllib.loads((ROOT / ".ci/triton_advisories.toml").read_text())
    assert table["nvidia-pytriton"][version("nvidia-pytriton")] in installation.RELEASE


@pytest.mark.parametrize(
    "code",
    [
        "import pickle",
        "from pickle import loads",
        "import joblib",
        "import marshal",
        "import torch\ntorch.load('x.pth')",
    ],
)
def test_pickles_are_refused_by_the_linter(code: str) -> None:
    """Lint fails if code is added that can run code from a file."""
    command = [sys.executable, "-m", "ruff", "check", "--select", "TID251", "--stdin-filename", "build/new.py", "-"]
    checked = subprocess.run(command, input=f"{code}\n", cwd=ROOT, capture_output=True, text=True, check=False)
    assert checked.returncode == 1
    assert "TID251" in checked.stdout
