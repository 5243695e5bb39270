"""DALI's pipeline `preprocess_dali`: encoded images in, preprocessed pixels out; decoded and resized on the GPU.

Triton's DALI backend runs this file once, when it loads the model, and keeps the pipeline that it describes. The
preprocessing config is next to it in `preprocess_config.json`. The crop is that of `preprocess`: only the crop is
resampled, and its corner is rounded half to even, as Python rounds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from nvidia.dali import fn, math, pipeline_def, types
from nvidia.dali.plugin.triton import autoserialize

PREPROCESSING = json.loads(Path(__file__).with_name("preprocess_config.json").read_text(encoding="utf-8"))
INTERPOLATIONS = {"bilinear": types.INTERP_LINEAR, "bicubic": types.INTERP_CUBIC}

# Of the JPEGs of a batch, in the GPU's hardware decoders. They do not compete with the network, so they get more than
# DALI's default of 0.65; the rest keeps the other decoder busy meanwhile.
HARDWARE_SHARE = 0.9
# `preprocess_check` uses the other half of the CPUs.
THREADS = max(1, len(os.sched_getaffinity(0)) // 2)


def prepared(encoded: Any, *, decoder: str, resize: int, crop: int, interpolation: str) -> Any:
    """Describe the operations from encoded bytes to UINT8 pixels, HWC, RGB.

    Args:
        encoded: node with UINT8 tensors of one dimension.
        decoder: ``mixed`` decodes on the GPU, ``cpu`` on the CPU.
        resize: length of the short side before the crop, in pixels.
        crop: side of the crop, in pixels.
        interpolation: as the preprocessing config names it.
    """
    shape = fn.peek_image_shape(encoded)
    height, width = shape[0], shape[1]
    short = math.min(height, width)
    new_height, new_width = (height * resize) // short, (width * resize) // short
    corners = []
    for old, new in ((height, new_height), (width, new_width)):
        scale = fn.cast(old, dtype=types.FLOAT) / new
        start = half_to_even(new - crop)
        corners.append((start * scale, (start + crop) * scale))
    return fn.resize(
        fn.decoders.image(
            encoded,
            device=decoder,
            output_type=types.RGB,
            adjust_orientation=True,
            hw_decoder_load=HARDWARE_SHARE,
        ),
        size=[crop, crop],
        roi_start=fn.cast(fn.stack(*(first for first, _ in corners)), dtype=types.FLOAT),
        roi_end=fn.cast(fn.stack(*(last for _, last in corners)), dtype=types.FLOAT),
        interp_type=INTERPOLATIONS[interpolation],
        antialias=True,
        subpixel_scale=False,
    )


def half_to_even(doubled: Any) -> Any:
    """Halve a node of integers, and round halves to the even integer."""
    half = doubled // 2
    return half + (doubled % 2) * (half % 2)


@autoserialize  # type: ignore[untyped-decorator]  # DALI has no annotations
@pipeline_def(  # type: ignore[untyped-decorator]
    batch_size=PREPROCESSING["max_batch_size"], num_threads=THREADS, device_id=0
)
def pipeline() -> Any:
    """The pipeline that is served; its input has the name of the model's input."""
    encoded = fn.external_source(device="cpu", name="ENCODED", dtype=types.UINT8, ndim=1)
    preprocess_config = {name: PREPROCESSING[name] for name in ("resize", "crop", "interpolation")}
    return prepared(encoded, decoder="mixed", **preprocess_config)
