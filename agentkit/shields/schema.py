"""Writes the JSON Schema of policy files that ships for editors: `python -m agentkit.shields.schema`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

from agentkit.shields.policy import Policy
from agentkit.shields.registry import BUILT_IN, find_shield

SCHEMA_PATH: Final = Path(__file__).with_name("policy.schema.json")


def policy_schema() -> dict[str, Any]:
    """Return the JSON Schema of a policy file, with the options of every built-in shield."""
    schema = Policy.model_json_schema()
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "agentkit policy"}
    _leave_out_what_a_base_says(schema)
    shield = schema["$defs"]["ShieldConfig"]
    shield["properties"]["use"]["examples"] = sorted(BUILT_IN)
    shield["allOf"] = [_options_of(name, shield["properties"], schema["$defs"]) for name in sorted(BUILT_IN)]
    return schema


def _leave_out_what_a_base_says(schema: dict[str, Any]) -> None:
    """Ask for all parts and all stages only of a policy that extends none."""
    stages = {"required": schema["$defs"]["Stages"].pop("required")}
    alone = {"required": schema["required"], "properties": {"stages": stages}}
    schema["required"] = ["version"]
    schema["if"], schema["else"] = {"required": ["extends"]}, alone


def _options_of(name: str, shared: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """Return the rule that a shield using `name` takes its options and no others."""
    shield = find_shield(name)
    options = shield.options.json_schema(by_alias=True)
    definitions.update(options.pop("$defs", {}))
    properties = {**options.get("properties", {}), **dict.fromkeys(shared, True)}
    rule = {"properties": properties, "required": options.get("required", []), "additionalProperties": False}
    if shield.exactly_one:
        rule["oneOf"] = [{"required": [option]} for option in shield.exactly_one]
    return {"if": {"properties": {"use": {"const": name}}, "required": ["use"]}, "then": rule}


def main() -> None:
    """Write the schema beside this file."""
    SCHEMA_PATH.write_text(json.dumps(policy_schema(), indent=2, sort_keys=True) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
