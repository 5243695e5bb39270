"""The admin token and TLS, from the flags to the wire."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
import trustme
from resnet_serve.watchdog import Api
from tritonclient.grpc import service_pb2

WAIT_S = 60
SERVICE = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"].full_name


def models_over_grpc(channel: grpc.Channel, token: str) -> list[str]:
    """Ask for the repository's models, which only the token opens."""
    index = channel.unary_unary(
        f"/{SERVICE}/RepositoryIndex",
        service_pb2.RepositoryIndexRequest.SerializeToString,
        service_pb2.RepositoryIndexResponse.FromString,
    )
    answer = index(
        service_pb2.RepositoryIndexRequest(),
        metadata=(("triton-grpc-protocol-admin-key", token),),
        timeout=WAIT_S,
        wait_for_ready=True,
    )
    return [model.name for model in answer.models]


def test_a_token_file_is_made_and_read(
    serving: Callable, one_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only its owner can read it; the next start reads it; the token is in no output and no log, however verbose."""
    monkeypatch.delenv("RESNET_ADMIN_TOKEN")
    file, tokens = tmp_path / "token", []
    for _ in range(2):
        with serving(one_model, "--admin-token-file", str(file), "--", "--log-verbose=1") as running:
            token = file.read_text().strip()
            tokens.append(token)
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            with pytest.raises(OSError, match="403"):
                Api(running.url("HTTP"), "").request("v2/repository/index", {})
            assert Api(running.url("HTTP"), token).request("v2/repository/index", {})[0]["name"] == "preprocess"
            with grpc.insecure_channel(running.url("gRPC").removeprefix("grpc://")) as channel:
                assert models_over_grpc(channel, token) == ["preprocess"]
            printed = "\n".join([*running.lines, running.stderr.read_text(), running.log.read_text()])
            assert token not in printed
    assert tokens[0] == tokens[1]


def test_workers_do_not_see_the_token(serving: Callable, one_model: Path) -> None:
    """Neither the server's environment nor that of the models' code holds it."""
    with serving(one_model) as running:
        for pid in (running.server, running.worker):
            assert os.environ["RESNET_ADMIN_TOKEN"] not in Path(f"/proc/{pid}/environ").read_text()


def test_an_unfit_token_is_one_sentence(run: Callable, one_model: Path, tmp_path: Path) -> None:
    """Exit code 3 and the rule, but not the token."""
    file = tmp_path / "token"
    file.write_text("too:short\n")
    result = run(one_model, "--port", "0", "--admin-token-file", str(file))
    assert result.returncode == 3
    assert "16 or more letters" in result.stderr
    assert "too:short" not in result.stderr


@pytest.fixture
def authority(tmp_path: Path) -> trustme.CA:
    """Signs certificates; its own lies in ``ca.pem``, the server's in ``certificate.pem``, and ``key.pem``."""
    made = trustme.CA()
    made.cert_pem.write_to_path(tmp_path / "ca.pem")
    issued = made.issue_cert("localhost", "127.0.0.1")
    issued.private_key_pem.write_to_path(tmp_path / "key.pem")
    issued.cert_chain_pems[0].write_to_path(tmp_path / "certificate.pem")
    return made


@pytest.mark.parametrize("is_mutual", [False, True], ids=["TLS", "mutual TLS"])
def test_grpc_with_tls(
    serving: Callable, one_model: Path, authority: trustme.CA, tmp_path: Path, is_mutual: bool
) -> None:
    """With TLS, gRPC speaks nothing else; HTTP and metrics, which cannot, stay on this machine and say so."""
    flags = ["--tls-certificate", str(tmp_path / "certificate.pem"), "--tls-key", str(tmp_path / "key.pem")]
    flags += ["--tls-client-ca", str(tmp_path / "ca.pem")] if is_mutual else []
    caller = authority.issue_cert("caller@example.org")
    own = {"private_key": caller.private_key_pem.bytes(), "certificate_chain": caller.cert_chain_pems[0].bytes()}
    trusted = authority.cert_pem.bytes()
    with serving(one_model, "--host", "0.0.0.0", *flags) as running:  # noqa: S104  # what TLS is for
        assert running.url("gRPC").startswith("grpcs://0.0.0.0:")
        for name in ("HTTP", "metrics"):
            assert running.url(name).startswith("http://127.0.0.1:")
        assert sum("no TLS here, so for this machine only" in line for line in running.lines) == 2
        address = running.url("gRPC").replace("grpcs://0.0.0.0", "localhost")
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted, **own)) as channel:
            assert models_over_grpc(channel, os.environ["RESNET_ADMIN_TOKEN"]) == ["preprocess"]
        with grpc.secure_channel(address, grpc.ssl_channel_credentials(trusted)) as channel:
            live = channel.unary_unary(f"/{SERVICE}/ServerLive")
            if is_mutual:
                with pytest.raises(grpc.RpcError):
                    live(b"", timeout=WAIT_S)
            else:
                live(b"", timeout=WAIT_S)
        with grpc.insecure_channel(address) as channel, pytest.raises(grpc.RpcError):
            channel.unary_unary(f"/{SERVICE}/ServerLive")(b"", timeout=WAIT_S)


def test_certificates_are_checked_before_the_start(
    run: Callable, one_model: Path, authority: trustme.CA, tmp_path: Path
) -> None:
    """Exit code 3 and a sentence that names the flag."""
    certificate, key, other = tmp_path / "certificate.pem", tmp_path / "key.pem", tmp_path / "other.pem"
    authority.issue_cert("localhost").private_key_pem.write_to_path(other)
    for flags, sentence in (
        (("--tls-certificate", certificate), "belong together"),
        (("--tls-client-ca", tmp_path / "ca.pem"), "--tls-client-ca needs"),
        (("--tls-certificate", certificate, "--tls-key", tmp_path / "none.pem"), "none.pem cannot be read: No such"),
        (("--tls-certificate", certificate, "--tls-key", other), "do not fit"),
        (("--tls-certificate", certificate, "--tls-key", key, "--tls-client-ca", key), "--tls-client-ca"),
    ):
        result = run(one_model, "--port", "0", *map(str, flags))
        assert result.returncode == 3, flags
        assert sentence in result.stderr
