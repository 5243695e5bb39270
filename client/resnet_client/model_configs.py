"""What build, server and load test share about Triton's model configs."""

from __future__ import annotations

from pathlib import Path

TUNED = "tuned"
"""The named config that ``resnet-loadtest tune`` writes; ``resnet-serve`` selects it with ``--model-config-name``."""

MADE_BY_BUILD = "# Rendered by resnet-build"
"""How each ``config.pbtxt`` of ``resnet-build`` begins; other models are left alone."""

THREADS = {
    "onnxruntime": "intra_op_thread_count",
    "openvino": "INFERENCE_NUM_THREADS",
    "pytorch": "INTRA_OP_THREAD_COUNT",
}
"""Backend → its parameter with the number of CPU threads of an instance."""


def named_config(repository: Path, model: str, name: str) -> Path:
    """Where Triton looks for a model's named config."""
    return repository / model / "configs" / f"{name}.pbtxt"
