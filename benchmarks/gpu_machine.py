"""What the machine can do at best: read bandwidth, bf16 matrix products, memory; and how time is taken on it."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

GIB = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Floors:
    """Bytes read and bf16 floating-point operations, each per second: the best that was measured."""

    bytes_per_second: float
    operations_per_second: float


class Machine:
    """A device, its clock and its memory."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.is_gpu = device.type == "cuda"

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return torch.cuda.get_device_name(self.device) if self.is_gpu else "CPU"

    def synchronize(self) -> None:
        """Wait until all that was asked for is done."""
        if self.is_gpu:
            torch.cuda.synchronize(self.device)

    def free_bytes(self) -> int:
        """Return how much memory can be had."""
        if self.is_gpu:
            torch.cuda.empty_cache()
            return int(torch.cuda.mem_get_info(self.device)[0])
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")

    def seconds(self, work: Callable[[], object]) -> float:
        """Return how long work takes, the device's part included."""
        self.synchronize()
        started = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - started

    def median_seconds(self, work: Callable[[], object], *, repetitions: int) -> float:
        """Return the median of some repetitions, after as many that warm up."""
        for _ in range(repetitions):
            work()
        return statistics.median(self.seconds(work) for _ in range(repetitions))

    def floors(self, *, buffer_bytes: int, matrix_size: int) -> Floors:
        """Measure them; the buffer must be much larger than every cache."""
        return Floors(
            bytes_per_second=self._bytes_per_second(buffer_bytes),
            operations_per_second=self._operations_per_second(matrix_size),
        )

    def _bytes_per_second(self, buffer_bytes: int) -> float:
        """Return the better of reading alone, and of reading and writing."""
        # Not zeros: with them, some devices are faster than with real data.
        source = torch.randn(buffer_bytes // 4, device=self.device)
        target = torch.empty_like(source)
        summing = self.median_seconds(source.sum, repetitions=10)
        copying = self.median_seconds(lambda: target.copy_(source), repetitions=10)
        return max(buffer_bytes / summing, 2 * buffer_bytes / copying)

    def _operations_per_second(self, size: int) -> float:
        left, right = (torch.randn(size, size, device=self.device, dtype=torch.bfloat16) for _ in range(2))
        return 2 * size**3 / self.median_seconds(lambda: left @ right, repetitions=10)
