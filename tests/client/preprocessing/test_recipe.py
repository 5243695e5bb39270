"""How the weights want their images prepared, as the build writes it and server and client read it."""

import json

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from resnet_client.preprocessing import Recipe, crop_pixels
from strategies import JSON, NUMBERS, TEXT

V1, V2 = Recipe(resize=256, crop=224), Recipe(resize=232, crop=224)


def test_recipe_survives_its_json():
    assert Recipe.from_json(V2.to_json()) == V2
    assert Recipe.from_json(V2.to_json()).sha256 == V2.sha256
    assert V1.sha256 != V2.sha256


@pytest.mark.parametrize(
    "text", ['{"resize":1}', "[]", "3", '{"resize":200,"crop":224}', "{", '{"resize":9,"crop":9,"interpolation":"x"}']
)
def test_recipe_refuses_damaged_json(text):
    """It is an error, not a wrong crop."""
    with pytest.raises(ValueError, match=r"."):
        Recipe.from_json(text)


def dumped(value):
    """JSON without Python's limit to the digits of a number."""
    try:
        return json.dumps(value)
    except ValueError:
        return "1" + "0" * 5000


RECIPES = st.fixed_dictionaries(
    {"resize": st.integers(1, 9000) | NUMBERS | JSON, "crop": st.integers(1, 300) | NUMBERS | JSON},
    optional={"interpolation": st.sampled_from(["nearest", "bilinear", "bicubic"]) | JSON, "more": JSON},
).map(dumped)


@given(RECIPES | JSON.map(dumped) | TEXT)
@example('{"resize": 1e308, "crop": 1.5}')
@example('{"resize": true, "crop": true}')
@example('{"resize": 1' + "0" * 400 + ', "crop": 1}')
@example("[" * 100_000)
@example('{"resize": 9, "crop": 9, "interpolation": {}}')
def test_recipe_can_be_used_once_it_is_read(text):
    """And reads the same again."""
    try:
        recipe = Recipe.from_json(text)
    except ValueError:
        return
    assert Recipe.from_json(recipe.to_json()) == recipe
    if recipe.crop <= 256:
        assert crop_pixels(Image.new("RGB", (9, 5)), recipe).shape == (recipe.crop, recipe.crop, 3)
