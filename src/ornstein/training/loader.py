"""The batch of each step: data, times and noise as a function of the step number, prepared one step ahead."""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein import noise
from ornstein.data import Dataset
from ornstein.data.stream import stream
from ornstein.diffusion.level import Level, attach_level
from ornstein.diffusion.loss import Density, draw_times
from ornstein.diffusion.schedule import Schedule
from ornstein.settings import Settings
from ornstein.training.engine import Engine
from ornstein.workers import use_one_thread

__all__ = ["Batch", "Loader"]


class Batch(NamedTuple):
    """Rows of a step's batch: x and eps (B, *shape), condition (B,) or (B, K), and times t (B,), kept on the CPU."""

    x: Tensor
    t: Tensor
    eps: Tensor
    condition: Tensor


class Loader:
    """Makes the batches of a training, the same for any number of processes; each process makes its own rows."""

    def __init__(self, settings: Settings, data: Dataset, schedule: Schedule, density: Density, engine: Engine) -> None:
        self.settings, self.data, self.schedule, self.density, self.engine = settings, data, schedule, density, engine
        self.rows = engine.rows(settings.batch_size)
        self.seconds_waited = 0.0  # for batches
        # A step may span two epochs.
        self._order = functools.lru_cache(2)(
            lambda epoch: noise.generator(settings.seed, "order", epoch).permutation(len(data)))
        self._pool = ThreadPoolExecutor(1, "loader", initializer=use_one_thread)
        self._prefetched: tuple[int, Future[Batch]] | None = None
        self._stream: tuple[int, Iterator[tuple[Tensor, Tensor]]] | None = None

    def __call__(self, step: int) -> Batch:
        """Return this process's rows of step `step`, and start preparing those of the next step."""
        start = time.perf_counter()
        batch = self._prefetched[1].result() if self._prefetched and self._prefetched[0] == step else self.make(step)
        self._prefetched = (step + 1, self._pool.submit(self.make, step + 1))
        x, t, *others = batch
        x, eps, condition = (value.to(self.engine.device, non_blocking=True) for value in (x, *others))
        self.seconds_waited += time.perf_counter() - start
        return Batch(x, t, eps, condition)

    def select(self, batch: Batch, rows: slice) -> Batch:
        """Rows of a batch, their times with their levels."""
        x, t, eps, condition = (value[rows] for value in batch)
        level = Level(*(entry[rows] for entry in self.schedule.level(batch.t)))
        return Batch(x, attach_level(self.schedule, t, level), eps, condition)

    def make(self, step: int) -> Batch:
        """This process's rows of a step, a function of the settings, the data and the step alone."""
        settings, rows, device = self.settings, self.rows, self.engine.device
        if self.data.streamed:
            x, condition = self._next_streamed(step)
        else:
            x, condition = self.data.batch(self.row_indices(step)[rows])
        eps = noise.per_sample(settings.seed, "train", range(rows.start, rows.stop), step,
                               torch.empty(x.shape, dtype=torch.float32, device=device))
        uniform = noise.generator(settings.seed, "train", 2, step).random((2, settings.batch_size))
        dropped, mirrored = torch.from_numpy(uniform < [[settings.unlabelled], [0.5]])[:, rows]
        if settings.mirror:
            x[mirrored] = x[mirrored].flip(-1)
        t = self.density(draw_times(settings.batch_size, settings.seed, step, settings.times))[rows]
        unlabelled = -1 if condition.ndim == 1 else float("nan")
        dropped = dropped.reshape(-1, *[1] * (condition.ndim - 1))
        batch = Batch(x, attach_level(self.schedule, t), eps, condition.masked_fill(dropped, unlabelled))
        # Copies to a GPU are asynchronous only from pinned memory.
        return batch if device == "cpu" else batch._replace(x=x.pin_memory(), condition=batch.condition.pin_memory())

    def row_indices(self, step: int) -> np.ndarray:
        """The data's rows in a step's global batch: every sample once per epoch, in a new order each epoch."""
        count, batch = len(self.data), self.settings.batch_size
        epochs, offsets = np.divmod(np.arange(step * batch, (step + 1) * batch), count)
        return np.concatenate([self._order(int(epoch))[offsets[epochs == epoch]] for epoch in np.unique(epochs)])

    def _next_streamed(self, step: int) -> tuple[Tensor, Tensor]:
        """The samples of a step of streamed data, in the order of their reader."""
        if self._stream is None or self._stream[0] != step:
            engine = self.engine
            self._stream = step, stream(self.data, self.settings.seed, self.settings.batch_size, step, engine.rank,
                                        engine.world)
        self._stream = step + 1, self._stream[1]
        return next(self._stream[1])

    def close(self) -> None:
        """Stop preparing batches."""
        self._pool.shutdown(cancel_futures=True)
