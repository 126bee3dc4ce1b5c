"""Several draws for each of several samples: their order, their noise, and the blocks that they are made in."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ornstein import noise

__all__ = ["Draws"]

STEPS = 24  # bits of a step's number; what stands above them is the number of a sample


class Draws:
    """`count` draws for each of so many samples, those of one sample adjacent.

    Noise is a function of (seed, number of the sample, number of the draw, step): it is the same for any number of
    draws, and whatever other samples there are.

    Args:
        samples: how many samples there are.
        count: draws for each of them.
        seed: of all noise.
        numbers: of the samples, by which their noise is known; 0, 1, ... unless given.
    """

    def __init__(self, samples: int, count: int, seed: int, numbers: Sequence[int] | None = None) -> None:
        self.count, self.seed = count, seed
        self.numbers = range(samples) if numbers is None else numbers

    def blocks(self, rows: int) -> Iterator[range]:
        """All draws, at most `rows` at a time."""
        total = len(self.numbers) * self.count
        return (range(first, min(first + rows, total)) for first in range(0, total, rows))

    def samples_of(self, rows: range) -> Tensor:
        """Which sample each draw is of, (len(rows),) int64 on the CPU."""
        return torch.arange(rows.start, rows.stop, device="cpu") // self.count

    def noise(self, rows: range, step: int, like: Tensor) -> Tensor:
        """Standard normal noise of some draws, (len(rows), *like.shape[1:]), of the dtype and on the device of `like`.
        """
        parts, first = [], rows.start
        while first < rows.stop:
            sample, draw = divmod(first, self.count)
            last = min(rows.stop, (sample + 1) * self.count)
            indices = range(draw, draw + last - first)
            parts.append(noise.per_sample(self.seed, "edit", indices, self.numbers[sample] << STEPS | step,
                                          like.new_empty(len(indices), *like.shape[1:])))
            first = last
        return torch.cat(parts)
