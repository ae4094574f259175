"""A whole run: what was asked, on which machine, and everything that was found. Writes itself as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from benchmarks.engines.figures import Figures, Question, figures, num_rounds, questions
from benchmarks.engines.race import Result
from benchmarks.engines.workloads import Sizes


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run; `machine` is as it was before the first process was started."""

    sizes: Sizes
    threads: int
    rounds: int
    seconds: float
    machine: dict[str, Any]
    result: Result

    @cached_property
    def questions(self) -> tuple[Question, ...]:
        """What the run answers."""
        return questions(self.sizes)

    @cached_property
    def figures(self) -> Figures:
        """The answers."""
        return figures(self.result.samples, self.sizes)

    @property
    def num_rounds(self) -> dict[str, dict[str, int]]:
        """How many rounds each contender has of each workload."""
        return num_rounds(self.result.samples)

    @property
    def caption(self) -> str:
        """One line that says what was run, and whether the figures are worth keeping."""
        load = self.highest_load
        # The engine that was measured last is in the load average itself, with all its threads.
        noise = f"; NOISY, load average up to {load:.1f}" if load > self.threads + 1 else ""
        when = self.machine["date"]
        return (
            f"SmolLM2-135M, {self.threads} threads, {self.rounds} rounds, {self.seconds:.0f} s, {when}{noise}"
        )

    @property
    def highest_load(self) -> float:
        """The highest load average before a sample."""
        return max((sample.load_average for sample in self.result.samples), default=0.0)

    def as_json(self) -> str:
        """Return everything, the samples included."""
        document = {
            "caption": self.caption,
            "machine": self.machine,
            "sizes": asdict(self.sizes),
            "threads": self.threads,
            "rounds": self.num_rounds,
            "meanings": {question.name: question.meaning for question in self.questions},
            "figures": self.figures,
            **asdict(self.result),
        }
        return json.dumps(document, indent=1) + "\n"
