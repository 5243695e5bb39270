"""DALI's pipeline of a repository, on its operators for CPUs."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from resnet_build import gpu
from resnet_build.serving_options import ServingOptions
from resnet_client.preprocessing import PreprocessConfig


def dali_rows(encoded: Sequence[bytes], preprocess_config: PreprocessConfig, folder: Path) -> list[np.ndarray]:
    """Run image files through the pipeline; skip the test if DALI is not installed."""
    dali = pytest.importorskip("nvidia.dali", reason="nvidia-dali-cuda120 is not installed")
    (text,) = gpu.model_files(preprocess_config, ServingOptions()).values()
    (folder / "preprocess_config.json").write_text(text)
    (folder / "dali.py").write_bytes(gpu.files()["preprocess_dali/1/dali.py"].read_bytes())
    spec = importlib.util.spec_from_file_location("dali_pipeline", folder / "dali.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    options = {name: module.PREPROCESSING[name] for name in ("resize", "crop", "interpolation")}

    @dali.pipeline_def(batch_size=len(encoded), num_threads=2, device_id=None, prefetch_queue_depth=1)
    def on_the_cpu():
        data = dali.fn.external_source(name="ENCODED", dtype=dali.types.UINT8, ndim=1)
        return module.prepared(data, decoder="cpu", **options)

    pipeline = on_the_cpu(exec_async=False, exec_pipelined=False)
    pipeline.feed_input("ENCODED", [np.frombuffer(one, np.uint8) for one in encoded])
    (rows,) = pipeline.run()
    return [np.asarray(row) for row in rows]
