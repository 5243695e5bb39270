"""For any config and any options, the server part returns a value or raises one of its own errors."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from resnet_serve import ServerConfig, ServerError, access

from .conftest import TritonModelException

TEXT = st.text(max_size=30) | st.sampled_from(["\x00", "9" * 5000, "nan", "true", "False", " 1 ", "-1", "٣", "\r\n"])


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version's folder with an artifact."""
    folder = tmp_path_factory.mktemp("network") / "1"
    folder.mkdir()
    (folder / "model.onnx").touch()
    return folder


def arguments(version: Path, parameters: dict[str, str]) -> dict[str, str]:
    """The arguments that Triton passes to a model; Triton has parsed the config, so only texts vary."""
    config = {
        "input": [{"name": "PIXELS__0"}],
        "output": [{"name": "PROBABILITIES__0"}],
        "max_batch_size": 32,
        "parameters": {name: {"string_value": text} for name, text in parameters.items()},
    }
    return {"model_config": json.dumps(config), "model_repository": str(version.parent), "model_version": version.name}


@given(st.dictionaries(st.sampled_from(["threads", "flag", "other"]) | TEXT, TEXT, max_size=3))
@example({"threads": "9" * 5000})
def test_model_config_reads_parameters(
    import_backend: Callable[[str], Any], version: Path, parameters: dict[str, str]
) -> None:
    """A parameter is a number, a flag, or refused by its name."""
    config = import_backend("network_backend").ModelConfig(
        arguments(version, parameters), default_filename="model.onnx"
    )
    for read, name, kind in (
        (config.number, "threads", int),
        (lambda n, _: config.flag(n, default=False), "flag", bool),
    ):
        try:
            assert isinstance(read(name, 0), kind)
        except TritonModelException as exc:
            refusal = str(exc)
            assert name in refusal


@given(TEXT | st.text("abcXYZ0189._~-:,= ", max_size=40))
@example("a" * 16 + "\n")
@example("a" * 16 + ",trace:x=y")
def test_admin_token_is_one_or_refused(token: str) -> None:
    """A token that Triton's flags cannot carry is refused, and not printed; no object shows one."""
    config = ServerConfig("models", admin_token=token)
    assert not token or len(token) < 8 or token not in repr(config)
    try:
        found = access.admin_token(config)
    except ServerError as exc:
        refusal = str(exc)
        assert len(token) < 8 or token not in refusal
        return
    assert re.fullmatch(r"[\w.~-]{16,}", found, re.ASCII)
