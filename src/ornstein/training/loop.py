"""The training loop of one process: its steps, and the work between them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ornstein import checkpoint
from ornstein.data import Dataset
from ornstein.settings import Settings
from ornstein.training import damage
from ornstein.training.budget import Budget, Due, Timetable
from ornstein.training.compilation import Compilation
from ornstein.training.engine import Engine
from ornstein.training.events import Event, Finished, Interrupted, Progress, Saved, TrainingFailed, Warned
from ornstein.training.journal import Journal
from ornstein.training.learner import Learner, learning_rate
from ornstein.training.previews import draw_preview
from ornstein.training.run import Run

__all__ = ["TrainingLoop"]


@dataclass
class TrainingLoop:
    """The training loop of one process; `metadata` are those of the state that it resumes from."""

    settings: Settings
    engine: Engine
    learner: Learner
    data: Dataset
    digest: str
    run: Run | None
    metadata: Mapping[str, Any]
    budget: Budget
    compilation: Compilation
    is_stopping: Callable[[], bool]
    on_settings: Callable[[Settings], None]

    def __post_init__(self) -> None:
        self.training_set, self.held_out_set = self.data.split()
        self.journal = Journal(self.run if self.engine.is_first else None, self.metadata)

    def events(self, resumed: bool) -> Iterator[Event]:
        """Train to the end, unless the state is that of a finished training."""
        learner = self.learner
        if self.metadata["finished"]:
            learner.average.metrics = self.journal.metrics(learner.images)
            yield from damage.repair_model(self.run, learner, self.engine) if self.run else ()
            yield Finished(learner.average, learner.images, self.metadata["seconds"], already=True)
            return
        if resumed and (warning := self.journal.resume(learner, self.metadata["loss"])):
            yield Warned(warning)
        yield from self.compilation.start()
        if learner.images == 0:
            self.journal.initial_loss = learner.average_loss(self.training_set)
            self.budget.record_prelude(self.engine)
        timetable = Timetable(self.budget, self.settings, self.engine, learner.images, self.run is not None)
        while True:
            due = timetable.due(learner.images, self.is_stopping(), self.compilation.is_done)
            if due.share >= 1 and not due.stop:
                break
            yield from self._handle_due(due, timetable)
            if due.stop:
                yield Interrupted(learner.images)
                return
            yield from self._step(learning_rate(self.settings, due.share))
        yield from self._handle_due(due, timetable)
        if learner.images == 0:
            raise TrainingFailed(f"the {self.budget.total_seconds:g} seconds were over before the first step; give "
                                 "more minutes")
        yield from self._end()

    def _handle_due(self, due: Due, timetable: Timetable) -> Iterator[Event]:
        """Do what is due between two steps."""
        yield from self.compilation.update(due.compiled, due.share)
        if due.rate is not None:
            yield from self._progress(min(due.share, 1.0), due.rate)
        if due.evaluation:
            start = time.monotonic()
            self._evaluate()
            if due.preview and not due.stop and timetable.can_preview():
                yield from self._preview()
                timetable.record_preview(time.monotonic() - start)
            self.budget.record_evaluation(time.monotonic() - start)
        if due.snapshot:
            yield from self._snapshot()
        if due.save:
            yield from self._save(finished=False)
            timetable.record_save()

    def _step(self, rate: float) -> Iterator[Warned]:
        learner, before = self.learner, self.learner.micro_batch
        try:
            loss = learner.step(rate)
        except MemoryError:
            self._keep_micro_batch()
            raise
        self.journal.record_step(loss, rate)
        if learner.micro_batch != before:
            self._keep_micro_batch()
            yield Warned(f"out of memory: from now on {learner.micro_batch} samples pass at once, in as many passes as "
                         f"the batch of {self.settings.batch_size} needs")

    def _end(self) -> Iterator[Event]:
        learner = self.learner
        self._evaluate()
        yield from self._preview()
        yield from self._progress(1.0, 0.0)
        learner.average.metrics = self.journal.metrics(learner.images)
        yield from self._save(finished=not self.journal.has_diverged)
        self.journal.check_divergence()
        yield Finished(learner.average, learner.images, self.budget.seconds, already=False)

    def _keep_micro_batch(self) -> None:
        """Write the micro-batch that fits into memory to the settings, for a resumed run."""
        self.settings = self.settings.replace(micro_batch=self.learner.micro_batch)
        self.on_settings(self.settings)

    def _evaluate(self) -> None:
        self.learner.check_gradients()  # whose message says more than that of a diverged average
        held_out = self.learner.average_loss(self.held_out_set) if len(self.held_out_set) else None
        self.journal.record_evaluation(self.learner.average_loss(self.training_set), held_out)

    def _progress(self, share: float, rate: float) -> Iterator[Event]:
        learner, journal = self.learner, self.journal
        seconds, left = self.budget.seconds, self.budget.left(learner.images, rate)
        learner.check_gradients()
        loss = journal.loss(self.engine)
        if warning := journal.log(learner, seconds, rate):
            yield Warned(warning)
        yield Progress(learner.images, share, loss, journal.held_out, journal.gap, rate,
                       journal.learning_rate, seconds, left, learner.skipped)

    def _preview(self) -> Iterator[Event]:
        """Draw some samples; with sharded weights every process must take part."""
        if self.run and (self.engine.is_first or self.engine.is_sharded):
            folder = self.run.previews if self.engine.is_first else None
            yield draw_preview(self.learner.average, self.training_set, folder, self.learner.images,
                               self.engine.local_processes)

    def _snapshot(self) -> Iterator[Event]:
        """Store the current averages; with sharded weights every process must take part."""
        images, averages = self.learner.images, self.learner.averages()
        try:
            if self.run and self.engine.is_first:
                self.run.snapshots.write(images, averages)
        except OSError as error:
            yield Warned(f"averages at {images:,} pictures are not stored: {error}")

    def _save(self, finished: bool) -> Iterator[Event]:
        """Write model and state; a failed write costs the checkpoint, but does not end an unfinished training."""
        learner, loss = self.learner, self.journal.loss(self.engine)
        learner.check_gradients()
        if not self.run:
            return
        run, average = self.run, learner.average_state()
        tensors, metadata = learner.state()
        metadata |= {"seconds": self.budget.seconds, "loss": loss, "tail": self.budget.tail, **self.journal.metadata(),
                     "prelude": self.budget.prelude, "finished": finished, "digest": self.digest,
                     "spec": self.data.spec.as_dict(), "processes": self.engine.world,
                     "settings": self.settings.as_dict()}
        try:
            self.engine.run_on_first(lambda: checkpoint.save(learner.average, run.path, average))
            run.states(self.settings.keep).write(learner.images, tensors, metadata, self.engine)
        except OSError as error:
            text = f"no checkpoint at {learner.images:,} pictures: {error}; the one before it is kept"
            if finished:
                raise TrainingFailed(f"{text}: make room and resume with --resume") from None
            yield Warned(f"{text}, and it is tried again later")
            return
        yield Saved(run.path, learner.images)
