"""An endless stream of batches, resumable at any step and shared by any number of processes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch

from ornstein.data.dataset import Dataset

__all__ = ["stream"]

PREFETCHED = 4  # batches that are read ahead


def stream(data: Dataset, seed: int, batch: int, start: int = 0, rank: int = 0, world: int = 1, *,
           threads: int = 2) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Return the endless batches of one process from step `start` on: (batch // world, *shape) float32 in [-1, 1] and
    labels or conditions, as from `Dataset.batch`.

    The seed determines the order of each epoch. Position p belongs to step p // batch, and each step's positions are
    split evenly among the processes: together they see the same rows in the same order for any `world`.
    """
    limits = (("seed", seed, 0, 2**64 - 1), ("batch", batch, 1, None), ("start", start, 0, None),
              ("world", world, 1, None), ("rank", rank, 0, world - 1), ("threads", threads, 1, None))
    for name, value, minimum, maximum in limits:
        if not isinstance(value, int) or value < minimum or (maximum is not None and value > maximum):
            raise ValueError(f"{name} is {value!r}; it must be a whole number from {minimum}"
                             + (f" to {maximum}" if maximum is not None else ""))
    if batch % world:
        raise ValueError(f"batch is {batch}; it must be a multiple of the {world} processes")
    if not len(data):
        raise ValueError("an empty set cannot be streamed; at least 1 sample is needed")
    logging.getLogger("absl").addFilter(_is_relevant)
    try:
        import grain
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('streaming needs grain: pip install "ornstein[scale]"') from error
    # Grain takes a 32-bit seed: hash all 64 bits into it.
    short_seed = int(np.random.SeedSequence(seed).generate_state(1)[0])
    order = grain.MapDataset.source(range(len(data))).seed(short_seed).shuffle().repeat()
    # Each element is a whole batch, so that a lazy decoder gets all its rows at once.
    batches = order.batch(batch // world, drop_remainder=True)[start * world + rank::world].map(data.batch)
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=PREFETCHED)))


def _is_relevant(record: logging.LogRecord) -> bool:
    # On import, Grain warns that the JAX profiler is missing, which Ornstein does not use.
    return "jax profiler" not in record.getMessage()
