"""A run as text: figures, agentkit's advantage at like precision, targets, and who was left out."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.engines.figures import Figures, Question, short
from benchmarks.engines.lineup import REFERENCE, engine_and_precision, name_of
from benchmarks.engines.race import Result
from benchmarks.engines.run import Run
from benchmarks.engines.targets import advantage, outcomes
from benchmarks.engines.workloads import FULL


def report(run: Run) -> str:
    """Return the report; agentkit's advantage is above 1 where it is the better one."""
    questions, figures = run.questions, run.figures
    parts = [
        _conditions(run),
        _grid([_header(questions), *_measured(run)]),
        _grid([["agentkit's advantage over", *_names(questions)], *_advantages(questions, figures)]),
        _grid(_targets(questions, figures)) if run.sizes == FULL else "",
        "\n".join(f"{question.name}: {question.meaning}" for question in questions),
        "\n".join(f"left out: {name}: {reason}" for name, reason in run.result.left_out.items()),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _conditions(run: Run) -> str:
    machine = run.machine
    versions = {f"{package} {of}" for used in run.result.versions.values() for package, of in used.items()}
    lines = (
        run.caption,
        f"{machine['cores']} cores of {machine['processor']} ({', '.join(machine['instructions'])}), "
        f"{machine['memory_gb']} GB, read at {machine['read_gb_per_s']} GB/s",
        ", ".join(sorted(versions)),
    )
    return "\n".join(lines)


def _names(questions: Sequence[Question]) -> list[str]:
    return [question.name for question in questions]


def _header(questions: Sequence[Question]) -> list[str]:
    return [
        "medians",
        *(f"{question.name}, {question.unit}" for question in questions),
        "rounds",
        "same ids alone",
        "together",
    ]


def _measured(run: Run) -> list[list[str]]:
    rows = []
    for name in run.result.versions:
        cells = [short(run.figures[question.name].get(name)) for question in run.questions]
        rows.append([name, *cells, _rounds(run.num_rounds.get(name, {})), *_agreed(name, run.result)])
    return rows


def _rounds(by_workload: dict[str, int]) -> str:
    """Return how many rounds the figures of a row are medians of."""
    fewest, most = min(by_workload.values(), default=0), max(by_workload.values(), default=0)
    return str(most) if fewest == most else f"{fewest} to {most}"


def _agreed(name: str, result: Result) -> list[str]:
    agreement = result.agreements.get(name)
    if agreement is None:
        return ["reference", "reference"] if name == REFERENCE.name else ["-", "-"]
    return [f"{agreement.alone}/{agreement.of}", f"{agreement.together}/{agreement.of}"]


def _advantages(questions: Sequence[Question], figures: Figures) -> list[list[str]]:
    contenders = dict.fromkeys(name for of in figures.values() for name in of)
    rows = []
    for rival in contenders:
        engine, precision = engine_and_precision(rival)
        ours = name_of(REFERENCE.engine, precision)
        if engine != REFERENCE.engine and ours in contenders:
            values = [advantage(question, figures, ours, rival) for question in questions]
            rows.append([rival, *map(short, values)])
    return rows


def _targets(questions: Sequence[Question], figures: Figures) -> list[list[str]]:
    rows = [["target", "bound", "measured", ""]]
    for outcome in outcomes(questions, figures):
        target = outcome.target
        rival = f" over {target.rival}" if target.rival else ""
        verdict = "met" if outcome.met else "MISSED"
        name = f"{target.contender}{rival}: {target.question}"
        rows.append([name, short(target.bound), short(outcome.value), verdict])
    return rows


def _grid(rows: list[list[str]]) -> str:
    """Return rows as aligned columns; nothing where there is only the header."""
    if len(rows) < 2:
        return ""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if index == 0 else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
