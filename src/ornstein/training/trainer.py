"""The trainer: a generator of events, with `fit` on top."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ornstein import checkpoint, machine
from ornstein.data import Dataset, load_data
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.figures.pictures import preview
from ornstein.settings import Settings
from ornstein.training.events import Event, Finished, Interrupted, Progress, Saved, Started
from ornstein.training.learner import Learner, learning_rate
from ornstein.training.plan import MINUTES, resolve
from ornstein.training.run import Run

__all__ = ["Trainer"]

SMOOTHING = 0.05  # weight of a step's loss in the one that is shown
LOG_SECONDS = 1.0  # between lines of metrics
SAVE_SECONDS = 30.0  # between checkpoints: what a killed run can lose
PREVIEWS = (0.1, 0.25, 0.5, 0.75)  # shares of the budget at which to draw samples; the last grid is drawn at the end


class Trainer:
    """Trains a denoiser on data within a budget, and can stop and go on at any step.

    Randomness is a function of (seed, step), so a run by `images` repeats bit for bit on a CPU.

    Args:
        data: a `Dataset`, or what `load_data` takes.
        network: a short name, "auto", or a module called as network(y, log_snr, condition).
        minutes: budget of wall clock; 10 unless images are given.
        images: budget of pictures seen, in place of minutes.
        seed: of weights, order and noise, from 0 to 2^64 - 1.
        out: folder of the run; None keeps everything in memory.
        settings: everything else; the arguments above win over it where they are given.
        resume: go on with the run in `out`, or start it if there is none.
        overwrite: replace the run in `out`.
        started: `time.monotonic()` when the budget of minutes began to count; now unless given.

    Raises:
        FileExistsError: `out` holds a run, and neither resume nor overwrite is asked for.
        ValueError: settings that are wrong or contradict the run that is resumed.
    """

    def __init__(self, data: Dataset | Any, network: str | nn.Module = "auto", *, minutes: float | None = None,
                 images: int | None = None, seed: int | None = None, out: str | Path | None = None,
                 settings: Settings | None = None, resume: bool = False, overwrite: bool = False,
                 started: float | None = None) -> None:
        self.started = time.monotonic() if started is None else started
        self._stop, self._begun = threading.Event(), False
        self.own = network if isinstance(network, nn.Module) else None
        given = {"minutes": minutes, "images": images, "seed": seed,
                 "data": str(data) if isinstance(data, str | Path) else None,  # that of arrays is their name, below
                 "network": network if isinstance(network, str) and network != "auto" else None}
        wanted = (settings or Settings()).replace(**{name: value for name, value in given.items() if value is not None})
        self.run = None if out is None else Run(out)
        before = None
        if self.run:
            self.run.refuse(resume, overwrite)
            before = _agreed(self.run, wanted, given) if resume else None
        source = before or wanted
        self.data = data if isinstance(data, Dataset) else load_data(data, size=source.size, classes=source.classes)
        self.digest = self.data.digest()
        self.device = machine.device()
        self.settings = before or resolve(wanted, self.data, self.device)
        if before is None and not isinstance(data, str | Path):
            self.settings = self.settings.replace(data=self.data.spec.name)
        if self.own is not None:
            self.settings = self.settings.replace(network=type(self.own).__name__, options={})
        self.seconds = 60 * (self.settings.minutes or MINUTES)  # the budget, unless it is one of images
        self._state = self.run.state() if self.run and before else None
        if self._state and self._state[1]["digest"] != self.digest:
            raise ValueError(f"data {self.data.spec.name!r} are not what the run in {out} was trained on: "
                             "values or labels have changed; start another run (--overwrite)")

    @property
    def goes_on(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self._state is not None

    def stop(self) -> None:
        """Ask a running training to save and end after the step that it is in."""
        self._stop.set()

    def fit(self, on_event: Callable[[Event], None] | None = None) -> NetworkDenoiser:
        """Train until the budget is used up.

        Args:
            on_event: called with every event.

        Returns:
            The denoiser with averaged weights, in evaluation mode.

        Raises:
            KeyboardInterrupt: Ctrl-C or SIGTERM; the state is saved first if the run has a folder.
        """
        with _signals(self.stop):
            for event in self.events():
                if on_event:
                    on_event(event)
                if isinstance(event, Finished):
                    return event.model
        raise KeyboardInterrupt

    def events(self) -> Iterator[Event]:
        """Train, step by step; yields `Started`, then `Progress` and `Saved`, last `Finished` or `Interrupted`."""
        self._stop.clear()
        if self.run and self._begun:
            self._state = self.run.state()
        self._begun = True
        train_set, held_set = self.data.split()
        learner = Learner(self.settings, train_set, self.device, self.own)
        used, loss, state = 0.0, None, self._state
        if state:
            learner.restore(*state)
            used, loss = state[1]["seconds"], state[1]["loss"]
        # A resumed budget goes on where its checkpoint was written.
        self.origin = self.started if state is None else time.monotonic() - used
        if self.run and state:
            self.run.rewind(learner.images)
        elif self.run:
            self.run.begin(self.settings)
        parameters = sum(value.numel() for value in learner.model.network.parameters())
        yield Started(self.settings, parameters, len(train_set), len(held_set), self.device,
                      tuple(self.data.notes), learner.images if state else None)
        if state and state[1]["finished"]:
            learner.average.metrics = {"images": learner.images, "loss": loss, "held_out": state[1]["held_out"]}
            yield Finished(learner.average, learner.images, used, already=True)
            return
        if self.run and state:
            self.run.log(images=learner.images, resumed_at=learner.images, loss=loss, seconds=used)
        yield from self._train(learner, held_set, loss)

    def _train(self, learner: Learner, held_set: Dataset, loss: float | None) -> Iterator[Event]:
        held, tail = None, 0.0
        # Smoothed over steps, never over seconds: the loss is part of what a run repeats.
        smooth = None if loss is None else torch.tensor(loss, device=self.device)
        waiting = [share for share in PREVIEWS if share > self._share(learner, 0.0)]
        logged = saved = time.monotonic()
        first = seen = learner.images
        while (share := self._share(learner, tail)) < 1:
            rate = learning_rate(self.settings, share)
            value = learner.step(rate)
            smooth = value if smooth is None else smooth.lerp(value, SMOOTHING)
            now = time.monotonic()
            if now - logged >= LOG_SECONDS or learner.images == first + self.settings.batch:
                loss = _finite(smooth, learner)
                event = self._progress(learner, share, loss, held, (learner.images - seen) / (now - logged), rate)
                seen, logged = learner.images, now
                yield event
            if waiting and share >= waiting[0]:
                waiting = [later for later in waiting if later > share]
                begin = time.monotonic()
                loss = _finite(smooth, learner)
                held = learner.held_out(held_set) if len(held_set) else None
                self._preview(learner)
                # As much again is needed at the end, and a checkpoint: it must fit into the budget.
                tail = 1.2 * (time.monotonic() - begin)
            if self._stop.is_set() or (self.run and now - saved >= SAVE_SECONDS):
                if self.run:
                    loss = _finite(smooth, learner)
                    yield self._save(self.run, learner, loss, held, finished=False)
                saved = time.monotonic()
                if self._stop.is_set():
                    yield Interrupted(learner.images)
                    return
        if learner.images == 0:
            raise RuntimeError(f"the budget of {self.seconds:g} seconds was over before the first step; "
                               "give more minutes")
        if smooth is not None:
            loss = _finite(smooth, learner)
        held = learner.held_out(held_set) if len(held_set) else None
        self._preview(learner)
        learner.average.metrics = {"images": learner.images, "loss": loss, "held_out": held}
        self._progress(learner, 1.0, loss, held, 0.0, 0.0)
        if self.run:
            yield self._save(self.run, learner, loss, held, finished=True)
        yield Finished(learner.average, learner.images, time.monotonic() - self.origin, already=False)

    def _share(self, learner: Learner, tail: float) -> float:
        """Share of the budget that is used; of minutes, less what the end will need."""
        if self.settings.images is not None:
            return learner.images / self.settings.images
        return (time.monotonic() - self.origin) / max(self.seconds - tail, 1e-9)

    def _progress(self, learner: Learner, share: float, loss: float | None, held: float | None, rate: float,
                  step_size: float) -> Progress:
        seconds = time.monotonic() - self.origin
        left = (self.settings.images - learner.images) / max(rate, 1e-9) if self.settings.images is not None \
            else self.seconds - seconds
        if self.run:
            self.run.log(images=learner.images, loss=loss, held_out=held, learning_rate=step_size,
                         seconds=round(seconds, 3), images_per_second=round(rate, 1))
        return Progress(learner.images, min(share, 1.0), loss or 0.0, held, rate, step_size, seconds, max(left, 0.0))

    def _preview(self, learner: Learner) -> None:
        if self.run:
            preview(learner.average, self.run.previews / f"{learner.images:09d}.png")

    def _save(self, run: Run, learner: Learner, loss: float | None, held: float | None, finished: bool) -> Saved:
        tensors, note = learner.state()
        checkpoint.save(learner.average, run.path / checkpoint.MODEL)
        run.keep(tensors, {**note, "seconds": time.monotonic() - self.origin, "loss": loss, "held_out": held,
                           "finished": finished, "digest": self.digest})
        return Saved(run.path, learner.images)


def _finite(loss: Tensor, learner: Learner) -> float:
    """The loss as a number; a training that has lost its way ends before it overwrites a good checkpoint."""
    value = float(loss)
    if not math.isfinite(value):
        raise RuntimeError(f"the loss is {value} after {learner.images:,} pictures; the last checkpoint is kept, "
                           "go on from it with a lower learning_rate in a new run")
    return value


def _agreed(run: Run, wanted: Settings, given: dict[str, Any]) -> Settings | None:
    """The settings of the run that is there, if nothing that is asked for contradicts them; None without a run."""
    before, fresh = run.settings(), Settings().as_dict()
    if before is None:
        return None
    # Where the data lie may change; what they are is compared by their digest.
    asked = {name: value for name, value in wanted.as_dict().items()
             if value != fresh[name] or given.get(name) is not None}
    asked.pop("data", None)
    asked["options"] = {**before.options, **wanted.options}
    for name, (there, here) in before.differences(asked).items():
        raise ValueError(f"{name} is {here!r}, but the run in {run.path} has {there!r}; leave it out to go on with "
                         "the run, or start another (--overwrite)")
    return before


@contextmanager
def _signals(stop: Callable[[], None]) -> Generator[None, None, None]:
    """Let the first Ctrl-C or SIGTERM ask for a stop; a second one ends the program as ever."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def handle(number: int, _: Any) -> None:
        stop()
        signal.signal(number, before[number])

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
