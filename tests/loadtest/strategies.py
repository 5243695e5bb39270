"""Hostile values for the parsers of the load test."""

from hypothesis import strategies as st

_HOSTILE = st.sampled_from(
    ["", "\x00", "nan", "inf", "-1", "1e999", "9" * 5000, "٣", "[/]", "{{DATA}}", "\ud800", "\x1b[2J"]
)
_NUMBERS = st.integers() | st.floats() | st.sampled_from([2**70, -(2**70), 1e308, -0.0, 5e-324])
TEXT = st.text(max_size=30) | _HOSTILE
JSON = st.recursive(
    st.none() | st.booleans() | _NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def near(*parts):
    """Texts made of a grammar's own parts, which get further than random ones."""
    return st.lists(st.sampled_from(parts) | st.integers(0, 999).map(str), max_size=8).map("".join) | TEXT
