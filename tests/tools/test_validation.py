"""From arguments as a model writes them to arguments as a function takes them."""

from __future__ import annotations

import copy
import json
import math
from dataclasses import dataclass
from datetime import date
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Interval, Len, MultipleOf
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, field_validator

from agentkit.errors import InvalidArgumentsError
from agentkit.tools import tool


class Unit(Enum):
    CELSIUS = "celsius"
    FAHRENHEIT = "fahrenheit"


@dataclass
class Point:
    x: int
    y: int = 0


class Stay(BaseModel):
    city: str
    nights: Annotated[int, Field(ge=1)]

    @field_validator("city")
    @classmethod
    def known(cls, city: str) -> str:
        if city == "Atlantis":
            raise ValueError("this city has sunk")
        if city == "Erehwon":
            raise KeyError("secret-token")
        return city


class Node(BaseModel):
    value: int
    children: list[Node] = []


@tool
def book(
    city: str,
    nights: Annotated[int, Field(ge=1, le=30)],
    unit: Literal["celsius", "fahrenheit"] = "celsius",
    price: float = 0.0,
    breakfast: bool = False,
    tags: list[str] = [],  # noqa: B006  # what the schema shows
    note: str | None = None,
    stay: Stay | None = None,
) -> None:
    """Book a room."""


@tool
def anything(value: Any = None, node: Node | None = None, numbers: list[float] | None = None) -> None:
    """Take anything."""


@tool
def typed(unit: Unit, at: Point, when: date, kinds: set[int]) -> None:
    """Take Python types."""


RIGHT = {"city": "Paris", "nights": 1}


def refusal(arguments: Any, made=book) -> str:
    with pytest.raises(InvalidArgumentsError) as raised:
        made.validate(arguments)
    return str(raised.value)


def test_left_out_arguments_keep_the_functions_defaults():
    assert book.validate({"city": "Paris", "nights": 2}) == {"city": "Paris", "nights": 2}


def test_values_become_python_types():
    values = typed.validate({"unit": "celsius", "at": {"x": 1}, "when": "2024-02-29", "kinds": [1, 2]})

    assert values == {"unit": Unit.CELSIUS, "at": Point(1, 0), "when": date(2024, 2, 29), "kinds": {1, 2}}


@pytest.mark.parametrize(
    ("name", "written", "read"),
    [
        ("nights", "3", 3),
        ("nights", 3.0, 3),
        ("nights", "3.0", 3),
        ("price", "2.5", 2.5),
        ("price", "2", 2),
        ("breakfast", "true", True),
        ("breakfast", "False", False),
        ("tags", '["a", "b"]', ["a", "b"]),
        ("stay", '{"city": "Paris", "nights": "2"}', Stay(city="Paris", nights=2)),
        ("stay", "null", None),
        ("note", "null", "null"),
        ("note", "3", "3"),
        ("city", "true", "true"),
    ],
)
def test_other_notations_are_read_where_nothing_is_lost(name, written, read):
    value = book.validate({"city": "Paris", "nights": 1, name: written})[name]

    assert value == read
    assert type(value) is type(read) or name == "price"


@pytest.mark.parametrize(
    ("name", "written"),
    [
        ("nights", "three"),
        ("nights", "3.5"),
        ("nights", 3.5),
        ("nights", True),
        ("nights", "true"),
        ("nights", "9" * 5000),
        ("nights", "[3]"),
        ("price", "NaN"),
        ("price", "1e999"),
        ("price", "Infinity"),
        ("breakfast", "yes"),
        ("breakfast", 1),
        ("tags", "a, b"),
        ("tags", "[1]"),
        ("tags", "[" * 100_000),
        ("city", 3),
        ("city", None),
    ],
)
def test_lossy_readings_are_refused(name, written):
    assert f"{name}" in refusal({"city": "Paris", "nights": 1, name: written})


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"nights": 1}, "missing argument city (string)"),
        ({**RIGHT, "cty": "x"}, 'unknown argument "cty"; did you mean city?'),
        ({**RIGHT, "zzz": 1}, 'unknown argument "zzz"; the arguments are: city'),
        ({"city": "Paris", "nights": "many"}, 'nights: expected integer, got string "many"'),
        ({"city": "Paris", "nights": 0}, "nights: expected at least 1, got integer 0"),
        ({"city": "Paris", "nights": 31}, "nights: expected at most 30, got integer 31"),
        ({**RIGHT, "unit": "kelvin"}, 'unit: expected one of "celsius", "fahrenheit"'),
        ({**RIGHT, "tags": ["a", 2]}, "tags[1]: expected string, got integer 2"),
        ({**RIGHT, "note": 1}, "note: expected string or null, got integer 1"),
        ({**RIGHT, "stay": {"city": "Rome"}}, "stay: missing argument nights (integer)"),
        ({**RIGHT, "stay": {"city": "Rome", "nights": 0}}, "stay.nights: expected at least 1"),
        ({**RIGHT, "stay": {"city": "Rome", "nights": 1, "x": 1}}, 'stay: unknown argument "x"'),
        ({**RIGHT, "stay": [1]}, "stay: expected object or null, got an array"),
        ({**RIGHT, "stay": {"city": "Atlantis", "nights": 1}}, "this city has sunk"),
        ({**RIGHT, "price": math.nan}, "price: expected a finite number, got nan"),
        ({**RIGHT, "tags": [-math.inf]}, "tags[0]: expected a finite number, got -inf"),
        ({**RIGHT, "note": b"x"}, "note: expected a JSON value, got bytes"),
        ({"city": "Paris", 1: 2}, "names must be strings"),
        ([1], "expected a JSON object of arguments, got an array"),
    ],
)  # fmt: skip
def test_error_says_which_argument_and_what_was_expected(arguments, said):
    message = refusal(arguments)

    assert said in message
    assert message.startswith("Invalid arguments for book: ")


@tool
def bounded(
    share: Annotated[float, Interval(gt=0, lt=1)] = 0.5,
    step: Annotated[int, MultipleOf(5)] = 5,
    code: Annotated[str, Len(2, 3), Field(pattern="^[A-Z]+$")] = "DE",
    rates: Annotated[dict[str, float], Field(min_length=1, max_length=2)] = {},  # noqa: B006
    kinds: set[str] = set(),  # noqa: B006
    rows: Annotated[list[int], Len(1, 2)] = [1],  # noqa: B006
    point: Point | Literal["origin"] = "origin",
    unit: Unit = Unit.CELSIUS,
) -> None:
    """Take what is bounded."""


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"share": 1}, "share: expected less than 1, got integer 1"),
        ({"share": 0.0}, "share: expected more than 0, got number 0.0"),
        ({"step": 7}, "step: expected a multiple of 5, got integer 7"),
        ({"code": "D"}, 'code: expected at least 2 characters, got string "D"'),
        ({"code": "DEUT"}, 'code: expected at most 3 characters, got string "DEUT"'),
        ({"code": "de"}, 'code: expected text matching "^[A-Z]+$", got string "de"'),
        ({"rates": {}}, "rates: expected at least 1 names, got an object"),
        ({"rates": {"a": 1, "b": 2, "c": 3}}, "rates: expected at most 2 names, got an object"),
        ({"rates": {"a": "x"}}, 'rates.a: expected number, got string "x"'),
        ({"kinds": ["a", "a"]}, "kinds: expected no item twice, got an array"),
        ({"rows": []}, "rows: expected at least 1 items, got an array"),
        ({"rows": [1, 2, 3]}, "rows: expected at most 2 items, got an array"),
        ({"point": {"y": 1}}, "point: missing argument x (integer)"),
        ({"point": "here"}, 'point: expected exactly "origin", got string "here"'),
        ({"unit": "kelvin"}, 'unit: expected one of "celsius", "fahrenheit", got string "kelvin"'),
    ],
)
def test_error_names_the_bound_that_was_missed(arguments, said):
    assert said in refusal(arguments, bounded)


def test_all_problems_are_named_at_once():
    message = refusal({"cty": "Paris", "nights": "x", "unit": 1})

    for part in ('"cty"', "missing argument city", "nights:", "unit:"):
        assert part in message


def test_number_and_length_of_problems_are_bounded():
    message = refusal({"city": "Paris", "nights": 1, "tags": list(range(10_000)), "x" * 100_000: 1})

    assert message.endswith("; and more.")
    assert len(message) < 1000
    assert len(refusal({"city": "Paris", "nights": "x" * 100_000})) < 200


def test_unexpected_error_of_an_authors_validator_shows_only_its_class():
    message = refusal({"city": "Paris", "nights": 1, "stay": {"city": "Erehwon", "nights": 1}})

    assert "stay: was refused (KeyError)" in message
    assert "secret" not in message


def test_endless_nesting_is_refused():
    deep: Any = 1
    for _ in range(3000):
        deep = [deep]
    nested: Any = {"value": 1}
    for _ in range(300):
        nested = {"value": 1, "children": [nested]}

    assert "nested deeper than 32 levels" in refusal({"value": deep}, anything)
    assert "nested deeper than 32 levels" in refusal({"node": nested}, anything)


def test_recursive_models_are_read_and_checked():
    assert anything.validate({"node": {"value": 1, "children": [{"value": "2"}]}})["node"] == Node(
        value=1, children=[Node(value=2)]
    )
    assert "node.children[0].value: expected integer" in refusal(
        {"node": {"value": 1, "children": [{"value": "x"}]}}, anything
    )


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FINITE_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
NAMES = st.sampled_from(["city", "nights", "unit", "price", "breakfast", "tags", "note", "stay"]) | st.text()


@given(value=FINITE_JSON)
def test_any_json_value_passes_an_untyped_argument_unchanged_and_copied(value):
    before = copy.deepcopy(value)

    given_back = anything.validate({"value": value})["value"]

    assert given_back == before == value
    if isinstance(value, dict | list):
        assert given_back is not value


@given(numbers=st.lists(st.floats(allow_nan=False, allow_infinity=False)))
def test_values_survive_being_written_as_text(numbers):
    assert anything.validate({"numbers": json.dumps(numbers)}) == {"numbers": numbers}


@given(arguments=st.dictionaries(NAMES, JSON, max_size=5) | JSON)
def test_wrong_arguments_raise_nothing_but_their_error(arguments):
    try:
        values = book.validate(arguments)
    except InvalidArgumentsError as error:
        assert len(str(error)) < 4000  # noqa: PT017  # either outcome is right
    else:
        assert {"city", "nights"} <= set(values)


@given(
    arguments=st.fixed_dictionaries(
        {"city": st.text(), "nights": st.integers(1, 30)},
        optional={
            "unit": st.sampled_from(["celsius", "fahrenheit"]),
            "price": st.floats(allow_nan=False, allow_infinity=False),
            "breakfast": st.booleans(),
            "tags": st.lists(st.text()),
            "note": st.none() | st.text(),
        },
    )
)
def test_right_arguments_come_back_as_they_are(arguments):
    assert book.validate(arguments) == arguments
    assert book.validate(book.validate(arguments)) == arguments
