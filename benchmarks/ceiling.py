"""What share of the machine's matrix products a network's training reaches."""

from __future__ import annotations

import time
from collections.abc import Callable
from statistics import median

import torch
from torch.utils.flop_counter import FlopCounterMode

__all__ = ["ceiling", "flops"]


def ceiling(dtype: torch.dtype, side: int = 2048, repeats: int = 9, device: str = "cpu") -> float:
    """Floating-point operations a second of a square matrix product, the median of some."""
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    wait = torch.cuda.synchronize if device == "cuda" else lambda: None
    taken = []
    for _ in range(repeats + 2):
        wait()
        begin = time.perf_counter()
        _ = a @ b
        wait()
        taken.append(time.perf_counter() - begin)
    return 2 * side**3 / median(taken[2:])


@torch.no_grad()
def flops(call: Callable[[], object]) -> int:
    """Floating-point operations of the matrix products and convolutions in a call."""
    with FlopCounterMode(display=False) as counter:
        call()
    return counter.get_total_flops()
