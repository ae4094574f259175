"""BFCL's simple and multiple questions under the grammar: `python -m benchmarks.bfcl`. A table and a JSON line.

Every first step is held to a call. A call is valid if its arguments fit the tool's JSON Schema, by a validator that
knows nothing of the grammar; it is right if BFCL's own checker finds the function and the values it accepts. The
questions, the answers and the checker come from the package `bfcl-eval` (Apache-2.0), which `make bench-bfcl` puts
beside the peers without its dependencies.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import anyio
from jsonschema import Draft202012Validator

from agentkit import LocalEngine, SamplingParams
from agentkit.inference.base import StopReason, collect
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.inference.formats import format_for
from agentkit.inference.formats.base import ToolChoice
from agentkit.messages import Message, ToolSpec

PACKAGE = Path(__file__).parent.parent / ".peers" / "bfcl"
CATEGORIES = ("simple_python", "multiple")
INSTRUCTIONS = "You answer by calling a function."
MODEL_NAME = "agentkit"

# BFCL's names of types: https://github.com/ShishirPatil/gorilla, berkeley-function-call-leaderboard.
_TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": "string"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A conversation, the functions offered with it, and what the checker accepts."""

    id: str
    messages: tuple[Message, ...]
    functions: list[dict[str, Any]]
    accepted: list[dict[str, Any]]

    @property
    def tools(self) -> tuple[ToolSpec, ...]:
        """The functions as agentkit's tools."""
        return tuple(
            ToolSpec(
                name=function["name"],
                description=function["description"],
                parameters=json_schema(function["parameters"]),
            )
            for function in self.functions
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What one question led to. `problem` is a truncation, a parse error or what the checker found."""

    id: str
    called: bool
    valid: bool
    right: bool
    problem: str


def json_schema(node: Any) -> Any:
    """Return a BFCL schema as JSON Schema: its own names of types replaced, the rest as it is."""
    if isinstance(node, list):
        return [json_schema(item) for item in node]
    if not isinstance(node, dict):
        return node
    schema = {key: json_schema(value) for key, value in node.items() if key not in ("optional", "default")}
    name = node.get("type")
    return {**schema, "type": _TYPES.get(name, name)} if isinstance(name, str) else schema


def load_questions(package: Path, category: str, *, limit: int | None) -> list[Question]:
    """Read one category's questions with their accepted answers."""
    data = package / "bfcl_eval" / "data"
    asked = _rows(data / f"BFCL_v4_{category}.json")
    accepted = {
        row["id"]: row["ground_truth"] for row in _rows(data / f"possible_answer/BFCL_v4_{category}.json")
    }
    return [
        Question(
            id=row["id"],
            messages=(
                Message.system(INSTRUCTIONS),
                *(Message.user(message["content"]) for message in row["question"][0]),
            ),
            functions=row["function"],
            accepted=accepted[row["id"]],
        )
        for row in asked[:limit]
    ]


def load_checker(package: Path) -> Callable[..., dict[str, Any]]:
    """Import BFCL's checker alone.

    It looks one thing up in the table of all models, which would import every vendor's client: whether a model
    writes `_` for `.` in a name. Ours does not, and the table given here says so.
    """
    table = ModuleType("bfcl_eval.constants.model_config")
    table.__dict__["MODEL_CONFIG_MAPPING"] = {MODEL_NAME: SimpleNamespace(underscore_to_dot=False)}
    sys.modules[table.__name__] = table
    sys.path.insert(0, str(package))
    checker = importlib.import_module("bfcl_eval.eval_checker.ast_eval.ast_checker")
    python = importlib.import_module("bfcl_eval.constants.enums").Language.PYTHON
    return lambda question, calls, category: checker.ast_checker(
        question.functions, calls, question.accepted, python, category, MODEL_NAME
    )


async def ask(
    engine: LocalEngine,
    category: str,
    questions: Sequence[Question],
    check: Callable[..., dict[str, Any]],
    *,
    sessions: int,
) -> list[Row]:
    """Ask every question, several at a time."""
    rows: dict[str, Row] = {}
    waiting = list(reversed(questions))

    async def worker() -> None:
        while waiting:
            question = waiting.pop()
            rows[question.id] = await _ask(engine, category, question, check)

    async with anyio.create_task_group() as group:
        for _ in range(sessions):
            group.start_soon(worker)
    return [rows[question.id] for question in questions]


async def _ask(
    engine: LocalEngine, category: str, question: Question, check: Callable[..., dict[str, Any]]
) -> Row:
    chat = format_for(engine.tokenizer)
    completion = await collect(
        engine.generate(
            chat.render(question.messages, tools=question.tools),
            SamplingParams(max_tokens=256, stop_ids=chat.stop_ids),
            grammar=chat.call_grammar(question.tools, ToolChoice.REQUIRED),
        )
    )
    parser = chat.parser(question.tools)
    parser.feed(chat.output_text(completion.ids))
    parsed = parser.finish(truncated=completion.stop_reason is not StopReason.STOP_TOKEN)[1]
    if not parsed.calls:
        problem = ", ".join(issue.kind for issue in parsed.issues) or "text"
        return Row(id=question.id, called=False, valid=False, right=False, problem=problem)
    schemas = {tool.name: tool.parameters for tool in question.tools}
    valid = all(Draft202012Validator(schemas[call.name]).is_valid(call.arguments) for call in parsed.calls)
    verdict = check(question, [{call.name: call.arguments} for call in parsed.calls], category)
    problem = "" if verdict["valid"] else str(verdict["error_type"])
    return Row(id=question.id, called=True, valid=valid, right=bool(verdict["valid"]), problem=problem)


def _rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]


async def _measure(package: Path, *, limit: int | None, sessions: int) -> dict[str, Any]:
    check = load_checker(package)
    report: dict[str, Any] = {}
    async with AsyncExitStack() as stack:
        engine = await LocalEngine.load(EMBEDDED_MODEL)
        stack.push_async_callback(engine.close)
        for category in CATEGORIES:
            questions = load_questions(package, category, limit=limit)
            begun = time.perf_counter()
            rows = await ask(engine, category, questions, check, sessions=sessions)
            report[category] = {
                "questions": len(rows),
                "calls": sum(row.called for row in rows),
                "schema_valid": sum(row.valid for row in rows),
                "right": sum(row.right for row in rows),
                "problems": dict(Counter(row.problem for row in rows if row.problem).most_common()),
                "seconds": round(time.perf_counter() - begun, 1),
                "rows": [asdict(row) for row in rows],
            }
    return report


def main() -> None:
    """Print the shares, and every row as JSON."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--package", type=Path, default=PACKAGE, help="the folder that holds bfcl_eval")
    options.add_argument("--limit", type=int, help="only the first questions of each category")
    options.add_argument("--sessions", type=int, default=8, help="questions asked at a time")
    chosen = options.parse_args()
    if not (chosen.package / "bfcl_eval").is_dir():
        sys.exit(f"{chosen.package} has no bfcl_eval: `make bench-bfcl` installs it")
    report = anyio.run(lambda: _measure(chosen.package, limit=chosen.limit, sessions=chosen.sessions))
    print(f"{'category':<15}{'questions':>10}{'calls':>7}{'valid':>7}{'right':>7}{'seconds':>9}")
    for category, row in report.items():
        print(
            f"{category:<15}{row['questions']:>10}{row['calls']:>7}{row['schema_valid']:>7}{row['right']:>7}"
            f"{row['seconds']:>9}"
        )
    print(json.dumps(report))


if __name__ == "__main__":
    main()
