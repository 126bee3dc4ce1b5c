"""An endless stream of batches in an order that any number of processes share and that starts at any step."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import numpy as np
import torch

from ornstein.data.dataset import Dataset

__all__ = ["stream"]

AHEAD = 4  # batches that are read before they are asked for


def stream(data: Dataset, seed: int, batch: int, start: int = 0, rank: int = 0, world: int = 1, *,
           threads: int = 2) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Return the batches of one process, from step `start` on, without end: (batch // world, *shape) float32 in [-1, 1]
    and labels or conditions, as `Dataset.batch`.

    Each epoch has an order of the seed. Place p of it belongs to step p // batch, and a step's places are dealt to the
    processes in equal stretches: together they see the same rows, in the same order, whatever `world` is.
    """
    for name, value, least, most in (("seed", seed, 0, 2**64 - 1), ("batch", batch, 1, None), ("start", start, 0, None),
                                     ("world", world, 1, None), ("rank", rank, 0, world - 1),
                                     ("threads", threads, 1, None)):
        if not isinstance(value, int) or value < least or (most is not None and value > most):
            raise ValueError(f"{name} is {value!r}; it must be a whole number from {least}"
                             + (f" to {most}" if most is not None else ""))
    if batch % world:
        raise ValueError(f"batch is {batch}; it must be a multiple of the {world} processes")
    if not len(data):
        raise ValueError("an empty set cannot be streamed; at least 1 sample is needed")
    logging.getLogger("absl").addFilter(_is_news)
    try:
        import grain
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError('streaming needs grain: pip install "ornstein[scale]"') from error
    # Grain takes 32 bits of seed; all 64 of ours count.
    short = int(np.random.SeedSequence(seed).generate_state(1)[0])
    order = grain.MapDataset.source(range(len(data))).seed(short).shuffle().repeat()
    # A batch is one element, so that a lazy decoder gets all its rows at once.
    batches = order.batch(batch // world, drop_remainder=True)[start * world + rank::world].map(data.batch)
    return iter(batches.to_iter_dataset(grain.ReadOptions(num_threads=threads, prefetch_buffer_size=AHEAD)))


def _is_news(record: logging.LogRecord) -> bool:
    # Grain warns, when it is imported, that there is no profiler of JAX, which nobody here uses.
    return "jax profiler" not in record.getMessage()
