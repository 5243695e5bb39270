"""Texts and JSON for the property tests of parsers: hostile ones, and some made of a grammar's own parts."""

from hypothesis import strategies as st
from resnet_client import ResnetClientError

HOSTILE = st.sampled_from(["", "\x00", "nan", "inf", "-1", "1e999", "9" * 5000, "٣", "\ud800", "[::", "%00", "\r\n"])
TEXT = st.text(max_size=30) | HOSTILE
NUMBERS = st.integers() | st.floats() | st.sampled_from([10**400, -(2**63), 2**64])
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
