"""`python -m benchmarks.load_vllm [--seconds 120] [--sessions 64]`: a table, and JSON in benchmarks/results.

Two rounds: over one vLLM server, and over two of which one is killed at half-time and stays dead. In both two workers
share a PostgreSQL database, and every turn of a session goes to the other worker. A turn calls a tool that writes a
row. Needs what `make test-vllm` and `make services` install, and 8 GB of memory.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.to_thread

from agentkit.memory import open_store
from benchmarks.engines.machine import machine
from benchmarks.load_vllm.driver import Outcome, drive, running_workers, session_names
from benchmarks.load_vllm.effects import Verdict, make_table, verdict
from benchmarks.vllm_server import VLLMServer, running, why_not
from tests.postgres_server import PostgresServer, find_postgres, running_postgres

RESULTS: Final = Path(__file__).parents[1] / "results" / "load_vllm.json"


def main() -> int:
    """Run the rounds; fail if an effect was lost or doubled."""
    arguments = _arguments()
    binaries, reason = find_postgres(), why_not()
    if reason is not None or binaries is None:
        print(f"skipped: {reason or 'PostgreSQL: not installed (make services)'}")
        return 0
    with running_postgres(binaries) as postgres, running(2) as servers:
        rounds = {"one server": (servers[:1], None), "two, one killed": (servers, servers[0])}
        rows = [
            anyio.run(_round, name, postgres, used, killed, arguments.sessions, arguments.seconds)
            for name, (used, killed) in rounds.items()
        ]
    report = {"machine": machine(os.cpu_count() or 1), "sessions": arguments.sessions, "rounds": rows}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(report, indent=1) + "\n")
    print("\n".join(_table(rows)))
    return sum(row["lost"] + row["doubled"] + row["unknown"] for row in rows)


async def _round(
    name: str,
    postgres: PostgresServer,
    servers: Sequence[VLLMServer],
    killed: VLLMServer | None,
    num_sessions: int,
    seconds: float,
) -> dict[str, Any]:
    """Run one round, in a database of its own and with tenants whose prefixes no server holds yet."""
    postgres.execute(f'CREATE DATABASE "load{len(servers)}"')
    database = postgres.url(database=f"load{len(servers)}")
    make_table(database)
    sessions = session_names(num_sessions, tenants=f"round-{len(servers)}")
    async with (
        running_workers(database, [server.url for server in servers]) as workers,
        anyio.create_task_group() as tasks,
    ):
        if killed is not None:
            tasks.start_soon(_kill_later, killed, seconds / 2)
        outcome = await drive(workers, sessions, seconds=seconds)
    store = open_store(database)
    found = await verdict(database, store, sessions)
    await store.close()
    row = _row(name, outcome, found)
    print(json.dumps(row), flush=True)
    return row


async def _kill_later(server: VLLMServer, seconds: float) -> None:
    await anyio.sleep(seconds)
    await anyio.to_thread.run_sync(server.kill)


def _row(name: str, outcome: Outcome, found: Verdict) -> dict[str, Any]:
    calls = [call for done in outcome.done for call in done.calls]
    firsts = sorted(call.first_token for call in calls)
    prompt = sum(call.prompt_tokens for call in calls)
    errors = sorted({done.error for done in outcome.done if done.error is not None})
    return {
        "round": name,
        "seconds": round(outcome.seconds, 1),
        "turns": len(outcome.done),
        "failed_turns": sum(done.error is not None for done in outcome.done),
        "errors": errors,
        "output_tokens_a_second": round(sum(call.output_tokens for call in calls) / outcome.seconds, 1),
        "first_token_p50": round(_quantile(firsts, 0.5), 2),
        "first_token_p95": round(_quantile(firsts, 0.95), 2),
        "cached_share": round(sum(call.cached_tokens for call in calls) / prompt, 3) if prompt else 0.0,
        **asdict(found),
    }


def _quantile(ordered: list[float], share: float) -> float:
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def _table(rows: list[dict[str, Any]]) -> list[str]:
    names = [name for name in rows[0] if name != "errors"]
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * len(names) + "|"]
    return [*lines, *(f"| {' | '.join(str(row[name]) for name in names)} |" for row in rows)]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.load_vllm", description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="how long turns are begun in each round")
    parser.add_argument("--sessions", type=int, default=64, help="how many sessions talk at once")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
