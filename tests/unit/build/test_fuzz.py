"""Whatever is put into a parser of the preprocessing, it gives a value or refuses with its own message."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image
from resnet_client.preprocessing import Limits, Recipe, crop_pixels

TEXT = st.text(max_size=30) | st.sampled_from(["\x00", "9" * 5000, "[" * 5000, "NaN", "1e999", "\ud800"])
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**4000, 224, 256, 8193])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def dumped(value: Any) -> str:
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
def test_recipes(text: str) -> None:
    """A recipe that is read can be used at once, and reads the same again."""
    try:
        recipe = Recipe.from_json(text)
    except ValueError:
        return
    assert Recipe.from_json(recipe.to_json()) == recipe
    if recipe.crop <= 256:
        assert crop_pixels(Image.new("RGB", (9, 5)), recipe).shape == (recipe.crop, recipe.crop, 3)


@given(st.dictionaries(st.sampled_from(sorted(Limits().to_parameters())), NUMBERS.map(dumped) | TEXT))
def test_limits(parameters: dict[str, str]) -> None:
    """Limits that are read are at least 1, and read the same again."""
    try:
        limits = Limits.from_parameters(parameters)
    except ValueError:
        return
    assert min(vars(limits).values()) >= 1
    assert Limits.from_parameters(limits.to_parameters()) == limits
