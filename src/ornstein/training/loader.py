"""What a step learns from: data, times and noise as a function of the step's number, made ready one step ahead."""

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
from ornstein.diffusion.level import Level, remember
from ornstein.diffusion.loss import Density, draw_times
from ornstein.diffusion.schedule import Schedule
from ornstein.settings import Settings
from ornstein.training.engine import Engine

__all__ = ["Batch", "Loader"]


class Batch(NamedTuple):
    """Some rows of a step's batch: x and eps (B, *shape), condition (B,) or (B, K), and on the CPU times t (B,)."""

    x: Tensor
    t: Tensor
    eps: Tensor
    condition: Tensor


class Loader:
    """Makes the batches of a training, the same on any number of processes, each of which makes its own rows."""

    def __init__(self, settings: Settings, data: Dataset, schedule: Schedule, density: Density, engine: Engine) -> None:
        self.settings, self.data, self.schedule, self.density, self.engine = settings, data, schedule, density, engine
        self.rows = engine.rows(settings.batch_size)
        self.waited = 0.0  # seconds that the training has waited for batches
        # An epoch's order is needed by all its steps, and by one step of the epoch after it.
        self._order = functools.lru_cache(2)(
            lambda epoch: noise.generator(settings.seed, "order", epoch).permutation(len(data)))
        self._pool = ThreadPoolExecutor(1, "loader")
        self._next: tuple[int, Future[Batch]] | None = None
        self._stream: tuple[int, Iterator[tuple[Tensor, Tensor]]] | None = None

    def __call__(self, step: int) -> Batch:
        """The rows of step number `step`, and begin with those of the next one."""
        begin = time.perf_counter()
        batch = self._next[1].result() if self._next and self._next[0] == step else self.make(step)
        self._next = (step + 1, self._pool.submit(self.make, step + 1))
        x, t, *others = batch
        x, eps, condition = (value.to(self.engine.device, non_blocking=True) for value in (x, *others))
        self.waited += time.perf_counter() - begin
        return Batch(x, t, eps, condition)

    def part(self, batch: Batch, rows: slice) -> Batch:
        """Some rows of a batch."""
        x, t, eps, condition = (value[rows] for value in batch)
        level = Level(*(entry[rows] for entry in self.schedule.level(batch.t)))
        return Batch(x, remember(self.schedule, t, level), eps, condition)

    def make(self, step: int) -> Batch:
        """The rows of a step, a function of the settings, the data and the step alone: noise where the learner is."""
        settings, rows, device = self.settings, self.rows, self.engine.device
        x, condition = self._streamed(step) if self.data.streamed else self.data.batch(self.places(step)[rows])
        eps = noise.per_sample(settings.seed, "train", range(rows.start, rows.stop), step,
                               torch.empty(x.shape, dtype=torch.float32, device=device))
        chance = noise.generator(settings.seed, "train", 2, step).random((2, settings.batch_size))  # 1 draws the times
        dropped, mirrored = torch.from_numpy(chance < [[settings.unlabelled], [0.5]])[:, rows]
        if settings.mirror:
            x[mirrored] = x[mirrored].flip(-1)
        t = self.density(draw_times(settings.batch_size, settings.seed, step, settings.times))[rows]
        none = -1 if condition.ndim == 1 else float("nan")
        dropped = dropped.reshape(-1, *[1] * (condition.ndim - 1))
        batch = Batch(x, remember(self.schedule, t), eps, condition.masked_fill(dropped, none))
        # A copy to a GPU waits for nothing only from pages that stay where they are.
        return batch if device == "cpu" else batch._replace(x=x.pin_memory(), condition=batch.condition.pin_memory())

    def places(self, step: int) -> np.ndarray:
        """Rows of the data in a step's whole batch: every sample once an epoch, epochs in a new order each."""
        count, batch = len(self.data), self.settings.batch_size
        epochs, spots = np.divmod(np.arange(step * batch, (step + 1) * batch), count)
        return np.concatenate([self._order(int(epoch))[spots[epochs == epoch]] for epoch in np.unique(epochs)])

    def _streamed(self, step: int) -> tuple[Tensor, Tensor]:
        """The samples of a step of data that are read ahead, in the order that their reader has."""
        if self._stream is None or self._stream[0] != step:
            engine = self.engine
            self._stream = step, stream(self.data, self.settings.seed, self.settings.batch_size, step, engine.rank,
                                        engine.world)
        self._stream = step + 1, self._stream[1]
        return next(self._stream[1])

    def close(self) -> None:
        """Make no more batches."""
        self._pool.shutdown(cancel_futures=True)
