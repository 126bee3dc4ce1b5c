"""The trainer: a generator of events, with `fit` on top."""

from __future__ import annotations

import copy
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import nn

from ornstein.data import Dataset, DataSpec, load_data, source_name, source_path
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.display import can_rewrite
from ornstein.isolation import isolated
from ornstein.settings import READING, Settings
from ornstein.training import damage, finetune
from ornstein.training.budget import Budget
from ornstein.training.compilation import Compilation
from ornstein.training.course import Course
from ornstein.training.crew import can_fork, together
from ornstein.training.display import Display
from ornstein.training.engine import Engine
from ornstein.training.events import Event, Finished, Started, Warned
from ornstein.training.learner import Learner
from ornstein.training.limits import refuse
from ornstein.training.plan import agreed, drawn_now, reasons, resolve
from ornstein.training.run import Run
from ornstein.training.signals import signals
from ornstein.training.states import State
from ornstein.training.trackers import Tracker, checked, follow
from ornstein.workers import torch_threads

__all__ = ["Trainer"]


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
        init_from: folder of a run, or a model's file, whose weights to start from where they fit.
        settings: everything else; the arguments above win over it where they are given.
        resume: go on with the run in `out`, or start it if there is none.
        overwrite: replace the run in `out`.
        started: `time.monotonic()` when the budget of minutes began to count; now unless given.
        job: name of the job of several processes that this one belongs to.
        trackers: called with every event; see `Tracker`.
        options: any other setting by its name, such as size=32 or batch=64.

    Raises:
        FileExistsError: `out` holds a run, and neither resume nor overwrite is asked for.
        ValueError: settings that are wrong or contradict the run that is resumed.
        TypeError: trackers that cannot be called with an event.
    """

    @isolated(gradients=True)
    def __init__(self, data: Dataset | Any, network: str | nn.Module = "auto", *, minutes: float | None = None,
                 images: int | None = None, seed: int | None = None, out: str | Path | None = None,
                 init_from: str | Path | None = None, settings: Settings | None = None, resume: bool = False,
                 overwrite: bool = False, started: float | None = None, job: str = "",
                 trackers: Iterable[Tracker] = (), **options: Any) -> None:
        self.trackers = checked(trackers)
        self.started, self.job = time.monotonic() if started is None else started, job
        self._stop, self._begun, self._signal, self._faults = threading.Event(), False, signal.SIGINT, list[str]()
        self.own = network if isinstance(network, nn.Module) else None
        if out is not None and not os.fspath(out):
            raise ValueError("out is ''; name a folder, or None to keep everything in memory")
        if loaded := isinstance(data, Dataset) and next((name for name in READING if name in options), None):
            raise ValueError(f"{loaded} is {options[loaded]!r}, but data are loaded already; give it to load_data")
        given: dict[str, Any] = {**options, "minutes": minutes, "images": images, "seed": seed,
                 # As the data's place, whatever folder a command is given in.
                 "init_from": None if init_from is None else os.path.abspath(Path(init_from).expanduser()),
                 "data": source_name(data),  # that of arrays is their name, below
                 "network": network if isinstance(network, str) and network != "auto" else None}
        wanted = (settings or Settings()).replace(**{name: value for name, value in given.items() if value is not None},
                                                data_path=source_path(data))
        self.run = None if out is None else Run(out)
        self.engine = Engine()
        before = self._before(wanted, given, resume, overwrite) if self.engine.first else None
        # What the first process finds in the folder holds for all.
        shared = self.engine.text("" if before is None else before.to_yaml())
        before = Settings.from_yaml(shared) if shared else None
        self.start = None if before or wanted.init_from is None else finetune.source(wanted, copy.deepcopy(self.own))
        earlier = None if self.start is None else finetune.before(wanted)
        if self.start is not None:
            wanted = finetune.inherited(wanted, self.start, earlier, data)
        source = before or wanted
        self.data = data if isinstance(data, Dataset) else load_data(data, **source.reading)
        self.digest = self.data.digest()
        if self.start is not None:
            wanted = finetune.fitting(wanted, self.start, earlier, self.data.spec)
        self._resolve(before, wanted, named=source_name(data) is not None)
        refuse(self.settings, self.data, torch.device(self.engine.device).type, self.engine.world, self.own is not None)
        self._open(before is not None)

    def _resolve(self, before: Settings | None, wanted: Settings, named: bool) -> None:
        """Choose what was left open, or take what the run has; `named` are data that run.yaml can name."""
        if self.engine.world > 1:
            wanted = wanted.replace(processes=self.engine.world)
        if self.own is not None:  # whether it can be compiled, or have twins, is for its author to say
            wanted = wanted.replace(compile=bool(wanted.compile), processes=wanted.processes or 1)
        kind = torch.device(self.engine.device).type
        settings = before or resolve(wanted, self.data, kind)
        self.reasons = () if before or self.own is not None else tuple(reasons(wanted, self.data, kind))
        # Several processes are forked from this one, or started by torchrun, and then this is one of them.
        self.processes = self.engine.world if self.engine.world > 1 else settings.processes or 1
        threads = None if self.processes > 1 else settings.threads or torch.get_num_threads()
        settings = settings.replace(processes=self.processes, threads=threads)
        if before is None and not named:
            settings = settings.replace(data=self.data.spec.name)
        if self.own is not None:
            settings = settings.replace(network=f"own.{type(self.own).__name__}", options={})
        if self.processes == self.engine.world:
            self.engine.choose(settings.parallel, settings.shard)
        self.settings = settings

    def _open(self, resumed: bool) -> None:
        """Find what a run that goes on has left."""
        self._state = self._newest() if resumed else None
        self._whole = self.run.model(self.own) if self.run and resumed and not self._state else None
        if resumed and self.settings.init_from is not None and not self.goes_on:
            self.start = finetune.source(self.settings, copy.deepcopy(self.own))
        note = self._state.note if self._state else {}
        if self._state and note["digest"] != self.digest:
            raise ValueError(f"data {self.data.spec.name!r} are not what the run in {self.run and self.run.path} was "
                             "trained on: values or labels have changed; start another run (--overwrite)")
        self.settings = drawn_now(self.settings, note, self._faults)
        if spec := note.get("spec"):
            # The scale of the run, whatever a later version would choose.
            self.data = copy.copy(self.data)
            self.data.spec = DataSpec.from_dict(spec)

    def _before(self, wanted: Settings, given: dict[str, Any], resume: bool, overwrite: bool) -> Settings | None:
        """Settings of the run to go on with, after refusing what cannot be."""
        if not self.run:
            return None
        place = Path(wanted.data if isinstance(wanted.data, str) else "").expanduser()
        if place != Path() and place.is_dir() and self.run.path.resolve().is_relative_to(place.resolve()):
            raise ValueError(f"out is {self.run.path}, inside the data folder: the run's pictures would become "
                             "training data; name a folder outside it")
        self.run.refuse(resume, overwrite)
        return agreed(self.run, wanted, given) if resume else None

    def _newest(self) -> State | None:
        """The newest state that is whole, the same one in every process."""
        if not self.run:
            return None
        states, name = self.run.states(self.settings.keep), ""
        if self.engine.first:
            states.clean()
            state, self._faults = states.newest()
            name = state.path.name if state else ""
        name = self.engine.text(name)
        return State(states.path / name, check=self.engine.first) if name else None

    @property
    def goes_on(self) -> bool:
        """Whether there is a checkpoint to go on from."""
        return self._state is not None or self._whole is not None

    @property
    def used(self) -> float:
        """Seconds of the budget that the run has used before."""
        return self._state.note["seconds"] if self._state else 0.0

    def stop(self) -> None:
        """Ask a running training to save and end after the step that it is in."""
        self._stop.set()

    def fit(self, on_event: Callable[[Event], None] | None = None, progress: bool | None = None) -> NetworkDenoiser:
        """Train until the budget is used up.

        Args:
            on_event: called with every event; without it `Warned` becomes a Python warning.
            progress: whether to show on standard error what `ornstein train` prints: what was chosen, then the loss,
                the rate and the time that is left. None shows it on a terminal and in a notebook, unless `on_event`
                is given.

        Returns:
            The denoiser with averaged weights, in evaluation mode.

        Raises:
            KeyboardInterrupt: Ctrl-C, SIGTERM or SIGHUP, by its number; the state is saved first if there is a folder.
            TrainingFailed: it cannot go on: gradients that stay infinite, too little memory, or a last
                checkpoint for which there is no room.
        """
        wanted = progress if progress is not None else on_event is None and can_rewrite(sys.stderr)
        display = Display(silent=not (wanted and self.engine.first), error=True)
        with signals(self._interrupt), closing(display):
            for event in self.events():
                if on_event:
                    on_event(event)
                elif isinstance(event, Warned):
                    display.close()
                    warnings.warn(event.text, RuntimeWarning, stacklevel=2)
                    continue
                display.event(event)
                if isinstance(event, Finished):
                    return event.model
        raise KeyboardInterrupt(int(self._signal))

    def prepare(self) -> None:
        """Make the run's folder ready for processes that go on with it."""
        if self.run and not self.goes_on:
            with self.run.held():
                self.run.begin(self.settings)

    def _interrupt(self, number: int) -> None:
        self._signal = signal.Signals(number)
        self.stop()

    @isolated(gradients=True)
    def events(self) -> Iterator[Event]:
        """Train, step by step; yields `Started`, then `Progress`, `Saved`, `Drawn` and `Warned`, last
        `Finished` or `Interrupted`."""
        self._stop.clear()
        if self._begun:
            self.started, self._state = time.monotonic(), self._newest()
        self._begun = True
        if self._whole is not None and self._state is None:
            yield Finished(self._whole, int(self._whole.metrics["images"] or 0), 0.0, already=True)
            return
        if self.processes == self.engine.world:
            with torch_threads(self.settings.threads):
                yield from self._process(self.engine)
            return
        if not self.forks:
            raise ValueError(f"processes is {self.processes}, and this is one: start them with ornstein train "
                             "--processes, or with torchrun")
        yield from together(self.processes, self._process, self._again if self.run else None)

    @property
    def forks(self) -> bool:
        """Whether this process can fork the others that it needs."""
        return self.engine.world == 1 and self.settings.parallel == "ddp" and can_fork(self.engine.device)

    def _again(self) -> None:
        """Make ready to go on from the last state, with what the memory allows."""
        before = self.settings if self.run is None else self.run.settings() or self.settings
        self.engine, self.settings = Engine(), self.settings.replace(micro_batch=before.micro_batch)
        self._state = self._newest()

    def _process(self, engine: Engine) -> Iterator[Event]:
        """Train as one of the processes, or the only one."""
        self.engine = engine
        engine.choose(self.settings.parallel, self.settings.shard)
        train_set, held_set = self.data.split()
        state, run = self._state, self.run
        learner = Learner(self.settings, train_set, engine, self.own, None if state else self.start)
        note: dict[str, Any] = state.note if state else {
            "seconds": 0.0, "loss": None, "held_out": None, "gap": None, "finished": False, "tail": 0.0, "prelude": 0.0}
        # Held after all that may be refused: nothing is left behind then.
        with (closing(learner.loader), closing(Compilation(learner)) as compilation,
              run.held(self.job) if run and engine.first else nullcontext()):
            if state:
                state.fill(learner.state()[0])
                learner.restore(note)
            course = Course(self.settings, engine, learner, self.data, self.digest, run, note,
                            Budget(self.settings, self.started, note), compilation, self._stop.is_set, self._settle)
            notes = (*self.data.notes, learner.taken) if learner.taken else tuple(self.data.notes)
            started = Started(self.settings, sum(value.numel() for value in learner.weights), len(train_set),
                              len(held_set), engine.device, notes, learner.images if state else None,
                              self.reasons, run.path if run else None)
            over = note["finished"]  # of that nothing is left to track
            yield from follow(self._begun_with(started, course), self.trackers if engine.first and not over else ())

    def _settle(self, settings: Settings) -> None:
        """Keep what the memory allows, and write it where a resumed run reads it."""
        self.settings = settings
        if self.run:
            self.run.settle(settings)

    def _begun_with(self, started: Started, course: Course) -> Iterator[Event]:
        """The events of one process, the folder's state among them."""
        if self.run and self.engine.first:
            if self._state:
                self._faults += damage.rewind(self.run, course.learner.images, course.note)
                self.run.settle(self.settings)
            else:
                self.run.begin(self.settings)
        yield started
        yield from map(Warned, self._faults)
        yield from course.events(resumed=self._state is not None)
