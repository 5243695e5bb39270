"""`make audit` and `make lint`: secrets and pickles are found, and a service without advisories is not trusted."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import socket
import subprocess
import sys
import tomllib
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from resnet_serve import installation

ROOT = Path(__file__).resolve().parent.parent

# Put together here, so that this file holds no secret itself.
SECRETS = {
    "AWS Access Key": "key = '" + "AKIA" + "Z7QK3RV5WX2MB6NT" + "'",
    "Private Key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "GitHub Token": "token: " + "ghp_" + "Zk9" * 12,
    "Basic Auth Credentials": "https://someone:" + "Tr0ub4dor" + "@example.org/",
    "Secret Keyword": "RESNET_ADMIN_" + "PASSWORD" + " = 'x9fQ2mLw8vTz'",
}


@pytest.fixture(scope="module")
def audit() -> ModuleType:
    """The script, as a module."""
    spec = importlib.util.spec_from_file_location("audit", ROOT / ".ci/audit.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["audit"] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An empty git repository."""
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    return tmp_path


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every connection fail."""

    def refuse(*_: object) -> None:
        raise AssertionError("the scan asked the network")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.mark.parametrize("kind", list(SECRETS))
@pytest.mark.usefixtures("no_network")
def test_audit_finds_a_secret(audit: ModuleType, checkout: Path, kind: str) -> None:
    """The report has its place and kind, but not the secret itself, and no service is contacted."""
    (checkout / "settings.py").write_text(f"\n\n{SECRETS[kind]}\n")
    texts = [finding.text for finding in audit.secrets(checkout)]
    assert f"settings.py:3: {kind}" in texts
    assert all(SECRETS[kind] not in text for text in texts)


def test_ignored_files_are_not_searched(audit: ModuleType, checkout: Path) -> None:
    """Files that git ignores are not published."""
    (checkout / ".gitignore").write_text("private.py\n")
    (checkout / "private.py").write_text(SECRETS["AWS Access Key"])
    assert list(audit.secrets(checkout)) == []


def test_audit_accepts_the_hash_of_a_preprocess_config(audit: ModuleType, checkout: Path) -> None:
    """It is accepted in rendered configs only."""
    digest = hashlib.sha256(b"preprocessing").hexdigest()
    (checkout / "config.pbtxt").write_text(f'    string_value: "{digest}"\n')
    assert list(audit.secrets(checkout)) == []
    (checkout / "config.pbtxt").write_text(f'    token: "{digest}"\n')
    assert [finding.text for finding in audit.secrets(checkout)] != []


@pytest.fixture
def servers(tmp_path: Path) -> Path:
    """A checkout with what decides which server runs and who reaches it."""
    for name in (".ci/triton_advisories.toml", "constraints.txt", "docker-compose.yml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


def test_audit_triton_accepts_the_checkout(audit: ModuleType, servers: Path) -> None:
    """The wheel's server has known vulnerabilities, but only loopback reaches them; the container's is newer."""
    assert list(audit.triton(servers, None)) == []


@pytest.mark.parametrize("option", ["--unsafe-http-host=0.0.0.0", "--open-apis=shared-memory", "--open-apis all"])
def test_audit_triton_finds_an_opened_embedded_server(audit: ModuleType, servers: Path, option: str) -> None:
    """If a port is opened, each vulnerability is reported with the place that opens it."""
    compose = servers / "docker-compose.yml"
    compose.write_text(f"{compose.read_text()}      - {option}\n")
    found = [finding.text for finding in audit.triton(servers, None)]
    assert len(found) == (servers / ".ci/triton_advisories.toml").read_text().count("[[advisory]]")
    place = f"docker-compose.yml:{len(compose.read_text().splitlines())}"
    assert all("Triton 24.10" in text and place in text for text in found)


def test_audit_triton_finds_an_old_container(audit: ModuleType, servers: Path) -> None:
    """Whether the tag is the default or comes from the environment."""
    assert "use 26.09-py3 or newer" in next(audit.triton(servers, "26.03-py3")).text
    compose = servers / "docker-compose.yml"
    compose.write_text(compose.read_text().replace("TRITON_TAG:-26.11-py3", "TRITON_TAG:-25.06-py3"))
    assert "TRITON_TAG 25.06-py3" in next(audit.triton(servers, None)).text
    assert list(audit.triton(servers, "26.10-py3")) == []


def test_audit_triton_wants_each_wheel_in_the_table(audit: ModuleType, servers: Path) -> None:
    """An unknown wheel does not count as safe."""
    pins = servers / "constraints.txt"
    pins.write_text(pins.read_text().replace("nvidia-pytriton==0.7.0", "nvidia-pytriton==9.9.9"))
    (found,) = audit.triton(servers, None)
    assert (found.code, "9.9.9" in found.text) == (2, True)


def test_audit_table_names_the_embedded_release() -> None:
    """The table has the release that the installed wheel contains."""
    table = tomllib.loads((ROOT / ".ci/triton_advisories.toml").read_text())
    assert table["nvidia-pytriton"][version("nvidia-pytriton")] in installation.RELEASE


# A stand-in for pip-audit: answers by the first line of the requirements.
FAKE = """
import json, sys
answers = {answers!r}
requirements = open(sys.argv[sys.argv.index("--requirement") + 1]).read().splitlines()
answer = answers["canary" if requirements == ["jinja2==2.10"] else "pins"]
if isinstance(answer, str):
    print("Traceback\\n" + answer, file=sys.stderr)
else:
    print(json.dumps({{"dependencies": answer, "fixes": []}}))
sys.exit(1)
"""
KNOWN = [{"name": "jinja2", "version": "2.10", "vulns": [{"id": "PYSEC-2019-217", "fix_versions": ["2.10.1"]}]}]
CLEAN = {"name": "a", "version": "1", "vulns": []}

Answers = dict[str, list[dict[str, Any]] | str]


@pytest.fixture
def ask(audit: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Answers], list[Any]]:
    """Check two pins with a pip-audit that gives these answers."""
    pins = tmp_path / "constraints.txt"
    pins.write_text("a==1\nb==2\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path) + os.pathsep + os.environ.get("PYTHONPATH", ""))

    def findings(answers: Answers) -> list[Any]:
        (tmp_path / "pip_audit.py").write_text(FAKE.format(answers=answers))
        return list(audit.advisories(pins, "pypi"))

    return findings


@pytest.mark.parametrize(
    ("answers", "code", "message"),
    [
        ({"canary": KNOWN, "pins": [CLEAN]}, None, ""),
        ({"canary": "ConnectionError: no route to host"}, 2, "cannot be reached (ConnectionError: no route"),
        (
            {"canary": [{"name": "jinja2", "skip_reason": "not found"}]},
            2,
            "it knows of no vulnerability in jinja2==2.10",
        ),
        ({"canary": KNOWN, "pins": "ConnectionError: gone"}, 2, "cannot be reached (ConnectionError: gone)"),
        ({"canary": KNOWN, "pins": [CLEAN, {"name": "b", "skip_reason": "not found"}]}, 2, "b: not checked: not found"),
        (
            {"canary": KNOWN, "pins": [{"name": "b", "version": "2", "vulns": [{"id": "X-1", "fix_versions": []}]}]},
            1,
            "b 2: X-1; fixed in no release yet",
        ),
    ],
    ids=["clean", "unreachable", "a mirror without advisories", "lost on the way", "one unknown", "vulnerable"],
)
def test_audit_needs_a_service_with_advisories(
    ask: Callable[[Answers], list[Any]], answers: Answers, code: int | None, message: str
) -> None:
    """No answer, a partial answer, or that of a mirror without advisories does not count as "no vulnerabilities"."""
    findings = ask(answers)
    assert [finding.code for finding in findings] == ([] if code is None else [code])
    assert all(message in finding.text for finding in findings)


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
