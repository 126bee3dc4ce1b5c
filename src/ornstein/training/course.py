"""One process's way through a training: steps, and all that happens between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ornstein import checkpoint
from ornstein.data import Dataset
from ornstein.settings import Settings
from ornstein.training import damage
from ornstein.training.budget import Budget, Timetable, Turn
from ornstein.training.compilation import Compilation
from ornstein.training.engine import Engine
from ornstein.training.events import Event, Finished, Interrupted, Progress, Saved, TrainingFailed, Warned
from ornstein.training.journal import Journal
from ornstein.training.learner import Learner, learning_rate
from ornstein.training.previews import draw
from ornstein.training.run import Run

__all__ = ["Course"]


@dataclass
class Course:
    """What one of the processes of a training works with; `note` is that of the state that it goes on from."""

    settings: Settings
    engine: Engine
    learner: Learner
    data: Dataset
    digest: str
    run: Run | None
    note: Mapping[str, Any]
    budget: Budget
    compilation: Compilation
    stopping: Callable[[], bool]
    settle: Callable[[Settings], None]

    def __post_init__(self) -> None:
        self.train_set, self.held_set = self.data.split()
        self.journal = Journal(self.run if self.engine.first else None, self.note)

    def events(self, resumed: bool) -> Iterator[Event]:
        """Train to the end, unless the state is that of a finished training."""
        learner = self.learner
        if self.note["finished"]:
            learner.average.metrics = self.journal.metrics(learner.images)
            yield from damage.mend_model(self.run, learner, self.engine) if self.run else ()
            yield Finished(learner.average, learner.images, self.note["seconds"], already=True)
            return
        if resumed and (fault := self.journal.resume(learner, self.note["loss"])):
            yield Warned(fault)
        yield from self.compilation.begin()
        if learner.images == 0:
            self.journal.start = learner.average_loss(self.train_set)
            self.budget.begin(self.engine)
        timetable = Timetable(self.budget, self.settings, self.engine, learner.images, self.run is not None)
        while (turn := timetable.turn(learner.images, self.stopping(), self.compilation.done)).share < 1 or turn.stop:
            yield from self._between(turn, timetable)
            if turn.stop:
                yield Interrupted(learner.images)
                return
            yield from self._step(learning_rate(self.settings, turn.share))
        yield from self._between(turn, timetable)
        if learner.images == 0:
            raise TrainingFailed(f"the {self.budget.whole:g} seconds were over before the first step; give more "
                                 "minutes")
        yield from self._end()

    def _between(self, turn: Turn, timetable: Timetable) -> Iterator[Event]:
        """What is due between two steps."""
        yield from self.compilation.settle(turn.compiled, turn.share)
        if turn.rate is not None:
            yield from self._progress(min(turn.share, 1.0), turn.rate)
        if turn.look:
            begun = time.monotonic()
            self._look()
            if turn.preview and not turn.stop and timetable.may_draw():
                yield from self._preview()
                timetable.drawn(time.monotonic() - begun)
            self.budget.looked(time.monotonic() - begun)
        if turn.snapshot:
            yield from self._snapshot()
        if turn.save:
            yield from self._keep(finished=False)
            timetable.saved()

    def _step(self, rate: float) -> Iterator[Warned]:
        learner, before = self.learner, self.learner.micro_batch
        try:
            value = learner.step(rate)
        except MemoryError:
            self._settle()
            raise
        self.journal.step(value, rate)
        if learner.micro_batch != before:
            self._settle()
            yield Warned(f"out of memory: from now on {learner.micro_batch} samples pass at once, in as many passes as "
                         f"the batch of {self.settings.batch_size} needs")

    def _end(self) -> Iterator[Event]:
        learner = self.learner
        self._look()
        yield from self._preview()
        yield from self._progress(1.0, 0.0)
        learner.average.metrics = self.journal.metrics(learner.images)
        yield from self._keep(finished=not self.journal.diverged)
        self.journal.judge()
        yield Finished(learner.average, learner.images, self.budget.seconds, already=False)

    def _settle(self) -> None:
        """Write the micro-batch that the memory allows where a resumed run reads it."""
        self.settings = self.settings.replace(micro_batch=self.learner.micro_batch)
        self.settle(self.settings)

    def _look(self) -> None:
        self.learner.judge()  # of what has no finite gradient the average says less
        held = self.learner.average_loss(self.held_set) if len(self.held_set) else None
        self.journal.look(self.learner.average_loss(self.train_set), held)

    def _progress(self, share: float, rate: float) -> Iterator[Event]:
        learner, journal = self.learner, self.journal
        seconds, left = self.budget.seconds, self.budget.left(learner.images, rate)
        learner.judge()
        loss = journal.loss(self.engine)
        if fault := journal.log(learner, seconds, rate):
            yield Warned(fault)
        yield Progress(learner.images, share, loss, journal.held_out, journal.gap, rate,
                       journal.learning_rate, seconds, left, learner.skipped)

    def _preview(self) -> Iterator[Event]:
        """Draw some samples; with split weights every process must take part."""
        if self.run and (self.engine.first or self.engine.sharded):
            place = self.run.previews if self.engine.first else None
            yield draw(self.learner.average, self.train_set, place, self.learner.images, self.engine.crew)

    def _snapshot(self) -> Iterator[Event]:
        """Keep the averages of this moment; with split weights every process must take part."""
        images, averages = self.learner.images, self.learner.averages()
        try:
            if self.run and self.engine.first:
                self.run.snapshots.write(images, averages)
        except OSError as error:
            yield Warned(f"averages at {images:,} pictures are not kept: {error}")

    def _keep(self, finished: bool) -> Iterator[Event]:
        """Write model and state; a disk that refuses costs a training its checkpoint, but not its life."""
        learner, loss = self.learner, self.journal.loss(self.engine)
        learner.judge()
        if not self.run:
            return
        run, average = self.run, learner.averaged()
        tensors, note = learner.state()
        note |= {"seconds": self.budget.seconds, "loss": loss, "tail": self.budget.tail, **self.journal.note(),
                 "prelude": self.budget.prelude, "finished": finished, "digest": self.digest,
                 "spec": self.data.spec.as_dict(), "processes": self.engine.world, "settings": self.settings.as_dict()}
        try:
            self.engine.once(lambda: checkpoint.save(learner.average, run.path, average))
            run.states(self.settings.keep).write(learner.images, tensors, note, self.engine)
        except OSError as error:
            text = f"no checkpoint at {learner.images:,} pictures: {error}; the one before it is kept"
            if finished:
                raise TrainingFailed(f"{text}: make room and go on with --resume") from None
            yield Warned(f"{text}, and another try follows")
            return
        yield Saved(run.path, learner.images)
