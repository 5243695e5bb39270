"""What is refused before a server starts: tokens, names of APIs, certificates."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trustme
from resnet_serve import ServerConfig, ServerError, access, flags
from resnet_serve.config import APIS

TOKEN = "0123456789abcdef"  # noqa: S105  # opens nothing


def test_precedence_of_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """Argument, environment, and a new one for each server."""
    monkeypatch.setenv("RESNET_ADMIN_TOKEN", TOKEN[::-1])
    assert access.admin_token(ServerConfig("models", admin_token=TOKEN)) == TOKEN
    assert access.admin_token(ServerConfig("models")) == TOKEN[::-1]
    monkeypatch.delenv("RESNET_ADMIN_TOKEN")
    assert access.admin_token(ServerConfig("models")) != access.admin_token(ServerConfig("models"))


def test_a_token_file_that_cannot_be_used_is_told(tmp_path: Path) -> None:
    """The message names the path."""
    for path in (tmp_path / "missing/token", tmp_path):
        with pytest.raises(ServerError, match=str(path)):
            access.token_from(path)
    (tmp_path / "binary").write_bytes(b"\xff" * 20)
    with pytest.raises(ServerError, match="binary cannot be read"):
        access.token_from(tmp_path / "binary")


def test_unknown_apis_are_told() -> None:
    """With those that there are."""
    with pytest.raises(ServerError, match=r"'doors' cannot be opened.*metadata, model-config"):
        access.check(ServerConfig("models", open_apis=("doors",)))


def test_open_and_closed_apis_are_all() -> None:
    """What is not open is closed; metrics are for this machine only where nothing is open."""
    assert ServerConfig("models").closed_apis == tuple(api for api in APIS if api not in {"metadata", "model-config"})
    assert ServerConfig("models", open_apis=APIS).closed_apis == ()
    assert ServerConfig("models", host="192.0.2.1").metrics_host == "192.0.2.1"
    assert ServerConfig("models", host="192.0.2.1", open_apis=()).metrics_host == "127.0.0.1"


def test_a_passphrase_is_refused(tmp_path: Path) -> None:
    """Nobody is there to type it."""
    issued = trustme.CA().issue_cert("localhost")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    issued.private_key_pem.write_to_path(tmp_path / "plain.pem")
    command = ["openssl", "rsa", "-aes256", "-passout", "pass:secret", "-in", "plain.pem", "-out", "key.pem"]
    if "EC PRIVATE" in (tmp_path / "plain.pem").read_text():
        command[1] = "ec"
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    config = ServerConfig("models", tls_certificate=tmp_path / "certificate.pem", tls_key=tmp_path / "key.pem")
    with pytest.raises(ServerError, match="passphrase"):
        access.check(config)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ((), ["--model-control-mode=explicit", "--load-model=*"]),
        (("--load-model=resnet50",), ["--model-control-mode=explicit", "--load-model=resnet50"]),
        (("--model-control-mode=none",), ["--model-control-mode=none"]),
    ],
)
def test_models_can_be_loaded_unless_the_caller_decides_otherwise(given: tuple[str, ...], expected: list[str]) -> None:
    """Flags passed through win."""
    found = flags.of_server(ServerConfig("models", triton_args=given), Path("/models"), Path("/f"), [1, 2, 3])
    assert [flag for flag in found if flag.startswith(("--model-control", "--load-model"))] == expected
