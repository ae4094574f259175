"""Runs of the engine benchmark with made-up times."""

from __future__ import annotations

from benchmarks.engines.agreement import Agreement
from benchmarks.engines.figures import Sample
from benchmarks.engines.race import Result
from benchmarks.engines.run import Run
from benchmarks.engines.workloads import FULL, Sizes
from benchmarks.peers.protocol import Answer, Turn


def answer(
    *, first: float = 0.5, seconds: float = 1.0, ids: int = 5, turns: int = 1, sessions: int = 1
) -> Answer:
    turn = Turn(ids=list(range(ids)), first_seconds=first, seconds=seconds)
    return Answer(
        turns=[[turn] * turns for _ in range(sessions)],
        system_seconds=1.0,
        turns_seconds=seconds * turns,
        peak_mb=100.0,
    )


def sample(contender: str, workload: str, given: Answer, *, number: int = 0, load: float = 0.5) -> Sample:
    return Sample(contender=contender, workload=workload, round=number, load_average=load, answer=given)


def run(*samples: Sample, sizes: Sizes = FULL, left_out: dict[str, str] | None = None) -> Run:
    names = dict.fromkeys(sample.contender for sample in samples)
    result = Result(
        samples=list(samples),
        versions={name: {"engine": "1.0"} for name in names},
        agreements={name: Agreement(alone=192, together=64, of=192) for name in list(names)[1:]},
        left_out=left_out or {},
    )
    machine = {
        "date": "today",
        "processor": "P",
        "instructions": ["avx2"],
        "cores": 2,
        "memory_gb": 8.0,
        "read_gb_per_s": 20.0,
    }
    return Run(sizes=sizes, threads=2, rounds=1, seconds=3.0, machine=machine, result=result)
