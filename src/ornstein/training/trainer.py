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
from ornstein.training.display import Display
from ornstein.training.engine import Engine
from ornstein.training.events import Event, Finished, Started, Warned
from ornstein.training.forking import can_fork, train_forked
from ornstein.training.learner import Learner
from ornstein.training.limits import check_feasible
from ornstein.training.loop import TrainingLoop
from ornstein.training.plan import reasons, resolve, resumed_settings, with_current_noise
from ornstein.training.run import Run
from ornstein.training.signals import stop_on_signals
from ornstein.training.states import State
from ornstein.training.trackers import Tracker, check_trackers, track
from ornstein.workers import torch_threads

__all__ = ["Trainer"]


class Trainer:
    """Trains a denoiser on data within a budget; a run can stop and resume at any step.

    Randomness is a function of (seed, step), so a run by `images` repeats bit for bit on a CPU.

    Args:
        data: a `Dataset`, or what `load_data` takes.
        network: a short name, "auto", or a module called as network(y, log_snr, condition).
        minutes: budget of wall clock; 10 unless `images` is given.
        images: budget of pictures seen, in place of minutes.
        seed: of weights, order and noise, from 0 to 2^64 - 1.
        out: folder of the run; None keeps everything in memory.
        init_from: folder of a run, or a model file, whose weights to start from where they fit.
        settings: everything else; the arguments above take precedence over it.
        resume: resume the run in `out`, or start it if there is none.
        overwrite: replace the run in `out`.
        started: `time.monotonic()` at the start of the budget of minutes; now by default.
        job: name of the multi-process job that this process belongs to.
        trackers: called with every event; see `Tracker`.
        options: any other setting by name, such as size=32 or batch=64.

    Raises:
        FileExistsError: `out` holds a run, and neither resume nor overwrite is set.
        ValueError: settings are wrong or contradict the run that is resumed.
        TypeError: a tracker cannot be called with an event.
    """

    @isolated(gradients=True)
    def __init__(self, data: Dataset | Any, network: str | nn.Module = "auto", *, minutes: float | None = None,
                 images: int | None = None, seed: int | None = None, out: str | Path | None = None,
                 init_from: str | Path | None = None, settings: Settings | None = None, resume: bool = False,
                 overwrite: bool = False, started: float | None = None, job: str = "",
                 trackers: Iterable[Tracker] = (), **options: Any) -> None:
        self.trackers = check_trackers(trackers)
        self.started, self.job = time.monotonic() if started is None else started, job
        self._stop, self._has_started, self._signal = threading.Event(), False, signal.SIGINT
        self._warnings: list[str] = []
        self.custom_network = network if isinstance(network, nn.Module) else None
        if out is not None and not os.fspath(out):
            raise ValueError("out is ''; name a folder, or None to keep everything in memory")
        if option := isinstance(data, Dataset) and next((name for name in READING if name in options), None):
            raise ValueError(f"{option} is {options[option]!r}, but the data are already loaded; give it to load_data")
        given: dict[str, Any] = {**options, "minutes": minutes, "images": images, "seed": seed,
                 # Absolute, like the data's path, whatever the working folder.
                 "init_from": None if init_from is None else os.path.abspath(Path(init_from).expanduser()),
                 "data": source_name(data),  # for arrays the data set's name, below
                 "network": network if isinstance(network, str) and network != "auto" else None}
        wanted = (settings or Settings()).replace(**{name: value for name, value in given.items() if value is not None},
                                                  data_path=source_path(data))
        self.run = None if out is None else Run(out)
        self.engine = Engine()
        before = self._settings_before(wanted, given, resume, overwrite) if self.engine.is_first else None
        # What the first process finds in the folder applies to all.
        shared = self.engine.broadcast_text("" if before is None else before.to_yaml())
        before = Settings.from_yaml(shared) if shared else None
        fresh = before is None and wanted.init_from is not None
        self.source_model = finetune.load_source(wanted, copy.deepcopy(self.custom_network)) if fresh else None
        source_settings = None if self.source_model is None else finetune.source_settings(wanted)
        if self.source_model is not None:
            wanted = finetune.inherit_settings(wanted, self.source_model, source_settings, data)
        self.data = data if isinstance(data, Dataset) else load_data(data, **(before or wanted).reading)
        self.digest = self.data.digest()
        if self.source_model is not None:
            wanted = finetune.inherit_linear(wanted, self.source_model, source_settings, self.data.spec)
        self._resolve(before, wanted, named=source_name(data) is not None)
        check_feasible(self.settings, self.data, torch.device(self.engine.device).type, self.engine.world,
                       self.custom_network is not None)
        self._open_run(before is not None)

    def _resolve(self, before: Settings | None, wanted: Settings, named: bool) -> None:
        """Resolve the settings, or take those of the run; `named` says whether run.yaml can name the data."""
        if self.engine.world > 1:
            wanted = wanted.replace(processes=self.engine.world)
        if self.custom_network is not None:  # compiled, or run in several processes, only if asked
            wanted = wanted.replace(compile=bool(wanted.compile), processes=wanted.processes or 1)
        device = torch.device(self.engine.device).type
        settings = before or resolve(wanted, self.data, device)
        self.reasons = () if before or self.custom_network is not None else tuple(reasons(wanted, self.data, device))
        # The other processes are forked from this one, unless torchrun started them all.
        self.processes = self.engine.world if self.engine.world > 1 else settings.processes or 1
        threads = None if self.processes > 1 else settings.threads or torch.get_num_threads()
        settings = settings.replace(processes=self.processes, threads=threads)
        if before is None and not named:
            settings = settings.replace(data=self.data.spec.name)
        if self.custom_network is not None:
            settings = settings.replace(network=f"own.{type(self.custom_network).__name__}", options={})
        if self.processes == self.engine.world:
            self.engine.configure(settings.parallel, settings.shard)
        self.settings = settings

    def _open_run(self, resumed: bool) -> None:
        """Take over the state, the scale of the data and the noise version of a run that is resumed."""
        self._state = self._newest_state() if resumed else None
        self._finished_model = None
        if self.run and resumed and not self._state:
            self._finished_model = self.run.load_model(self.custom_network)
        if resumed and self.settings.init_from is not None and not self.can_resume:
            self.source_model = finetune.load_source(self.settings, copy.deepcopy(self.custom_network))
        metadata = self._state.metadata if self._state else {}
        if self._state and metadata["digest"] != self.digest:
            raise ValueError(f"data {self.data.spec.name!r} are not what the run in {self.run and self.run.path} was "
                             "trained on: values or labels have changed; start another run (--overwrite)")
        self.settings = with_current_noise(self.settings, metadata, self._warnings)
        if spec := metadata.get("spec"):
            # The scale that the run started with, even if this version would choose another.
            self.data = copy.copy(self.data)
            self.data.spec = DataSpec.from_dict(spec)

    def _settings_before(self, wanted: Settings, given: dict[str, Any], resume: bool,
                         overwrite: bool) -> Settings | None:
        """The settings of the run to resume, if there is one; raises if `out` cannot be used."""
        if not self.run:
            return None
        folder = Path(wanted.data if isinstance(wanted.data, str) else "").expanduser()
        if folder != Path() and folder.is_dir() and self.run.path.resolve().is_relative_to(folder.resolve()):
            raise ValueError(f"out is {self.run.path}, inside the data folder: the run's pictures would become "
                             "training data; name a folder outside it")
        self.run.check_target(resume, overwrite)
        return resumed_settings(self.run, wanted, given) if resume else None

    def _newest_state(self) -> State | None:
        """The newest intact state, the same one in every process."""
        if not self.run:
            return None
        states, name = self.run.states(self.settings.keep), ""
        if self.engine.is_first:
            states.clean_up()
            state, self._warnings = states.newest()
            name = state.path.name if state else ""
        name = self.engine.broadcast_text(name)
        return State(states.path / name, check=self.engine.is_first) if name else None

    @property
    def can_resume(self) -> bool:
        """Whether there is a checkpoint to resume from."""
        return self._state is not None or self._finished_model is not None

    @property
    def seconds_used(self) -> float:
        """Seconds of the budget that the run has already used."""
        return self._state.metadata["seconds"] if self._state else 0.0

    def stop(self) -> None:
        """Ask a running training to save and stop after its current step."""
        self._stop.set()

    def fit(self, on_event: Callable[[Event], None] | None = None, progress: bool | None = None) -> NetworkDenoiser:
        """Train until the budget is used up.

        Args:
            on_event: called with every event; without it `Warned` becomes a Python warning.
            progress: whether to print on standard error what `ornstein train` prints: the automatic choices, then the
                loss, the rate and the time left. None prints it on a terminal and in a notebook, unless `on_event` is
                given.

        Returns:
            The denoiser with averaged weights, in evaluation mode.

        Raises:
            KeyboardInterrupt: on Ctrl-C, SIGTERM or SIGHUP, with its number; the state is saved first if there is a
                folder.
            TrainingFailed: the training cannot go on: gradients that stay infinite, too little memory, or no room for
                the last checkpoint.
        """
        shows = progress if progress is not None else on_event is None and can_rewrite(sys.stderr)
        display = Display(silent=not (shows and self.engine.is_first), error=True)
        with stop_on_signals(self._on_signal), closing(display):
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
        """Create the run's folder for the processes that will resume it."""
        if self.run and not self.can_resume:
            with self.run.locked():
                self.run.create(self.settings)

    def _on_signal(self, number: int) -> None:
        self._signal = signal.Signals(number)
        self.stop()

    @isolated(gradients=True)
    def events(self) -> Iterator[Event]:
        """Train step by step; yields `Started`, then `Progress`, `Saved`, `Drawn`, `Noted` and `Warned`, and at the end
        `Finished` or `Interrupted`."""
        self._stop.clear()
        if self._has_started:
            self.started, self._state = time.monotonic(), self._newest_state()
        self._has_started = True
        if self._finished_model is not None and self._state is None:
            yield Finished(self._finished_model, int(self._finished_model.metrics["images"] or 0), 0.0, already=True)
            return
        if self.processes == self.engine.world:
            with torch_threads(self.settings.threads):
                yield from self._train(self.engine)
            return
        if not self.can_fork_others:
            raise ValueError(f"processes is {self.processes}, and this is one: start them with ornstein train "
                             "--processes, or with torchrun")
        yield from train_forked(self.processes, self._train, self._prepare_restart if self.run else None)

    @property
    def can_fork_others(self) -> bool:
        """Whether this process can fork the other processes that it needs."""
        return self.engine.world == 1 and self.settings.parallel == "ddp" and can_fork(self.engine.device)

    def _prepare_restart(self) -> None:
        """Prepare to resume from the last state, with the micro-batch that fits into memory."""
        before = self.settings if self.run is None else self.run.settings() or self.settings
        self.engine, self.settings = Engine(), self.settings.replace(micro_batch=before.micro_batch)
        self._state = self._newest_state()

    def _train(self, engine: Engine) -> Iterator[Event]:
        """Train as one of the processes, or as the only one."""
        self.engine = engine
        engine.configure(self.settings.parallel, self.settings.shard)
        training_set, held_out_set = self.data.split()
        state, run = self._state, self.run
        learner = Learner(self.settings, training_set, engine, self.custom_network,
                          None if state else self.source_model)
        metadata: dict[str, Any] = state.metadata if state else {
            "seconds": 0.0, "loss": None, "held_out": None, "gap": None, "finished": False, "tail": 0.0, "prelude": 0.0}
        # Locked after everything that may be refused, so that a refusal leaves nothing behind.
        with (closing(learner.loader), closing(Compilation(learner)) as compilation,
              run.locked(self.job) if run and engine.is_first else nullcontext()):
            if state:
                state.fill(learner.state()[0])
                learner.restore(metadata)
            loop = TrainingLoop(self.settings, engine, learner, self.data, self.digest, run, metadata,
                                Budget(self.settings, self.started, metadata), compilation, self._stop.is_set,
                                self._on_settings)
            notes = (*self.data.notes, learner.transfer_summary) if learner.transfer_summary else tuple(self.data.notes)
            started = Started(self.settings, sum(value.numel() for value in learner.weights), len(training_set),
                              len(held_out_set), engine.device, notes, learner.images if state else None,
                              self.reasons, run.path if run else None)
            trackers = self.trackers if engine.is_first and not metadata["finished"] else ()
            yield from track(self._run_loop(started, loop), trackers)

    def _on_settings(self, settings: Settings) -> None:
        """Keep settings that changed during the training, and write them for a resumed run."""
        self.settings = settings
        if self.run:
            self.run.write_settings(settings)

    def _run_loop(self, started: Started, loop: TrainingLoop) -> Iterator[Event]:
        """Prepare the folder and run the loop; yields the events of this process."""
        if self.run and self.engine.is_first:
            if self._state:
                self._warnings += damage.rewind_logs(self.run, loop.learner.images, loop.metadata)
                self.run.write_settings(self.settings)
            else:
                self.run.create(self.settings)
        yield started
        yield from map(Warned, self._warnings)
        yield from loop.events(resumed=self._state is not None)
