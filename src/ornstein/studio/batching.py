"""Batching of network calls: many walks share one model, in calls with a fixed number of rows.

A walk is the plain sampling code of the library and runs in a thread of its own. Its network calls are sent to the
threads that own the models, which fill each call with the rows of waiting walks. Because every call has the same number
of rows, a row's answer does not depend on the others, and a sample is the same alone and among others, bit for bit on
a CPU.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from ornstein.diffusion.denoiser import Batched, Denoiser, DenoiserWrapper, call_override
from ornstein.diffusion.level import Level, attach_level

__all__ = ["Batcher", "Stopped", "Walk"]

PATIENCE = 1.0  # how long a call that is not full waits for more rows, in units of the duration of the last call


class Stopped(Exception):
    """Raised in a walk that was stopped; the message is the reason."""


@dataclass
class Walk:
    """A client of the batcher; `on_answer` is called with z, its times and the velocity after each network call."""

    on_answer: Callable[[Batched, Tensor, Tensor, Tensor], None] = lambda *_: None
    stop_reason: str | None = None
    pending: Query | None = None


@dataclass(eq=False)
class Query:
    """Rows that wait for the model's answer."""

    walk: Walk
    batched: Batched
    z: Tensor
    t: Tensor
    v: Tensor
    since: float
    taken: int = 0  # rows that are in a call or answered
    left: int = 0  # rows without an answer
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def end(self, error: BaseException | None = None) -> None:
        """Let the walk continue."""
        self.error = self.error or error
        self.done.set()


Chunk = tuple[Query, slice]  # some rows of a query


class Batcher:
    """Runs the models in a number of threads, each on one core."""

    def __init__(self, threads: int | None = None) -> None:
        self._condition = threading.Condition()
        self._queues: dict[Any, deque[Query]] = {}  # queries that can share calls, by what they have in common
        self._walks = 0
        self._call_seconds = WeakKeyDictionary[Denoiser, float]()  # duration of each model's last call
        self._closed = False
        self.calls = self.rows = self.filled = 0
        self._threads = [threading.Thread(target=self._serve, name=f"model-{number}", daemon=True)
                         for number in range(threads or max(1, torch.get_num_threads()))]
        for thread in self._threads:
            thread.start()

    @contextmanager
    def walking(self, walk: Walk) -> Generator[None, None, None]:
        """Inside this context, the network calls of this thread are batched with those of other walks."""

        def answer(batched: Batched, z: Tensor, t: Tensor) -> Tensor:
            v = self._query(walk, batched, z, t)
            walk.on_answer(batched, z, t, v)
            return v

        with self._condition:
            self._walks += 1
        token = call_override.set(answer)
        try:
            yield
        finally:
            call_override.reset(token)
            with self._condition:
                self._walks -= 1
                self._condition.notify_all()

    def stop(self, walk: Walk, reason: str) -> None:
        """Stop a walk at its next network call, or now if it waits for one."""
        with self._condition:
            walk.stop_reason = reason
            if (query := walk.pending) is not None:
                query.end(Stopped(reason))  # its rows are skipped when their turn comes
                self._condition.notify()

    def close(self) -> None:
        """End the threads after their current calls."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _query(self, walk: Walk, batched: Batched, z: Tensor, t: Tensor) -> Tensor:
        query = Query(walk, batched, z, t, torch.empty_like(z), time.monotonic(), left=len(z))
        with self._condition:
            if walk.stop_reason is not None or self._closed:
                raise Stopped(walk.stop_reason or "the studio is closing")
            walk.pending = query
            self._queues.setdefault(_batch_key(query), deque()).append(query)
            self._condition.notify()
        query.done.wait()
        with self._condition:
            walk.pending = None
        if query.error is not None:
            raise query.error
        return query.v

    def _serve(self) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            while (chunks := self._next()) is not None:
                self._call(chunks)

    def _next(self) -> list[Chunk] | None:
        """The rows of the next call, those that have waited longest first; None once the batcher is closed."""
        with self._condition:
            while not self._closed:
                key, queue = min(((key, queue) for key, queue in self._queues.items() if queue),
                                 key=lambda item: item[1][0].since, default=(None, None))
                if queue is None:
                    self._condition.wait()
                    continue
                size = queue[0].batched.rows
                is_full = sum(len(query.z) - query.taken for query in queue) >= size
                all_wait = sum(map(len, self._queues.values())) >= self._walks
                last_call = self._call_seconds.get(_unwrap(queue[0].batched.denoiser)[1], 0.0)
                patience = queue[0].since + PATIENCE * last_call - time.monotonic()
                if is_full or all_wait or patience <= 0:
                    chunks = self._take(queue, size)
                    if not queue:
                        del self._queues[key]
                    if chunks:
                        return chunks
                    continue
                self._condition.wait(patience)
        return None

    def _take(self, queue: deque[Query], size: int) -> list[Chunk]:
        chunks = []
        while queue and size:
            query = queue[0]
            if query.done.is_set():  # stopped, or failed in an earlier call
                queue.popleft()
                continue
            count = min(size, len(query.z) - query.taken)
            chunks.append((query, slice(query.taken, query.taken + count)))
            query.taken, size = query.taken + count, size - count
            if query.taken == len(query.z):
                queue.popleft()
        return chunks

    def _call(self, chunks: list[Chunk]) -> None:
        started = time.monotonic()
        try:
            v = _velocities(chunks)
        except Exception as error:  # the model's, which must reach its own walk and no other
            if len(chunks) > 1:
                for chunk in chunks:
                    self._call([chunk])
                return
            v, chunks[0][0].error = torch.empty(0), error
        with self._condition:
            batched = chunks[0][0].batched
            self.calls, self.rows = self.calls + 1, self.rows + batched.rows
            self.filled += sum(rows.stop - rows.start for _, rows in chunks)
            self._call_seconds[_unwrap(batched.denoiser)[1]] = time.monotonic() - started
            first = 0
            for query, rows in chunks:
                count = rows.stop - rows.start
                if query.error is None:
                    query.v[rows] = v[first:first + count]
                first, query.left = first + count, query.left - count
                if not query.left or query.error is not None:
                    query.end()
            self._condition.notify()


def _velocities(chunks: list[Chunk]) -> Tensor:
    """The velocities of all rows, from one call that is padded with the last row."""
    batched = chunks[0][0].batched
    schedule = batched.denoiser.schedule
    times, levels = zip(*(_times_and_level(schedule, query.t, rows) for query, rows in chunks), strict=True)

    def padded(parts: Iterable[Tensor]) -> Tensor:
        rows = torch.cat(list(parts))
        return torch.cat([rows, rows[-1:].expand(batched.rows - len(rows), *rows.shape[1:])])

    z = padded(query.z[rows] for query, rows in chunks)
    level = Level(padded(level.signal for level in levels), padded(level.noise for level in levels))
    conditions = [query.batched.conditions[rows] for query, rows in chunks if query.batched.conditions is not None]
    return batched.denoiser(z, attach_level(schedule, padded(times), level),
                            padded(conditions).to(z.device) if conditions else None).v


def _times_and_level(schedule: Any, t: Tensor, rows: slice) -> tuple[Tensor, Level]:
    """A time for each of some rows, with the level that the walk itself would compute."""
    level = schedule.level(t)
    if t.ndim and len(t) > 1:
        return t[rows], Level(level.signal[rows], level.noise[rows])
    count = rows.stop - rows.start
    return t.reshape(-1).expand(count), Level(*(value.reshape(-1).expand(count) for value in level))


def _batch_key(query: Query) -> tuple[Any, ...]:
    """What queries must have in common to share a call."""
    conditions = query.batched.conditions
    kind = None if conditions is None else (conditions.dtype, conditions.shape[1:])
    return (*_denoiser_key(query.batched.denoiser), query.batched.rows, query.z.dtype, kind)


def _unwrap(denoiser: Denoiser) -> tuple[list[DenoiserWrapper], Denoiser]:
    """The wrappers around a model, outermost first, and the model itself."""
    wrappers = list[DenoiserWrapper]()
    while isinstance(denoiser, DenoiserWrapper):
        wrappers.append(denoiser)
        denoiser = denoiser.denoiser
    return wrappers, denoiser


def _denoiser_key(denoiser: Denoiser) -> list[Any]:
    """A key that is equal for denoisers with the same model and equal wrappers around it."""
    wrappers, model = _unwrap(denoiser)
    return [*((type(wrapper), *sorted((name, value) for name, value in vars(wrapper).items()
                                      if isinstance(value, int | float | tuple))) for wrapper in wrappers), id(model)]
