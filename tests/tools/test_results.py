"""What a model reads of a tool's result."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from agentkit.errors import ToolError
from agentkit.tools.results import as_text, cut


class Colour(Enum):
    RED = "red"


@dataclass
class Point:
    x: int


class Reading(BaseModel):
    degrees: float


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("as it is\n", "as it is\n"),
        ("half a pair \ud83d", "half a pair ?"),
        (22.0, "22.0"),
        (7, "7"),
        (True, "true"),
        (None, "null"),
        (float("inf"), "Infinity"),
        ({"city": "Orléans", "tags": ["a"]}, '{"city":"Orléans","tags":["a"]}'),
        (Point(1), '{"x":1}'),
        ([Reading(degrees=1.5)], '[{"degrees":1.5}]'),
        (Colour.RED, '"red"'),
        ((1, 2), "[1,2]"),
    ],
)
def test_result_is_written_for_the_model(value, text):
    assert as_text(value) == text


@pytest.mark.parametrize(
    "value", [b"x", bytearray(b"x"), iter([1]), object(), {"a": object()}, threading.Lock()]
)
def test_result_without_a_text_form_is_refused_by_type(value):
    with pytest.raises(ToolError, match=r"its result of type \w+ cannot be written as text or JSON"):
        as_text(value)


@given(text=st.text(max_size=50), limit=st.integers(1, 60))
def test_cut_text_begins_like_the_text_and_is_marked(text, limit):
    shown, was_cut = cut(text, limit)

    assert shown.startswith(text[:limit])
    assert was_cut == (len(text) > limit)
    assert was_cut or shown == text


@given(
    value=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    )
)
def test_json_results_can_be_read_back(value):
    assert json.loads(as_text(value)) == value


def test_results_are_never_iterated_without_end():
    def forever() -> Iterator[int]:
        while True:
            time.sleep(0.001)
            yield 1

    with pytest.raises(ToolError):
        as_text(forever())
