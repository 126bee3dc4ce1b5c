"""Several draws for each of several samples: their order, noise and blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ornstein import noise

__all__ = ["Draws"]

STEP_BITS = 24  # of an index of noise, for the step; the bits above hold the index of the sample


class Draws:
    """`count` draws for each of several samples; draws of the same sample are adjacent.

    Noise is a function of (seed, index of the sample, index of the draw, step): it depends neither on the number of
    draws nor on the other samples.

    Args:
        samples: number of samples.
        count: draws per sample.
        seed: of the noise.
        indices: of the samples, which select their noise; by default 0, 1, ...
    """

    def __init__(self, samples: int, count: int, seed: int, indices: Sequence[int] | None = None) -> None:
        self.count, self.seed = count, seed
        self.indices = range(samples) if indices is None else indices

    def blocks(self, rows: int) -> Iterator[range]:
        """All draws in blocks of at most `rows`."""
        total = len(self.indices) * self.count
        return (range(first, min(first + rows, total)) for first in range(0, total, rows))

    def samples_of(self, rows: range) -> Tensor:
        """The sample of each draw, (len(rows),) int64 on the CPU."""
        return torch.arange(rows.start, rows.stop, device="cpu") // self.count

    def noise(self, rows: range, step: int, like: Tensor) -> Tensor:
        """Standard normal noise of some draws, (len(rows), *like.shape[1:]), in the dtype and on the device of `like`.
        """
        chunks, first = [], rows.start
        while first < rows.stop:
            sample, draw = divmod(first, self.count)
            last = min(rows.stop, (sample + 1) * self.count)
            chunk = range(draw, draw + last - first)
            chunks.append(noise.per_sample(self.seed, "edit", chunk, self.indices[sample] << STEP_BITS | step,
                                           like.new_empty(len(chunk), *like.shape[1:])))
            first = last
        return torch.cat(chunks)
