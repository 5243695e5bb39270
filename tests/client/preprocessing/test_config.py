"""How the weights want their images prepared, as the build writes it and server and client read it."""

import pytest
from resnet_client.preprocessing import PreprocessConfig

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
