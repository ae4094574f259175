"""agentkit beside other engines: `python -m benchmarks.engines`. Writes JSON, a table and a plot.

Peers are those that `make bench-peers` installed. `--quick` runs tiny workloads.
"""

from __future__ import annotations

import argparse
import math
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from agentkit.inference.catalog import EMBEDDED_MODEL, resolve
from benchmarks.engines.budget import rounds_within
from benchmarks.engines.lineup import REFERENCE, ROOT, Contender, contenders, usual_contenders, weights_of
from benchmarks.engines.machine import machine
from benchmarks.engines.plot import plot
from benchmarks.engines.race import Race
from benchmarks.engines.report import report
from benchmarks.engines.run import Run
from benchmarks.engines.workloads import FULL, QUICK, workload_names

ROUNDS = 5


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, write and print the results; exit 1 where an engine that was asked for could not be measured."""
    parser = _parser()
    asked = parser.parse_args(arguments)
    sizes = QUICK if asked.quick else FULL
    chosen = [REFERENCE] if asked.quick else list(usual_contenders())
    if asked.engines:
        chosen = [_named(name, parser) for name in asked.engines]
    workloads = asked.workloads or workload_names(sizes)
    for name in set(workloads) - set(workload_names(sizes)):
        parser.error(f"no workload is called {name!r}; there are {', '.join(workload_names(sizes))}")
    rounds = _rounds(asked, parser)
    before, started = machine(asked.threads), time.monotonic()
    with ExitStack() as stack:
        race = Race(stack, threads=asked.threads)
        for contender in chosen:
            _start(race, contender, quick=asked.quick)
        if len(chosen) > 1:
            race.compare_outputs(resolve(EMBEDDED_MODEL).path)
        ends = started + asked.budget_minutes * 60
        for number in rounds_within(ends, rounds, time.monotonic):
            race.run_round(number, workloads, sizes, seed=asked.seed)
            run = Run(
                sizes=sizes,
                threads=asked.threads,
                rounds=number + 1,
                seconds=time.monotonic() - started,
                machine=before,
                result=race.result,
            )
            _write(run, asked.output)  # hours of rounds survive an interrupted one
    print((asked.output / "engines.txt").read_text())
    return 1 if asked.engines and race.result.left_out else 0


def _write(run: Run, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "engines.json").write_text(run.as_json())
    (folder / "engines.txt").write_text(report(run))
    (folder / "engines.svg").write_text(plot(run))


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


def _named(name: str, parser: argparse.ArgumentParser) -> Contender:
    known = {contender.name: contender for contender in contenders()}
    if name not in known:
        parser.error(f"no engine is called {name!r}; there are {', '.join(known)}")
    return known[name]


def _rounds(asked: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if asked.rounds is None:
        return 1 if asked.quick else ROUNDS
    if asked.rounds < 1:
        parser.error(f"--rounds must be at least 1, got {asked.rounds}")
    return int(asked.rounds)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.engines", description=__doc__)
    names = ", ".join(contender.name for contender in contenders())
    usual = "all but bf16 of other engines by default"
    parser.add_argument("--engines", nargs="+", metavar="NAME", help=f"of {names}; {usual}")
    parser.add_argument("--workloads", nargs="+", metavar="NAME", help="such as agent; all by default")
    parser.add_argument("--rounds", type=int, help=f"{ROUNDS} by default, and 1 with --quick")
    parser.add_argument(
        "--budget-minutes",
        type=float,
        default=math.inf,
        help="begin no round that would end later, but for the first one; no bound by default",
    )
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the token ids")
    parser.add_argument("--quick", action="store_true", help="tiny workloads, and agentkit alone by default")
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "results")
    return parser


if __name__ == "__main__":
    # Exit as an exception does, so that stopped processes do not stay behind.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    sys.exit(main())
