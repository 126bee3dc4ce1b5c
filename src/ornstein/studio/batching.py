"""One model, many walks: what they ask of it is answered by calls of a fixed number of rows, whoever they belong to.

A walk stays the plain code of the library and runs in a thread of its own. What it asks goes to the threads that own
the models, which fill each call with the rows of those who wait. A row's answer does not depend on the other rows of a
call of so many, so that a sample is the same alone and among others, bit for bit on a CPU.
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

from ornstein.diffusion.denoiser import Batched, Denoiser, Wrapped, answering
from ornstein.diffusion.level import Level, remember

__all__ = ["Batcher", "Stopped", "Walk"]

PATIENCE = 1.0  # of a call's time that a call which is not full waits for walks that have not asked yet


class Stopped(Exception):
    """A walk that was told to stop; its text says why."""


@dataclass
class Walk:
    """Somebody who asks, and what is called after each answer with z, its level and the velocity."""

    told: Callable[[Batched, Tensor, Tensor, Tensor], None] = lambda *_: None
    why: str | None = None  # it is to stop
    asking: Ask | None = None


@dataclass(eq=False)
class Ask:
    """Rows that wait for their answer."""

    walk: Walk
    batched: Batched
    z: Tensor
    t: Tensor
    v: Tensor
    since: float
    taken: int = 0
    left: int = 0
    error: BaseException | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def end(self, error: BaseException | None = None) -> None:
        """Let the walk go on."""
        self.error = self.error or error
        self.done.set()


class Batcher:
    """Owns the models, in so many threads of one core each."""

    def __init__(self, threads: int | None = None) -> None:
        self._condition = threading.Condition()
        self._groups: dict[Any, deque[Ask]] = {}
        self._walking = 0
        self._seconds = WeakKeyDictionary[Denoiser, float]()  # of the last call of a model
        self._closed = False
        self.calls = self.rows = self.filled = 0
        self._threads = [threading.Thread(target=self._serve, name=f"model-{number}", daemon=True)
                         for number in range(threads or max(1, torch.get_num_threads()))]
        for thread in self._threads:
            thread.start()

    @contextmanager
    def walking(self, walk: Walk) -> Generator[None, None, None]:
        """Whatever this thread asks of a denoiser in blocks of rows is answered together with what others ask."""

        def answer(batched: Batched, z: Tensor, t: Tensor) -> Tensor:
            v = self._ask(walk, batched, z, t)
            walk.told(batched, z, t, v)
            return v

        with self._condition:
            self._walking += 1
        token = answering.set(answer)
        try:
            yield
        finally:
            answering.reset(token)
            with self._condition:
                self._walking -= 1
                self._condition.notify_all()

    def stop(self, walk: Walk, why: str) -> None:
        """Have a walk stop at its next call, or now if it waits for one."""
        with self._condition:
            walk.why = why
            if (ask := walk.asking) is not None:
                ask.end(Stopped(why))  # and is passed over when the turn of its rows comes
                self._condition.notify()

    def close(self) -> None:
        """End the threads when their calls have ended."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for thread in self._threads:
            thread.join(timeout=10)

    def _ask(self, walk: Walk, batched: Batched, z: Tensor, t: Tensor) -> Tensor:
        ask = Ask(walk, batched, z, t, torch.empty_like(z), time.monotonic(), left=len(z))
        with self._condition:
            if walk.why is not None or self._closed:
                raise Stopped(walk.why or "the studio is closing")
            walk.asking = ask
            self._groups.setdefault(_kind(ask), deque()).append(ask)
            self._condition.notify()
        ask.done.wait()
        with self._condition:
            walk.asking = None
        if ask.error is not None:
            raise ask.error
        return ask.v

    def _serve(self) -> None:
        torch.set_num_threads(1)
        with torch.no_grad():
            while (pieces := self._next()) is not None:
                self._call(pieces)

    def _next(self) -> list[tuple[Ask, slice]] | None:
        """The rows of the next call, those who have waited longest first; None when there will be no more."""
        with self._condition:
            while not self._closed:
                kind, group = min(((kind, group) for kind, group in self._groups.items() if group),
                                  key=lambda one: one[1][0].since, default=(None, None))
                if group is None:
                    self._condition.wait()
                    continue
                size = group[0].batched.rows
                full = sum(len(ask.z) - ask.taken for ask in group) >= size
                all_ask = sum(map(len, self._groups.values())) >= self._walking
                last = self._seconds.get(_unwrapped(group[0].batched.denoiser)[1], 0.0)
                patience = group[0].since + PATIENCE * last - time.monotonic()
                if full or all_ask or patience <= 0:
                    pieces = self._take(group, size)
                    if not group:
                        del self._groups[kind]
                    if pieces:
                        return pieces
                    continue
                self._condition.wait(patience)
        return None

    def _take(self, group: deque[Ask], size: int) -> list[tuple[Ask, slice]]:
        pieces = []
        while group and size:
            ask = group[0]
            if ask.done.is_set():  # it was stopped, or has failed in part
                group.popleft()
                continue
            some = min(size, len(ask.z) - ask.taken)
            pieces.append((ask, slice(ask.taken, ask.taken + some)))
            ask.taken, size = ask.taken + some, size - some
            if ask.taken == len(ask.z):
                group.popleft()
        return pieces

    def _call(self, pieces: list[tuple[Ask, slice]]) -> None:
        began = time.monotonic()
        try:
            v = _answers(pieces)
        except Exception as error:  # whatever a model raises belongs to whoever asked
            if len(pieces) > 1:  # and to nobody else
                for piece in pieces:
                    self._call([piece])
                return
            v, pieces[0][0].error = torch.empty(0), error
        with self._condition:
            rows = sum(part.stop - part.start for _, part in pieces)
            self.calls, self.rows = self.calls + 1, self.rows + pieces[0][0].batched.rows
            self.filled += rows
            self._seconds[_unwrapped(pieces[0][0].batched.denoiser)[1]] = time.monotonic() - began
            first = 0
            for ask, part in pieces:
                many = part.stop - part.start
                if ask.error is None:
                    ask.v[part] = v[first:first + many]
                first, ask.left = first + many, ask.left - many
                if not ask.left or ask.error is not None:
                    ask.end()
            self._condition.notify()


def _answers(pieces: list[tuple[Ask, slice]]) -> Tensor:
    """The velocity of all rows, by one call that is filled up with the last of them."""
    batched = pieces[0][0].batched
    schedule = batched.denoiser.schedule
    times, levels = zip(*(_at(schedule, ask.t, part) for ask, part in pieces), strict=True)

    def whole(parts: Iterable[Tensor]) -> Tensor:
        rows = torch.cat(list(parts))
        return torch.cat([rows, rows[-1:].expand(batched.rows - len(rows), *rows.shape[1:])])

    z = whole(ask.z[part] for ask, part in pieces)
    level = Level(whole(one.signal for one in levels), whole(one.noise for one in levels))
    told = [ask.batched.conditions[part] for ask, part in pieces if ask.batched.conditions is not None]
    return batched.denoiser(z, remember(schedule, whole(times), level), whole(told).to(z.device) if told else None).v


def _at(schedule: Any, t: Tensor, part: slice) -> tuple[Tensor, Level]:
    """Times of some rows, one for each, with the level that the walk itself would have."""
    level = schedule.level(t)
    many = part.stop - part.start
    if t.ndim and len(t) > 1:
        return t[part], Level(level.signal[part], level.noise[part])
    return t.reshape(-1).expand(many), Level(*(one.reshape(-1).expand(many) for one in level))


def _kind(ask: Ask) -> tuple[Any, ...]:
    """What asks must have in common to be answered by one call."""
    conditions = ask.batched.conditions
    told = None if conditions is None else (conditions.dtype, conditions.shape[1:])
    return (*_layers(ask.batched.denoiser), ask.batched.rows, ask.z.dtype, told)


def _unwrapped(denoiser: Denoiser) -> tuple[list[Wrapped], Denoiser]:
    """What wraps a model, from the outside in, and the model itself."""
    layers = list[Wrapped]()
    while isinstance(denoiser, Wrapped):
        layers.append(denoiser)
        denoiser = denoiser.denoiser
    return layers, denoiser


def _layers(denoiser: Denoiser) -> list[Any]:
    """A denoiser by what it is made of: two that wrap the same one with the same numbers are the same."""
    layers, model = _unwrapped(denoiser)
    return [*((type(one), *sorted((name, value) for name, value in vars(one).items()
                                  if isinstance(value, int | float | tuple))) for one in layers), id(model)]
