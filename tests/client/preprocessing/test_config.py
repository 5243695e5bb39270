"""How the weights want their images prepared, as the build writes it and server and client read it."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from resnet_client.preprocessing import PreprocessConfig, crop_pixels
from strategies import JSON, NUMBERS, TEXT

V1, V2 = PreprocessConfig(resize=256, crop=224), PreprocessConfig(resize=232, crop=224)


def test_preprocess_config_survives_its_json():
    assert PreprocessConfig.from_json(V2.to_json()) == V2
    assert PreprocessConfig.from_json(V2.to_json()).sha256 == V2.sha256
    assert V1.sha256 != V2.sha256


@pytest.mark.parametrize(
    "text", ['{"resize":1}', "[]", "3", '{"resize":200,"crop":224}', "{", '{"resize":9,"crop":9,"interpolation":"x"}']
)
def test_preprocess_config_refuses_damaged_json(text):
    """It is an error, not a wrong crop."""
    with pytest.raises(ValueError, match=r"."):
        PreprocessConfig.from_json(text)


def dumped(value):
    """JSON without Python's limit to the digits of a number."""
    try:
        return json.dumps(value)
    except ValueError:
        return "1" + "0" * 5000


PREPROCESSINGS = st.fixed_dictionaries(
    {"resize": st.integers(1, 9000) | NUMBERS | JSON, "crop": st.integers(1, 300) | NUMBERS | JSON},
    optional={"interpolation": st.sampled_from(["nearest", "bilinear", "bicubic"]) | JSON, "more": JSON},
).map(dumped)


@given(PREPROCESSINGS | JSON.map(dumped) | TEXT)
@example('{"resize": 1e308, "crop": 1.5}')
@example('{"resize": true, "crop": true}')
@example('{"resize": 1' + "0" * 400 + ', "crop": 1}')
@example("[" * 100_000)
@example('{"resize": 9, "crop": 9, "interpolation": {}}')
def test_preprocess_config_can_be_used_once_it_is_read(text):
    """And reads the same again."""
    try:
        preprocess_config = PreprocessConfig.from_json(text)
    except ValueError:
        return
    assert PreprocessConfig.from_json(preprocess_config.to_json()) == preprocess_config
    if preprocess_config.crop <= 256:
        assert crop_pixels(Image.new("RGB", (9, 5)), preprocess_config).shape == (
            preprocess_config.crop,
            preprocess_config.crop,
            3,
        )
