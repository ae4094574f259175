"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

_INSTRUCTIONS = ("avx2", "avx_vnni", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")


def machine() -> dict[str, Any]:
    """Return the processor, what it can do, memory, and how loaded it is now."""
    processor = Path("/proc/cpuinfo").read_text()
    memory = Path("/proc/meminfo").read_text()
    flags = set(_found(r"^flags\s*: (.*)$", processor).split())
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _found(r"^model name\s*: (.*)$", processor),
        "instructions": [name for name in _INSTRUCTIONS if name in flags],
        "cores": os.cpu_count(),
        "memory_gb": round(int(_found(r"^MemTotal:\s*(\d+) kB", memory) or 0) / 1_000_000, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg(),
    }


def _found(pattern: str, text: str) -> str:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1].strip() if found else ""
