"""Random JSON Schemas of everything that a grammar holds, and random changes to the values that fit them."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from hypothesis import strategies as st

Schema = dict[str, Any]

_SCALARS: list[Any] = ["a", "b c", 'q"\\', "é🙂", 0, -3, 12, 1.5, True, False, None]
_PATTERNS = ["^[a-z]{1,3}$", "^(ab|c)+$", "x", "^-?[0-9]+", "end$"]
_FORMATS = ["date", "date-time", "uuid", "email", "ipv4"]
_NAMES = ["a", "b", "name", 'odd "key"']


def schemas() -> st.SearchStrategy[Schema]:
    """Return schemas of objects that refer to definitions, one of which contains itself."""
    parts = st.recursive(_leaves(), _containers, max_leaves=6)
    return st.builds(_with_definitions, _objects(parts), parts)


def _with_definitions(schema: Schema, part: Schema) -> Schema:
    chain = {
        "type": "object",
        "properties": {"value": {"$ref": "#/$defs/part"}, "next": {"$ref": "#/$defs/chain"}},
        "required": ["value"],
        "additionalProperties": False,
    }
    properties = {**schema["properties"], "chain": {"$ref": "#/$defs/chain"}}
    return {**schema, "properties": properties, "$defs": {"part": part, "chain": chain}}


def _leaves() -> st.SearchStrategy[Schema]:
    return st.one_of(
        st.sampled_from([{"type": "boolean"}, {"type": "null"}, {"type": ["string", "null"]}]),
        st.builds(_integers, st.integers(-50, 50), st.integers(0, 60), st.sampled_from([None, 2, 5])),
        st.builds(_numbers, st.integers(-30, 30), st.integers(1, 60), st.booleans()),
        st.builds(_texts, st.integers(0, 3), st.integers(0, 5)),
        st.sampled_from([{"type": "string", "pattern": pattern} for pattern in _PATTERNS]),
        st.sampled_from([{"type": "string", "format": name} for name in _FORMATS]),
        st.builds(
            lambda values: {"enum": values}, st.lists(st.sampled_from(_SCALARS), min_size=1, max_size=3)
        ),
        st.builds(lambda value: {"const": value}, st.sampled_from([*_SCALARS, {"a": [1, None]}, []])),
    )


def _integers(low: int, span: int, multiple: int | None) -> Schema:
    schema = {"type": "integer", "minimum": low, "maximum": low + span + 10}
    return schema if multiple is None else schema | {"multipleOf": multiple}


def _numbers(low: int, span: int, exclusive: bool) -> Schema:
    bounds = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    return {"type": "number", bounds[0]: low / 4, bounds[1]: low / 4 + span}


def _texts(shortest: int, span: int) -> Schema:
    return {"type": "string", "minLength": shortest, "maxLength": shortest + span}


def _containers(parts: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    return st.one_of(
        _objects(parts),
        st.builds(_arrays, parts, st.integers(0, 2), st.integers(0, 2)),
        st.builds(
            lambda items: {"type": "array", "prefixItems": items, "items": False}, st.lists(parts, max_size=2)
        ),
        st.builds(lambda branches: {"anyOf": branches}, st.lists(parts, min_size=1, max_size=3)),
        st.builds(_tagged, parts, parts),
        st.builds(_maps, parts, st.booleans()),
    )


def _objects(parts: st.SearchStrategy[Schema]) -> st.SearchStrategy[Schema]:
    properties = st.dictionaries(st.sampled_from(_NAMES), parts, max_size=3)
    return properties.flatmap(
        lambda named: st.builds(
            lambda required: {
                "type": "object",
                "properties": named,
                "required": sorted(required),
                "additionalProperties": False,
            },
            st.sets(st.sampled_from(sorted(named))) if named else st.just(set()),
        )
    )


def _arrays(items: Schema, shortest: int, span: int) -> Schema:
    return {"type": "array", "items": items, "minItems": shortest, "maxItems": shortest + span}


def _maps(values: Schema, by_pattern: bool) -> Schema:
    if by_pattern:
        return {
            "type": "object",
            "patternProperties": {"^[a-c]{1,2}$": values},
            "additionalProperties": False,
        }
    return {"type": "object", "additionalProperties": values, "minProperties": 1, "maxProperties": 2}


def _tagged(first: Schema, second: Schema) -> Schema:
    def branch(tag: str, value: Schema) -> Schema:
        return {
            "type": "object",
            "properties": {"kind": {"const": tag}, "value": value},
            "required": ["kind", "value"],
            "additionalProperties": False,
        }

    return {"oneOf": [branch("first", first), branch("second", second)]}


def changed(value: Any) -> Iterator[Any]:
    """Yield values that differ from this one in one place."""
    yield from ({"x": 1}, [value], None, True, -1000, 0.123, "a much longer text than any", "")
    if isinstance(value, dict):
        for key in value:
            yield {name: item for name, item in value.items() if name != key}
            for other in changed(value[key]):
                yield value | {key: other}
        yield value | {"unknown": 1}
    if isinstance(value, list):
        yield [*value, None]
        yield value[1:]
        for index, item in enumerate(value):
            for other in changed(item):
                copied = copy.copy(value)
                copied[index] = other
                yield copied
