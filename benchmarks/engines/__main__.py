"""agentkit beside other engines: `python -m benchmarks.engines`. Writes JSON, a table and a plot.

Peers are those that `make bench-peers` installed. `--quick` runs tiny workloads, agentkit alone unless told otherwise.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from benchmarks.engines.lineup import REFERENCE, ROOT, Contender, contenders, weights_of
from benchmarks.engines.machine import machine
from benchmarks.engines.plot import plot
from benchmarks.engines.race import Race, Result
from benchmarks.engines.report import report
from benchmarks.engines.run import Run
from benchmarks.engines.workloads import FULL, QUICK, Sizes, workload_names

ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write and print the results; exit 1 where an engine that was asked for could not be measured."""
    asked = _parser().parse_args(arguments)
    sizes = QUICK if asked.quick else FULL
    chosen = _chosen(asked.engines, quick=asked.quick)
    workloads = asked.workloads or workload_names(sizes)
    rounds = 1 if asked.quick else asked.rounds
    before, started = machine(), time.perf_counter()
    result = _race(chosen, sizes, workloads, rounds, asked)
    run = Run(
        sizes=sizes,
        threads=asked.threads,
        rounds=rounds,
        seconds=time.perf_counter() - started,
        machine=before,
        result=result,
    )
    asked.output.mkdir(parents=True, exist_ok=True)
    (asked.output / "engines.json").write_text(run.as_json())
    (asked.output / "engines.txt").write_text(report(run))
    (asked.output / "engines.svg").write_text(plot(run))
    print(report(run))
    return 1 if asked.engines and result.left_out else 0


def _race(
    chosen: list[Contender], sizes: Sizes, workloads: list[str], rounds: int, asked: argparse.Namespace
) -> Result:
    with ExitStack() as stack:
        race = Race(stack, threads=asked.threads)
        for contender in chosen:
            _start(race, contender, quick=asked.quick)
        if len(chosen) > 1:
            race.compare_outputs(resolve(EMBEDDED_MODEL).path)
        race.run(workloads, sizes, rounds=rounds, seed=asked.seed)
        return race.result


def _start(race: Race, contender: Contender, *, quick: bool) -> None:
    reason = contender.why_not()
    if reason is not None:
        race.leave_out(contender.name, reason)
        return
    try:
        # The embedded file dequantises to the same weights, and need not be written for a smoke test.
        model = EMBEDDED_MODEL if quick and contender == REFERENCE else weights_of(contender)
    except subprocess.CalledProcessError as error:
        race.leave_out(contender.name, f"its weights could not be converted: {error}")
        return
    race.start(contender, model)


def _chosen(names: list[str] | None, *, quick: bool) -> list[Contender]:
    known = {contender.name: contender for contender in contenders()}
    if not names:
        return [REFERENCE] if quick else list(known.values())
    unknown = [name for name in names if name not in known]
    if unknown:
        sys.exit(f"unknown: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    parser.add_argument(
        "--engines", nargs="+", metavar="NAME", help="such as 'agentkit fp32'; all by default"
    )
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="such as agent; all by default")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the token ids")
    parser.add_argument("--quick", action="store_true", help="tiny workloads, one round, agentkit alone")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser


if __name__ == "__main__":
    sys.exit(main())
