"""Texts and JSON for the property tests of parsers: hostile ones, and some made of a grammar's own parts."""

from hypothesis import strategies as st
from resnet_client import ResnetClientError

_NUMERALS = ["nan", "inf", "-1", "1e999", "9" * 5000, "٣"]
_SYNTAX = ["[::", "[/]", "{{DATA}}", "%00", "\r\n"]
HOSTILE = st.sampled_from(["", "\x00", "\ud800", "\x1b[2J", *_NUMERALS, *_SYNTAX])
TEXT = st.text(max_size=30) | HOSTILE
_EXTREMES = [10**400, 2**70, 2**64, -(2**63), -(2**70), 1e308, -0.0, 5e-324]
NUMBERS = st.integers() | st.floats() | st.sampled_from(_EXTREMES)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


def near(*parts):
    """Texts made of a grammar's own parts, which get further than random ones."""
    return st.lists(st.sampled_from(parts) | st.integers(0, 99999).map(str), max_size=9).map("".join) | TEXT


def attempted(parse, *arguments):
    """What a parser returns, and its message if it refuses."""
    try:
        return parse(*arguments), ""
    except ResnetClientError as exc:
        return None, str(exc)
