"""Whatever is put into a parser of the build, it gives a value or refuses with its own message."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from resnet_build import BuildError, checkpoints, default_model, gpu, manifest, weights
from resnet_build.serving_options import DEFAULT_MODELS, ServingOptions
from safetensors.torch import save

TEXT = st.text(max_size=30) | st.sampled_from(["\x00", "9" * 5000, "[" * 5000, "NaN", "1e999", "\ud800"])
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**4000, 224, 256, 8193])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
# Files made by opening, which cost more than texts.
FILES = settings(max_examples=max(30, settings.default.max_examples // 4))


def dumped(value: Any) -> str:
    """JSON without Python's limit to the digits of a number."""
    try:
        return json.dumps(value)
    except ValueError:
        return "1" + "0" * 5000


def attempted(parse: Callable[..., Any], *arguments: Any) -> tuple[Any, str]:
    """Return a parser's value, or the message of its own error."""
    try:
        return parse(*arguments), ""
    except BuildError as exc:
        return None, str(exc)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file to fill."""
    return tmp_path_factory.mktemp("fuzz") / "file"


@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b"\xef\xbb\xbfcat\r\ndog\r\n")
@example("a\u2028b\nc".encode())
def test_read_labels_takes_or_refuses_any_file(path: Path, content: bytes) -> None:
    """Labels that are read are texts of one line, and read the same again."""
    path.write_bytes(content)
    labels, refusal = attempted(weights.read_labels, path)
    if labels is None:
        assert str(path) in refusal
        return
    assert all(label and "\n" not in label for label in labels)
    path.write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    assert weights.read_labels(path) == labels


STATE = {"fc.bias": torch.arange(3.0), "fc.weight": torch.ones(3, 2)}


def pickled(**options: Any) -> bytes:
    """A state dict as torch.save writes it."""
    buffer = io.BytesIO()
    torch.save(STATE, buffer, **options)
    return buffer.getvalue()


@st.composite
def mutations(draw: st.DrawFn, content: bytes) -> bytes:
    """A file with bytes changed, cut off or put in."""
    changed = bytearray(content)
    for _ in range(draw(st.integers(1, 8))):
        position = draw(st.integers(0, max(0, len(changed) - 1)))
        kind = draw(st.sampled_from(["change", "insert", "cut"]))
        if kind == "cut":
            del changed[position : position + draw(st.integers(1, 50))]
        else:
            stop = position + (kind == "change")
            changed[position:stop] = draw(st.binary(min_size=1, max_size=4))
    return bytes(changed)


@FILES
@given(
    st.one_of(
        st.tuples(
            st.just(".pth"),
            mutations(pickled()) | mutations(pickled(_use_new_zipfile_serialization=False)) | st.binary(),
        ),
        st.tuples(st.just(".safetensors"), mutations(save(STATE)) | st.binary()),
    )
)
def test_read_takes_or_refuses_any_checkpoint(path: Path, file: tuple[str, bytes]) -> None:
    """A damaged file is refused with a message, and so are three tensors, which are not a ResNet-50."""
    damaged = path.with_suffix(file[0])
    damaged.write_bytes(file[1])
    try:
        checkpoints.read(damaged)
    except BuildError:
        return
    raise AssertionError("three tensors are not a ResNet-50")


ENTRY = {
    "inputs": {
        "weights": {"requested": "auto", "name": "random:1"},
        "labels": "aa",
        "preprocessing_sha256": "bb",
        "classes": 3,
        "backbone": "fp32",
        "calibration_images": "images",
    },
    "artifacts": {"network_onnx/1/model.onnx": "cc"},
}


CHOSEN = {
    "serving": {"max_batch_size": 8, "threads": 2},
    "gpu": {"gpu_engine": "tensorrt", "engine_cache": "/engines"},
    "default_model": {"requested": "auto", "network": "network_int8"},
}


@st.composite
def spoilt_manifests(draw: st.DrawFn) -> str:
    """A manifest in which something is replaced or missing."""
    content: dict[str, Any] = {"versions": {"1": json.loads(json.dumps(ENTRY))}, **json.loads(json.dumps(CHOSEN))}
    node: Any = content
    while True:
        key = draw(st.sampled_from(sorted(node)))
        if isinstance(node[key], dict) and node[key] and draw(st.booleans()):
            node = node[key]
            continue
        if draw(st.booleans()):
            node[key] = draw(JSON)
        else:
            del node[key]
        return dumped(content)


@given(spoilt_manifests() | JSON.map(dumped) | TEXT)
@example("[" * 100_000)
@example(json.dumps({"versions": {}, "serving": {"of_another_version": 1}, "gpu": {"of_another_version": "x"}}))
@example(json.dumps({"versions": {}, "serving": {"threads": "2"}}))
@example(json.dumps({"versions": {}, "gpu": {"engine_cache": 2}}))
@example(json.dumps({"versions": {}, "default_model": {"requested": "fp8", "network": "network_fp8"}}))
@example(json.dumps({"versions": {}, "default_model": {"requested": "auto", "network": "network_auto"}}))
@example(json.dumps({"versions": {"1": {**ENTRY, "inputs": {**ENTRY["inputs"], "backbone": []}}}}))
@example(json.dumps({"versions": {"1": {**ENTRY, "artifacts": {"/etc/passwd": "x"}}}}))
@example(json.dumps({"versions": {"1": {**ENTRY, "artifacts": {"a/1/../../../b": "x"}}}}))
def test_read_takes_or_refuses_any_manifest(path: Path, text: str) -> None:
    """A manifest that is read can be used by the next build; its artifacts lie in the repository."""
    (path.parent / manifest.FILENAME).write_text(text, encoding="utf-8", errors="replace")
    record, refusal = attempted(manifest.read, path.parent)
    if record is None:
        assert "delete it and build again" in refusal
        return
    attempted(lambda: ServingOptions(**record.get("serving", {})))
    attempted(gpu.chosen, record, {})
    requested, variant = default_model.recorded(record)
    assert requested in DEFAULT_MODELS
    assert variant in DEFAULT_MODELS[1:]
    for version, entry in record["versions"].items():
        assert manifest.inputs_of(record, version) == entry["inputs"]
        assert manifest.has_artifacts(path.parent, record, version) == (not entry["artifacts"])
        assert all(".." not in name and not name.startswith("/") for name in entry["artifacts"])
        assert isinstance(entry["inputs"]["weights"]["name"], str)
