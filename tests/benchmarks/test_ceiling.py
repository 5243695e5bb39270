"""How the ceiling counts what it computes."""

from __future__ import annotations

import io

import pytest
from PIL import Image
from resnet_client.preprocessing import PreprocessConfig

from benchmarks import ceiling


@pytest.mark.parametrize("offset_s", [0.0, 0.25, 1.0])
def test_rate_is_the_same_for_runners_in_step_and_out_of_step(offset_s: float) -> None:
    """Two that need half a second for an execution finish four a second, whatever the time between them."""
    first = [0.5 * number for number in range(5)]
    assert ceiling.rate([first, [moment + offset_s for moment in first]]) == pytest.approx(4.0)


def test_pipeline_raises_what_the_network_raises() -> None:
    """Instead of waiting for it."""

    def broken(_: object) -> None:
        raise ValueError("no such input")

    buffer = io.BytesIO()
    Image.new("RGB", (300, 300)).save(buffer, "JPEG")
    settings = ceiling.Settings(batch=1, runners=1, threads=1, decoders=1)
    pipeline = ceiling.Pipeline([broken], [buffer.getvalue()], PreprocessConfig(232, 224), settings)
    with pytest.raises(RuntimeError, match="network has failed") as failed:
        pipeline.measure(60)
    assert str(failed.value.__cause__) == "no such input"
