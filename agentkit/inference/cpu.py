"""What this machine's processor is fast at. Knows no model."""

from __future__ import annotations

import torch


def multiplies_bfloat16() -> bool:
    """Whether this CPU has instructions for products of bfloat16: without them, torch's are very slow."""
    if not hasattr(torch.cpu, "get_capabilities"):  # torch before 2.10
        return False
    capabilities = torch.cpu.get_capabilities()
    return bool(capabilities.get("amx_bf16") or capabilities.get("avx512_bf16"))
