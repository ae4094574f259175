"""From the samples of a run to one figure for each engine and question: medians of rounds, and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.engines.workloads import Sizes
from benchmarks.peers.protocol import Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One engine's answer to one workload in one round, and how loaded the machine was before it."""

    contender: str
    workload: str
    round: int
    load_average: float
    answer: Answer


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a column of the table asks."""

    name: str
    unit: str
    higher_is_better: bool


Figures = dict[str, dict[str, float]]
"""By question, then by contender."""


def questions(sizes: Sizes) -> tuple[Question, ...]:
    """Return what a run answers, in the table's order."""
    prefills = (f"prefill {length}" for length in sizes.prefills)
    return (
        Question(name="decode", unit="tokens/s", higher_is_better=True),
        *(Question(name=name, unit="tokens/s", higher_is_better=True) for name in prefills),
        Question(name="agent", unit="s", higher_is_better=False),
        Question(name="one session", unit="tokens/s", higher_is_better=True),
        Question(name=f"{sizes.sessions} sessions", unit="tokens/s", higher_is_better=True),
        Question(name="sessions / one", unit="x", higher_is_better=True),
        Question(name="warm first token", unit="ms", higher_is_better=False),
        Question(name="warm / alone", unit="x", higher_is_better=False),
        Question(name="peak memory", unit="MB", higher_is_better=False),
    )


def figures(samples: Sequence[Sample], sizes: Sizes) -> Figures:
    """Return every figure that the samples allow."""
    names = dict.fromkeys(sample.contender for sample in samples)
    return {
        question.name: {
            name: figure
            for name in names
            if (figure := _figure(question.name, [s for s in samples if s.contender == name], sizes))
            is not None
        }
        for question in questions(sizes)
    }


def _figure(question: str, samples: Sequence[Sample], sizes: Sizes) -> float | None:
    def median(workload: str, of: Callable[[Answer], float]) -> float | None:
        values = [of(sample.answer) for sample in samples if sample.workload == workload]
        return statistics.median(values) if values else None

    match question.split():
        case ["decode"]:
            return median("decode", _decode_speed)
        case ["prefill", length]:
            return median(question, lambda answer: int(length) / _first_seconds(answer))
        case ["agent"]:
            return median("agent", lambda answer: answer.system_seconds + answer.turns_seconds)
        case ["one", "session"]:
            return median("agent", _throughput)
        case [_, "sessions"]:
            return median("sessions", _throughput)
        case ["sessions", "/", "one"]:
            return _ratio(median("sessions", _throughput), median("agent", _throughput))
        case ["warm", "first", "token"]:
            return _ratio(median("agent", _warm_seconds), 0.001)
        case ["warm", "/", "alone"]:
            alone = median(f"prefill {sizes.warm_prefill}", _first_seconds)
            return _ratio(median("agent", _warm_seconds), alone)
        case ["peak", "memory"]:
            return max((sample.answer.peak_mb for sample in samples), default=None)
        case _:
            raise ValueError(f"nothing answers {question!r}")


def _ratio(above: float | None, below: float | None) -> float | None:
    return None if above is None or below is None else above / below


def _first_seconds(answer: Answer) -> float:
    return answer.turns[0][0].first_seconds


def _decode_speed(answer: Answer) -> float:
    turn = answer.turns[0][0]
    return (len(turn.ids) - 1) / (turn.seconds - turn.first_seconds)


def _throughput(answer: Answer) -> float:
    """Return the generated tokens of all turns by the time they took together; the system prompt is cached."""
    return sum(len(turn.ids) for turns in answer.turns for turn in turns) / answer.turns_seconds


def _warm_seconds(answer: Answer) -> float:
    """Return the median time to the first token of the turns after the first one."""
    return statistics.median(turn.first_seconds for turns in answer.turns for turn in turns[1:])
