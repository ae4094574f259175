"""What a grammar costs: compiling it, and every token under it. `python -m benchmarks.grammar`: JSON and a table.

`check` compiles every schema by itself, `compile` the whole grammar, `again` the same one another time. `alone` is
a mask worked out when it is needed, `begun` one that was begun before a pass of the model; the pass is `PASS_MS` of
matrix products, with which the mask competes for the processor's cores.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import Any

import torch

from agentkit.inference.base import Grammar
from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from agentkit.inference.constraint import GrammarConstraint
from agentkit.inference.formats import format_for
from agentkit.inference.formats.base import ToolChoice
from agentkit.inference.tokenizer import Tokenizer, load_tokenizer
from agentkit.messages import ToolSpec

PASS_MS = 15.0
SEPARATORS = {"template": "\n", "hf-3.1": "; "}
"""What each dialect writes between two calls."""

WEATHER = {
    "type": "object",
    "properties": {"location": {"type": "string"}, "unit": {"enum": ["celsius", "fahrenheit"]}},
    "required": ["location"],
}
BOOKING = {
    "type": "object",
    "properties": {
        "traveller": {"$ref": "#/$defs/Person"},
        "legs": {"type": "array", "items": {"$ref": "#/$defs/Leg"}, "minItems": 1, "maxItems": 4},
        "payment": {"anyOf": [{"type": "null"}, {"type": "number", "minimum": 0, "maximum": 10000}]},
    },
    "required": ["traveller", "legs", "payment"],
    "$defs": {
        "Person": {
            "type": "object",
            "properties": {
                "name": {"type": "string", "maxLength": 40},
                "born": {"type": "string", "format": "date"},
            },
            "required": ["name", "born"],
        },
        "Leg": {
            "type": "object",
            "properties": {
                "start": {"type": "string", "pattern": "^[A-Z]{3}$"},
                "nights": {"type": "integer"},
            },
            "required": ["start", "nights"],
        },
    },
}
LOCATION = {"location": "Paris, France", "unit": "celsius"}
TRIP = {
    "traveller": {"name": "Ada Lovelace", "born": "1815-12-10"},
    "legs": [{"start": "LHR", "nights": 3}, {"start": "CDG", "nights": 12}],
    "payment": 123.45,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """An output, and what constrains it."""

    name: str
    tools: tuple[ToolSpec, ...]
    text: str
    max_calls: int = 1
    answer: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """The figures of one case: medians, in milliseconds."""

    case: str
    tokens: int
    check_ms: float
    compile_ms: float
    again_ms: float
    first_mask_ms: float
    alone_ms: float
    alone_slowest_ms: float
    begun_ms: float
    advance_ms: float


def tool(name: str, parameters: dict[str, Any]) -> ToolSpec:
    return ToolSpec(name=name, description="", parameters=parameters)


def call(name: str, arguments: dict[str, Any]) -> str:
    return json.dumps({"name": name, "parameters": arguments})


def cases() -> list[Case]:
    weather, booking = tool("get_weather", WEATHER), tool("book_trip", BOOKING)
    many = tuple(tool(f"get_weather_{number}", WEATHER) for number in range(50))
    one_call = call("get_weather", LOCATION)
    return [
        Case(
            name="text beside a tool", tools=(weather,), text="It is warm in Paris today, about 22 degrees."
        ),
        Case(name="one tool", tools=(weather,), text=one_call),
        Case(name="three calls", tools=(weather,), text="\n".join([one_call] * 3), max_calls=3),
        Case(name="nested tool", tools=(booking,), text=call("book_trip", TRIP)),
        Case(name="nested answer", tools=(), text=json.dumps(TRIP), answer=BOOKING),
        Case(name="one of 50 tools", tools=many, text=call("get_weather_37", LOCATION)),
    ]


def measure(case: Case, vocabulary: Tokenizer, repetitions: int) -> Row:
    dialect = format_for(vocabulary)
    choice = ToolChoice.AUTO if case.tools else ToolChoice.NONE
    case = replace(case, text=case.text.replace("\n", SEPARATORS[dialect.name]))
    check_ms, walks = [], []
    for _ in range(repetitions):
        tools, answer = renewed(case)
        started = time.perf_counter()
        grammar = dialect.call_grammar(tools, choice, max_calls=case.max_calls, answer_schema=answer)
        check_ms.append(milliseconds_since(started))
        assert grammar is not None
        walks.append(walk(grammar, case, vocabulary))
    alone = [ms for one in walks for ms in one["alone"]]
    return Row(
        case=case.name,
        tokens=len(vocabulary.encode(case.text)),
        check_ms=median(check_ms),
        compile_ms=median([one["compile"][0] for one in walks]),
        again_ms=median([one["again"][0] for one in walks]),
        first_mask_ms=median([one["first"][0] for one in walks]),
        alone_ms=median(alone),
        alone_slowest_ms=round(max(alone), 3),
        begun_ms=median([ms for one in walks for ms in one["begun"]]),
        advance_ms=median([ms for one in walks for ms in one["advance"]]),
    )


_NUMBERS = count()


def renewed(case: Case) -> tuple[list[ToolSpec], dict[str, Any] | None]:
    """Return the schemas of a case with a word that changes nothing: what was compiled before is not again."""
    new = {"$comment": str(next(_NUMBERS))}
    answer = None if case.answer is None else case.answer | new
    return [tool(spec.name, {**spec.parameters, **new}) for spec in case.tools], answer


def walk(grammar: Grammar, case: Case, vocabulary: Tokenizer) -> dict[str, list[float]]:
    """Follow the text twice, with masks worked out when they are needed and with masks begun before a pass."""
    figures: dict[str, list[float]] = {"compile": [], "again": [], "alone": [], "begun": [], "advance": []}
    started = time.perf_counter()
    alone = GrammarConstraint(grammar, vocabulary, vocabulary.eos_ids)
    figures["compile"].append(milliseconds_since(started))
    started = time.perf_counter()
    begun = GrammarConstraint(grammar, vocabulary, vocabulary.eos_ids)
    figures["again"].append(milliseconds_since(started))
    for token_id in vocabulary.encode(case.text):
        logits = torch.zeros(vocabulary.vocab_size)
        started = time.perf_counter()
        alone.mask(logits)
        figures["alone"].append(milliseconds_since(started))
        assert logits[token_id] == 0.0, f"{case.name}: the grammar does not allow its example"
        started = time.perf_counter()
        alone.advance(token_id)
        figures["advance"].append(milliseconds_since(started))

        begun.begin_mask()
        model_pass()
        started = time.perf_counter()
        begun.mask(logits)
        figures["begun"].append(milliseconds_since(started))
        begun.advance(token_id)
    figures["first"] = [figures["alone"].pop(0)]
    return figures


def milliseconds_since(started: float) -> float:
    return (time.perf_counter() - started) * 1e3


def median(values: list[float]) -> float:
    return round(statistics.median(values), 3)


_WEIGHT = torch.randn(2048, 2048)


def model_pass() -> None:
    """Keep the processor busy as a pass of the model does."""
    until = time.perf_counter() + PASS_MS / 1e3
    hidden = torch.randn(1, 2048)
    while time.perf_counter() < until:
        hidden = torch.nn.functional.linear(hidden, _WEIGHT)
        hidden = hidden / hidden.norm()


def table(rows: list[Row]) -> str:
    heads = ("tokens", "check", "compile", "again", "first mask", "alone", "slowest", "begun", "advance")
    lines = [f"{'milliseconds':<20}" + "".join(f"{head:>12}" for head in heads)]
    for row in rows:
        name, *values = asdict(row).values()
        lines += [f"{name:<20}" + "".join(f"{value:>12}" for value in values)]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default=EMBEDDED_MODEL, help="whose vocabulary: any model reference")
    parser.add_argument("--repetitions", type=int, default=5, help="how often every case is measured")
    arguments = parser.parse_args()
    vocabulary = load_tokenizer(resolve(arguments.model).path)
    vocabulary.llguidance()  # once for a model, and not part of any grammar
    measure(cases()[0], vocabulary, 1)
    rows = [measure(case, vocabulary, arguments.repetitions) for case in cases()]
    figures = {"model": arguments.model, "vocabulary": vocabulary.vocab_size, "pass_ms": PASS_MS}
    print(json.dumps({**figures, "rows": [asdict(row) for row in rows]}, indent=2))
    print(table(rows))


if __name__ == "__main__":
    main()
