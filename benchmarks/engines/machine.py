"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
import statistics
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


_FLOATS_READ = 256 * 1024 * 1024
_READINGS = 5


def machine(threads: int) -> dict[str, Any]:
    """Return the processor, what it can do, memory, how fast so many threads read it, and how loaded it is now."""
    processor = Path("/proc/cpuinfo").read_text()
    memory = Path("/proc/meminfo").read_text()
    flags = set(_found(r"^flags\s*: (.*)$", processor).split())
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _found(r"^model name\s*: (.*)$", processor),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(int(_found(r"^MemTotal:\s*(\d+) kB", memory) or 0) / 1_000_000, 1),
        "read_gb_per_s": round(_read_gb_per_s(threads), 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


def _read_gb_per_s(threads: int) -> float:
    """Return the median speed of adding up a gigabyte: what a decode step cannot be faster than."""
    torch.set_num_threads(threads)
    content = torch.zeros(_FLOATS_READ)
    seconds = []
    for _ in range(_READINGS):
        started = time.perf_counter()
        content.sum()
        seconds.append(time.perf_counter() - started)
    return content.nbytes / statistics.median(seconds) / 1e9


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else ""
