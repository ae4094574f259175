"""Structured answers: a pydantic model as the schema that the grammar holds the answer to, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from agentkit.cleared import Cleared
from agentkit.errors import AgentKitError, GrammarError
from agentkit.inference.formats.call_grammar import check_answer_schema


def answer_schema(output_type: type[BaseModel] | None) -> Mapping[str, Any] | None:
    """Return the JSON Schema of the answer, or None for plain text.

    Raises:
        GrammarError: if the type says something that a grammar cannot hold, naming the keyword and its place.
    """
    if output_type is None:
        return None
    schema = output_type.model_json_schema()
    try:
        check_answer_schema(schema)
    except GrammarError as exc:
        raise GrammarError(f"output_type {output_type.__name__}: {exc}") from exc
    return schema


def asking_for(text: str, schema: Mapping[str, Any] | None) -> str:
    """Return what the model is to read: the user's text, and the schema of the answer where there is one.

    The grammar holds the answer to the schema in any case; knowing it, the model fills it with sense.
    """
    if schema is None:
        return text
    return f"{text}\n\nAnswer with JSON that fits this JSON Schema: {json.dumps(schema, ensure_ascii=False)}"


def read_answer(answer: Cleared[str] | None, output_type: type[BaseModel] | None) -> Any:
    """Return the answer as the run's output: text, an instance of `output_type`, or None where there is none.

    Raises:
        AgentKitError: if the text does not fit the type, for instance because it was cut at `max_tokens`.
    """
    if answer is None:
        return None
    if output_type is None:
        return answer.value
    try:
        return output_type.model_validate_json(answer.value)
    except ValidationError as error:
        kinds = ", ".join(sorted({problem["type"] for problem in error.errors(include_input=False)}))
        raise AgentKitError(
            f"the answer of {len(answer.value)} characters does not fit {output_type.__name__} ({kinds}); "
            "raise sampling.max_tokens, or see whether a shield redacted it"
        ) from None
