"""Schemas that describe one object in several places must not be closed place by place."""

from __future__ import annotations

import jsonschema
import pytest

from agentkit.json_schema import closed, expressible

TEXT = {"type": "string"}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"allOf": [{"properties": {"a": TEXT}}, {"properties": {"b": TEXT}}]}, {"a": "1", "b": "2"}),
        ({"properties": {"a": TEXT}, "anyOf": [{"properties": {"b": TEXT}}]}, {"a": "1", "b": "2"}),
        ({"properties": {"a": TEXT}, "then": {"properties": {"b": TEXT}}, "if": True}, {"a": "1", "b": "2"}),
    ],
)
def test_an_object_described_in_several_places_stays_possible(schema, value):
    jsonschema.validate(value, closed(schema))


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"a": TEXT}},
        {"anyOf": [{"properties": {"a": TEXT}}, {"properties": {"c": TEXT}}]},
        {"properties": {"a": {"properties": {"b": TEXT}}}},
    ],
)
def test_an_object_described_in_one_place_refuses_other_names(schema):
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"a": {"other": "1"}, "other": "1"}, closed(schema))


@pytest.mark.parametrize(
    ("schema", "simpler"),
    [
        ({"type": "array", "uniqueItems": False}, {"type": "array"}),
        ({"type": "array", "uniqueItems": True}, {"type": "array", "uniqueItems": True}),
        ({"type": "string", "format": "path"}, {"type": "string"}),
        ({"type": "string", "format": "json-pointer"}, {"type": "string", "format": "json-pointer"}),
        ({"properties": {"format": {"format": "int32"}}}, {"properties": {"format": {}}}),
        ({"enum": [{"uniqueItems": False}]}, {"enum": [{"uniqueItems": False}]}),
        (
            {"type": "object", "propertyNames": {"enum": ["a", 1]}, "additionalProperties": TEXT},
            {"type": "object", "properties": {"a": TEXT}, "additionalProperties": False},
        ),
        (
            {"propertyNames": {"enum": ["a"], "maxLength": 0}},
            {"propertyNames": {"enum": ["a"], "maxLength": 0}},
        ),
    ],
)
def test_what_asserts_nothing_is_left_out_for_a_grammar(schema, simpler):
    assert expressible(schema) == simpler


@pytest.mark.parametrize("value", [{}, {"a": "x"}, {"a": 1}, {"b": "x"}, {"a": "x", "b": "y"}, 7])
def test_names_from_a_list_accept_the_same_values_as_properties(value):
    schema = {"type": "object", "propertyNames": {"enum": ["a", "c"]}, "additionalProperties": TEXT}
    as_properties = jsonschema.Draft202012Validator(expressible(schema))
    assert as_properties.is_valid(value) is jsonschema.Draft202012Validator(schema).is_valid(value)
