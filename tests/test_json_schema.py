"""Schemas that describe one object in several places must not be closed place by place."""

from __future__ import annotations

import jsonschema
import pytest

from agentkit.json_schema import closed

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
