"""What agentkit is held to on a CPU, and whether a run's figures meet it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.engines.figures import Figures, Question
from benchmarks.engines.lineup import PRECISIONS, name_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """A bound: on how many times as good as a rival agentkit is, or on a figure of its own."""

    question: str
    contender: str
    rival: str | None = None
    bound: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A target and what was measured of it."""

    target: Target
    value: float
    met: bool


_RIVALS = ("transformers", "llama_cpp", "openvino", "vllm")

TARGETS = (
    Target(question="decode", contender="agentkit", rival="transformers", bound=2.0),
    Target(question="decode", contender="agentkit", rival="openvino", bound=1.0),
    Target(question="decode", contender="agentkit-int8", rival="llama_cpp-int8", bound=0.8),
    *(
        Target(
            question="agent",
            contender=name_of("agentkit", precision),
            rival=name_of(engine, precision),
            bound=1.0,
        )
        for precision in PRECISIONS
        for engine in _RIVALS
    ),
    Target(question="warm / forward", contender="agentkit", bound=1.1),
    Target(question="sessions / one", contender="agentkit", bound=2.0),
)


def outcomes(questions: Sequence[Question], figures: Figures) -> list[Outcome]:
    """Return the outcome of every target that the run measured."""
    by_name = {question.name: question for question in questions}
    return [
        outcome
        for target in TARGETS
        if (outcome := _outcome(target, by_name[target.question], figures)) is not None
    ]


def advantage(question: Question, figures: Figures, contender: str, rival: str) -> float | None:
    """Return how many times as good as its rival a contender is; None where one of them has no figure."""
    of = figures[question.name]
    if contender not in of or rival not in of:
        return None
    return of[contender] / of[rival] if question.higher_is_better else of[rival] / of[contender]


def _outcome(target: Target, question: Question, figures: Figures) -> Outcome | None:
    if target.rival is not None:
        value = advantage(question, figures, target.contender, target.rival)
        at_least = True
    else:
        value = figures[question.name].get(target.contender)
        at_least = question.higher_is_better
    if value is None:
        return None
    return Outcome(
        target=target, value=value, met=value >= target.bound if at_least else value <= target.bound
    )
