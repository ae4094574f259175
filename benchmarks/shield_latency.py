"""How long each built-in shield takes: p50 and p95 in milliseconds, cold and warm, and rows judged in batches.

    python -m benchmarks.shield_latency [--json FILE]

Warm is a check of a shield that has judged before, of a text that it has not; cold is the first check of 2 KB in a new
process, and `start` what comes before it. Guard models have random weights (see `guard_models`): the times are theirs,
the verdicts are nobody's. A probe reads with the embedded model, apart from any agent. Prose is judged, and by
`code_shield` Python's standard library.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import anyio
import numpy as np
from rich.console import Console
from rich.table import Table

from agentkit.inference.base import Engine
from agentkit.inference.catalog import EMBEDDED_MODEL
from agentkit.messages import USER
from agentkit.shields.base import BatchShield, Shield, ShieldInput, Stage
from agentkit.shields.engine_address import EngineAddress
from agentkit.shields.registry import find_shield
from benchmarks.shield_quality import library_sources

_BYTES: Final = (200, 2_000, 20_000)
_WITHOUT_MODEL: Final = ("instruction_override", "secrets", "pii", "code_shield")
_WITH_MODEL: Final = ("probe", "prompt_guard", "llama_guard")
_CHECKS: Final = {200: 200, 2_000: 100, 20_000: 30}
_CHECKS_OF_MODEL: Final = {200: 10, 2_000: 5, 20_000: 2}
_COLD_BYTES: Final = 2_000
_PROCESSES: Final = 3
_ROWS: Final = 32
_SENTENCES: Final = (
    "The meeting about the budget is on Tuesday, and everyone who has a question should bring it along. ",
    "It rained in Paris for most of the week, so the museum was fuller than usual. ",
    "Please write down what you changed and why; the next person will want to know. ",
)


async def _started(name: str, encoder: Path) -> Shield:
    """Return a built-in shield, started, with a model of random weights where it takes a guard."""
    options = {
        "prompt_guard": {"model": str(encoder)},
        "llama_guard": {"model": "Llama-Guard-3-8B"},
        "probe": {"head": "injection"},
    }
    shield = find_shield(name).build(options.get(name, {}), engines=_engine)
    await shield.start()
    return shield


async def _engine(reference: str | EngineAddress) -> Engine:
    # torch, for the shields that ask for it
    from agentkit.inference.engine import LocalEngine
    from benchmarks.guard_models import llama_guard_engine

    return await LocalEngine.load(EMBEDDED_MODEL) if reference == EMBEDDED_MODEL else llama_guard_engine()


def _contents(name: str, size: int, count: int) -> list[ShieldInput]:
    """Return different texts of a size in bytes; the first line differs, so that no prefix is known already."""
    stage = Stage.CODE if name == "code_shield" else Stage.USER_INPUT
    source = _code() if stage is Stage.CODE else "".join(_SENTENCES) * 200
    texts = []
    for number in range(count):
        start = (number * 977) % max(1, len(source) - size)
        beginning = f"# {number}\n" if stage is Stage.CODE else f"Note {number}. "
        texts.append((beginning + source[start:])[:size])
    language = "python" if stage is Stage.CODE else None
    return [ShieldInput(text=text, stage=stage, provenance=USER, language=language) for text in texts]


@cache
def _code() -> str:
    return "\n".join(library_sources()[:40])


async def _milliseconds(shield: Shield, contents: Sequence[ShieldInput]) -> list[float]:
    times = []
    for content in contents:
        before = time.perf_counter()
        await shield.check(content)
        times.append(1000 * (time.perf_counter() - before))
    return times


async def measure_warm(name: str, encoder: Path) -> dict[str, Any]:
    """Return p50 and p95 by size, and for a shield that judges batches the rows a second, alone and together."""
    shield = await _started(name, encoder)
    checks = _CHECKS_OF_MODEL if name in _WITH_MODEL else _CHECKS
    report: dict[str, Any] = {}
    for size in _BYTES:
        await _milliseconds(shield, _contents(name, size, 1))
        report[str(size)] = _quantiles(
            await _milliseconds(shield, _contents(name, size, checks[size] + 1)[1:])
        )
    if isinstance(shield, BatchShield):
        report["rows_per_second"] = await _rates(shield, name)
    await shield.close()
    return report


async def _rates(shield: BatchShield, name: str) -> dict[str, float]:
    rows = _contents(name, 200, 2 * _ROWS)
    alone = sum(await _milliseconds(shield, rows[:_ROWS])) / 1000
    before = time.perf_counter()
    await shield.check_batch(rows[_ROWS:])
    return {"alone": _ROWS / alone, "together": _ROWS / (time.perf_counter() - before)}


async def measure_cold(name: str, encoder: Path) -> dict[str, float]:
    """Return what starting a shield and its first check take in this process, which has done nothing else."""
    before = time.perf_counter()
    shield = await _started(name, encoder)
    started = time.perf_counter()
    [first] = await _milliseconds(shield, _contents(name, _COLD_BYTES, 1))
    return {"start": 1000 * (started - before), "first": first}


def _cold(name: str, encoder: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.shield_latency", "--cold", name, "--encoder", str(encoder)]
    samples = [
        json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        for _ in range(_PROCESSES)
    ]
    return {key: _quantiles([sample[key] for sample in samples]) for key in ("start", "first")}


def _quantiles(times: Sequence[float]) -> dict[str, float]:
    return {"p50": float(np.quantile(times, 0.5)), "p95": float(np.quantile(times, 0.95)), "n": len(times)}


def machine() -> dict[str, Any]:
    """Return what the figures hold for."""
    packages = ("numpy", "tokenizers", "torch", "transformers")
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "threads": os.environ.get("OMP_NUM_THREADS", "as many as cores"),
        "python": platform.python_version(),
        **{name: version(name) for name in packages},
    }


def _processor() -> str:
    information = Path("/proc/cpuinfo")
    lines = information.read_text().splitlines() if information.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def show(report: dict[str, Any], console: Console) -> None:
    """Print the table."""
    table = Table(
        "shield", "start", "cold 2 KB", "warm 200 B", "warm 2 KB", "warm 20 KB", title="p50 / p95, ms"
    )
    for name, row in report["shields"].items():
        cells = [row["cold"]["start"], row["cold"]["first"], *(row["warm"][str(size)] for size in _BYTES)]
        table.add_row(name, *(f"{cell['p50']:.1f} / {cell['p95']:.1f}" for cell in cells))
    console.print(table)
    for name, row in report["shields"].items():
        rates = row["warm"].get("rows_per_second")
        if rates:
            console.print(
                f"{name}: {rates['alone']:.1f} rows of 200 B a second, {rates['together']:.1f} in groups of {_ROWS}"
            )
    console.print(", ".join(f"{name} {value}" for name, value in report["machine"].items()))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", type=Path, help="write the figures here too")
    parser.add_argument(
        "--cold", choices=(*_WITHOUT_MODEL, *_WITH_MODEL), help="measure this one's start alone"
    )
    parser.add_argument("--encoder", type=Path, default=Path(), help="the folder of prompt_guard's model")
    arguments = parser.parse_args()
    if arguments.cold:
        json.dump(anyio.run(measure_cold, arguments.cold, arguments.encoder), sys.stdout)
        return
    from benchmarks.guard_models import write_prompt_guard  # torch, which a cold start must not find loaded

    with tempfile.TemporaryDirectory() as folder:
        encoder = write_prompt_guard(Path(folder))
        shields = {
            name: {"cold": _cold(name, encoder), "warm": anyio.run(measure_warm, name, encoder)}
            for name in (*_WITHOUT_MODEL, *_WITH_MODEL)
        }
    report = {"machine": machine(), "shields": shields}
    show(report, Console(width=120))
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
