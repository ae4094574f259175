"""From the samples of a run to one figure for each engine and question: medians of rounds, and ratios."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.engines.workloads import FORWARD, Sizes
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
    """What a column of the table asks, and in a few words how it is answered."""

    name: str
    unit: str
    higher_is_better: bool
    meaning: str


Figures = dict[str, dict[str, float]]
"""By question, then by contender."""


def questions(sizes: Sizes) -> tuple[Question, ...]:
    """Return what a run answers, in the table's order."""
    return (
        _speed(
            "decode", f"after the first of {sizes.decode_output} tokens, {sizes.decode_prompt} before them"
        ),
        *(
            _speed(f"prefill {length}", "the prompt by the time to its first token")
            for length in sizes.prefills
        ),
        Question(
            name="agent",
            unit="s",
            higher_is_better=False,
            meaning=f"a prompt of {sizes.system} tokens, then {sizes.turns} turns of {sizes.turn_input} new tokens "
            f"and {sizes.turn_output} generated ones",
        ),
        _speed(
            "one session", "generated in the agent workload by the time of all its turns, without the prompt"
        ),
        _speed(f"{sizes.sessions} sessions", "the same of so many at once, after one prompt that they share"),
        Question(
            name="sessions / one",
            unit="x",
            higher_is_better=True,
            meaning="the throughput of the sessions at once by that of one",
        ),
        Question(
            name="warm first token",
            unit="ms",
            higher_is_better=False,
            meaning="median time to the first token of the agent workload's turns after the first one",
        ),
        Question(
            name="warm / forward",
            unit="x",
            higher_is_better=False,
            meaning=f"that by one forward pass of the bare model over the same {sizes.warm_prefill} tokens, which the "
            "cache has not, at the same positions behind the same cached ones",
        ),
        Question(
            name="cold first token",
            unit="ms",
            higher_is_better=False,
            meaning=f"a prompt of {sizes.warm_prefill} tokens alone: as many as a warm turn computes, behind nothing",
        ),
        Question(
            name="peak memory",
            unit="MB",
            higher_is_better=False,
            meaning="the most that the engine's process has had, from its start on",
        ),
    )


def short(value: float | None) -> str:
    """Return a figure with three digits or as an integer; a dash where there is none."""
    if value is None:
        return "-"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def num_rounds(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    """Return by contender and workload how many samples there are."""
    found: dict[str, dict[str, int]] = {}
    for sample in samples:
        of = found.setdefault(sample.contender, {})
        of[sample.workload] = of.get(sample.workload, 0) + 1
    return found


def _speed(name: str, meaning: str) -> Question:
    return Question(name=name, unit="tokens/s", higher_is_better=True, meaning=meaning)


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
        case ["warm", "/", "forward"]:
            return _ratio(median("agent", _warm_seconds), median(FORWARD, _warm_seconds))
        case ["cold", "first", "token"]:
            return _ratio(median(f"prefill {sizes.warm_prefill}", _first_seconds), 0.001)
        case ["peak", "memory"]:
            engine = [sample for sample in samples if sample.workload != FORWARD]
            return max((sample.answer.peak_mb for sample in engine), default=None)
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
