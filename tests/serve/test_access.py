"""The admin token and TLS: what is refused before the start, and what is closed on the wire."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme
from cryptography.hazmat.primitives import serialization
from resnet_client import ClientConfig
from resnet_client.admin import ModelControl
from resnet_serve import ServerConfig, ServerError, access
from resnet_serve.config import APIS
from resnet_serve.watchdog import Api
from tritonclient.grpc import service_pb2

TOKEN = "0123456789abcdef"  # noqa: S105  # opens nothing
WAIT_S = 60
LIVE = f"/{service_pb2.DESCRIPTOR.services_by_name['GRPCInferenceService'].full_name}/ServerLive"


def test_admin_token_is_argument_environment_or_new(monkeypatch: pytest.MonkeyPatch) -> None:
    """In this order; a new one is another for each server."""
    monkeypatch.setenv("RESNET_ADMIN_TOKEN", TOKEN[::-1])
    assert access.admin_token(ServerConfig("models", admin_token=TOKEN)) == TOKEN
    assert access.admin_token(ServerConfig("models")) == TOKEN[::-1]
    monkeypatch.delenv("RESNET_ADMIN_TOKEN")
    assert access.admin_token(ServerConfig("models")) != access.admin_token(ServerConfig("models"))


def test_token_from_makes_the_file_once(tmp_path: Path) -> None:
    """Only its owner can read it."""
    token = access.token_from(tmp_path / "token")
    assert access.token_from(tmp_path / "token") == token
    assert stat.S_IMODE((tmp_path / "token").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("missing/token", None, "missing/token cannot be created"),
        (".", None, "cannot be read"),
        ("binary", b"\xff" * 20, "binary cannot be read"),
        ("short", b"too:short", "16 or more letters"),
    ],
)
def test_token_from_refuses_a_file_without_a_token(
    tmp_path: Path, name: str, content: bytes | None, message: str
) -> None:
    """The message names the path or the rule, but not the content."""
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ServerError, match=message) as caught:
        access.token_from(tmp_path / name)
    assert "too:short" not in str(caught.value)


def test_config_closes_what_is_not_open() -> None:
    """All but health and inference can be closed."""
    assert ServerConfig("models").closed_apis == ("model-repository", "shared-memory", "trace", "logging")
    assert ServerConfig("models", open_apis=APIS).closed_apis == ()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Files: an authority, a server's certificate and key that it has issued, and a client's; one has a passphrase."""
    authority, folder = trustme.CA(), tmp_path_factory.mktemp("tls")
    issued = authority.issue_cert("localhost", "127.0.0.1")
    key = serialization.load_pem_private_key(issued.private_key_pem.bytes(), None)
    passphrase = serialization.BestAvailableEncryption(b"secret")
    contents = {
        "ca": authority.cert_pem.bytes(),
        "certificate": issued.cert_chain_pems[0].bytes(),
        "key": issued.private_key_pem.bytes(),
        "locked": key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, passphrase),
        "client": authority.issue_cert("caller@example.org").private_key_and_cert_chain_pem.bytes(),
    }
    for name, content in contents.items():
        (folder / f"{name}.pem").write_bytes(content)
    return {name: folder / f"{name}.pem" for name in (*contents, "missing")}


@pytest.mark.parametrize(
    ("certificate", "key", "client_ca", "message"),
    [
        ("certificate", None, None, "require each other"),
        (None, None, "ca", "--tls-client-ca needs"),
        ("certificate", "missing", None, "missing.pem cannot be read: No such"),
        ("certificate", "client", None, "are invalid or do not match"),
        ("certificate", "key", "key", "--tls-client-ca .* is not a PEM file of certificates"),
        ("certificate", "locked", None, "passphrase"),
    ],
)
def test_check_refuses_certificates_that_do_not_fit(
    pem: dict[str, Path], certificate: str | None, key: str | None, client_ca: str | None, message: str
) -> None:
    """The message names the option; a passphrase could be typed by no person."""
    given = {"tls_certificate": certificate, "tls_key": key, "tls_client_ca": client_ca}
    with pytest.raises(ServerError, match=message):
        access.check(ServerConfig("models", **{option: name and pem[name] for option, name in given.items()}))


def test_token_file_opens_the_server(
    serving: Callable, one_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over HTTP and gRPC; the token is in no output and no log, however verbose, and no worker sees it."""
    monkeypatch.delenv("RESNET_ADMIN_TOKEN")
    with serving(one_model, "--admin-token-file", str(tmp_path / "token"), "--", "--log-verbose=1") as running:
        token = (tmp_path / "token").read_text().strip()
        with pytest.raises(OSError, match="403"):
            Api(running.url("HTTP"), "").request("v2/repository/index", {})
        assert Api(running.url("HTTP"), token).request("v2/repository/index", {})[0]["name"] == "preprocess"
        with ModelControl(ClientConfig(running.url("gRPC"), admin_token=token)) as control:
            assert [entry.model for entry in control.index()] == ["preprocess"]
        printed = "\n".join([*running.lines, running.errors.read_text(), running.log.read_text()])
        assert "HTTP request" in printed
        assert token not in printed
        for pid in (running.server, *running.workers):
            assert token not in Path(f"/proc/{pid}/environ").read_text()


@pytest.mark.parametrize("is_mutual", [False, True], ids=["TLS", "mutual TLS"])
def test_tls_certificate_encrypts_grpc(
    serving: Callable, one_model: Path, pem: dict[str, Path], is_mutual: bool
) -> None:
    """GRPC then speaks nothing else; HTTP and metrics, which cannot, stay on this machine."""
    flags = ["--tls-certificate", str(pem["certificate"]), "--tls-key", str(pem["key"])]
    flags += ["--tls-client-ca", str(pem["ca"])] if is_mutual else []
    with serving(one_model, "--host", "0.0.0.0", *flags) as running:  # noqa: S104  # what TLS is for
        assert running.url("gRPC").startswith("grpcs://0.0.0.0:")
        for name in ("HTTP", "metrics"):
            assert running.url(name).startswith("http://127.0.0.1:")
        url = running.url("gRPC").replace("0.0.0.0", "localhost")  # noqa: S104  # likewise
        config = ClientConfig(
            url, ca_certificate=pem["ca"], client_certificate=pem["client"], client_key=pem["client"],
            admin_token=os.environ["RESNET_ADMIN_TOKEN"],
        )  # fmt: skip
        with ModelControl(config) as control:
            assert [entry.model for entry in control.index()] == ["preprocess"]
        address = url.removeprefix("grpcs://")
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(pem["ca"].read_bytes())) as channel:
            live = channel.unary_unary(LIVE)
            if is_mutual:
                with pytest.raises(grpc.RpcError):
                    live(b"", timeout=WAIT_S)
            else:
                live(b"", timeout=WAIT_S)
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(LIVE)(b"", timeout=WAIT_S)
