"""Random numbers as a pure function of (seed, stream, index, step)."""

from __future__ import annotations

import numpy as np
import torch

from ornstein.names import whole

__all__ = ["STREAMS", "generator", "normal", "per_sample"]

MOST_SEED = 2**64 - 1
# Each purpose has its own stream, so that adding a draw in one place changes nothing elsewhere. Never renumber.
STREAMS = {"order": 0, "train": 1, "held_out": 2, "start": 3, "sample": 4, "walk": 5, "exact": 6, "weights": 7,
           "bound": 8, "probe": 9, "dequantise": 10, "levels": 11, "evaluate": 12, "tune": 13}


def generator(seed: int, stream: str, index: int = 0, step: int = 0) -> np.random.Generator:
    """A counter-based generator (Philox, Salmon et al. 2011) for one purpose, place and time.

    Args:
        seed: any integer from 0 to 2^64 - 1.
        stream: a name of `STREAMS`.
        index: which picture, or which process-independent slot, >= 0.
        step: which step of a chain or of a training, >= 0.

    Raises:
        ValueError: the seed is no whole number, or outside its range.
    """
    seed = whole("seed", seed, 0, MOST_SEED)
    # A list of Python integers becomes float64 from 2^63 on, where neighbouring seeds would be one.
    key = np.array([seed, STREAMS[stream]], dtype=np.uint64)
    # The two low words of the counter belong to the draws themselves: 2^128 numbers each.
    return np.random.Generator(np.random.Philox(key=key, counter=[0, 0, index, step]))


def normal(seed: int, stream: str, index: int, step: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Standard normal numbers of `shape`, float64, for one (seed, stream, index, step)."""
    return torch.from_numpy(generator(seed, stream, index, step).standard_normal(shape))


def per_sample(seed: int, stream: str, indices: range, step: int, like: torch.Tensor) -> torch.Tensor:
    """Standard normal noise with one independent stream a sample, whatever batch the sample is in.

    Args:
        seed: of the whole draw.
        stream: a name of `STREAMS`.
        indices: the number of each row's sample in the whole draw, as many as rows in `like`.
        step: the step of the chain.
        like: (B, ...), gives shape, dtype and device of the result.

    Returns:
        (B, ...) drawn in float64, then cast: the same picture in every precision, to rounding.
    """
    rows = [generator(seed, stream, index, step).standard_normal(like.shape[1:]) for index in indices]
    return torch.from_numpy(np.stack(rows)).to(like)
