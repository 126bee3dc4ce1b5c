"""`ornstein train`."""

from __future__ import annotations

import os
import re
import shlex
import sys
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

from cyclopts import Parameter

from ornstein import __version__
from ornstein.arguments import Fit as FitName
from ornstein.arguments import NetworkName, Precision, alternatives
from ornstein.cli.app import Data, Out, app

if TYPE_CHECKING:
    from ornstein.settings import Settings
    from ornstein.training.display import Display
    from ornstein.training.trainer import Trainer

__all__ = ["Fit", "Size", "train"]


Place = Annotated[Out, Parameter(help="Folder of the run, created if missing.")]
Minutes = Annotated[float | None, Parameter(
    help="Wall-clock time, start-up included; 10 unless --images is given.")]
Images = Annotated[int | None, Parameter(
    help="Pictures to train on, instead of --minutes; such runs repeat bit for bit on a CPU.")]
Size = Annotated[str | None, Parameter(
    help="Side of the pictures in pixels, or WIDTHxHEIGHT such as 48x32; files are resized to it.")]
Fit = Annotated[str | None, Parameter(
    help=f"How to fit pictures of another shape: {alternatives(*get_args(FitName))}; pad puts white around them. Cut "
         "by default.")]
Alpha = Annotated[bool | None, Parameter(
    help="Learn the transparency of the pictures too; by default they are laid on white.", negative=())]
Depth = Annotated[int | None, Parameter(help="Bits per value of grey pictures, 8 or 16; 8 by default.")]
Classes = Annotated[bool | None, Parameter(
    help="Learn the classes; by default if the data have labels.", negative="--no-classes")]
Layout = Annotated[str | None, Parameter(
    help="Axes of an array's samples: V (values), CL, HW, CHW, HWC, DHW, CDHW ...; by default from the array's shape.")]
Network = Annotated[str | None, Parameter(help=f"Kind of network: {alternatives('auto', *get_args(NetworkName))}.")]
Seed = Annotated[int | None, Parameter(help="Seed of weights, order and noise, from 0 to 2^64 - 1; 0 by default.")]
PrecisionOption = Annotated[str | None, Parameter(
    help=f"Numeric precision: {alternatives('auto', *get_args(Precision))}.")]
Processes = Annotated[int | None, Parameter(
    help="Training processes on this machine; by default one per core, where that is faster.")]
Config = Annotated[Path | None, Parameter(help="A run.yaml to read the settings from.")]
Set = Annotated[list[str] | None, Parameter(help="Any setting of run.yaml as key=value; may be repeated.", negative=())]
From = Annotated[Path | None, Parameter(
    name="--from", help="A run or a model's file whose weights to start from, on its own data or on other DATA.")]
Resume = Annotated[bool, Parameter(help="Continue the run in --out, or start it.", negative=())]
Overwrite = Annotated[bool, Parameter(help="Replace the run in --out.", negative=())]
Tracker = Annotated[list[str] | None, Parameter(
    help="tensorboard, or path.py:Class of a tracker of your own; may be repeated.", negative=())]
Json = Annotated[bool, Parameter(help="Print each event as one line of JSON.", negative=())]


@app.command(sort_key=1)
def train(*data: Data, out: Place, minutes: Minutes = None, images: Images = None, size: Size = None,
          fit: Fit = None, alpha: Alpha = None, depth: Depth = None, classes: Classes = None, layout: Layout = None,
          network: Network = None, seed: Seed = None, precision: PrecisionOption = None, processes: Processes = None,
          init_from: From = None, config: Config = None, set: Set = None, resume: Resume = False,
          overwrite: Overwrite = False, tracker: Tracker = None, json: Json = False) -> None:
    """Train a model on DATA for some minutes or pictures, and keep everything in one folder."""
    started = time.monotonic()
    # Set before torch is imported, whose sockets warn on machines without a network.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from ornstein.training import launch

    if launch.is_launched():
        launch.watch_parent()
        started = launch.start_time()
    from ornstein.training.display import Display

    display = Display(json, silent=not launch.is_first())
    if not launch.is_announced():
        display.say(f"ornstein {__version__}")
    settings = _settings(config, minutes, images)
    settings, sources = (settings, [*data]) if data else _recorded_data(settings, out, config, resume, init_from)
    options: dict[str, Any] = {"data": sources[0] if len(sources) == 1 else sources, "minutes": minutes,
                               "images": images,
                               "size": int(size) if size and size.isdecimal() else size and re.sub("[X×]", "x", size),
                               "fit": fit, "alpha": alpha, "depth": depth, "classes": classes, "network": network,
                               "layout": layout, "seed": seed, "precision": precision, "processes": processes}
    settings = settings.replace(**{name: value for name, value in options.items() if value is not None})
    settings = settings.with_text(set or [])

    from ornstein.training import engine, trackers
    from ornstein.training.run import Run
    from ornstein.training.trainer import Trainer

    tracker_factories = trackers.tracker_factories(tracker or [])  # before the data are read
    # A restart resumes the run of this job, and no other.
    is_restart = launch.restart_count() > 0 and (
        launch.is_launched_by_ornstein() or Run(out).job() == launch.job_name())
    if is_restart:
        settings = settings.replace(micro_batch=None)  # run.yaml has the one that fits in memory
    engine.join_torchrun()
    trainer = Trainer(settings.data, minutes=minutes, images=images, seed=seed, settings=settings, out=out,
                      init_from=init_from, resume=resume or is_restart, overwrite=overwrite and not is_restart,
                      started=started, job=launch.job_name())
    if not launch.is_announced():
        display.say(f"training into {out}")
    if trainer.processes > 1 and not launch.is_launched() and not trainer.can_fork_others:
        trainer.prepare()
        arguments = [word for word in sys.argv[1:] if word.partition("=")[0] not in ("--overwrite", "--resume")]
        launch.launch([*arguments, "--resume"], trainer.processes, started - trainer.seconds_used)
        return
    trainer.trackers = trackers.make_trackers(tracker_factories) if launch.is_first() else ()
    if launch.restart_count():
        display.say(f"a process died; all have been restarted ({launch.restart_count()} of {launch.restart_limit()})")
    elif resume and not launch.is_launched() and not trainer.can_resume:
        display.say(f"there is no checkpoint in {out} to continue from; starting a new run")
    _fit(trainer, display, out, tracker_factories)
    engine.leave_group()


def _settings(config: Path | None, minutes: float | None, images: int | None) -> Settings:
    """Read the settings of --config, or return the default ones."""
    from ornstein.settings import Settings

    if config is None:
        return Settings()
    try:
        settings = Settings.from_yaml(config.read_text("utf-8"))
    except ValueError as error:
        raise ValueError(f"{config}: {error}") from None
    # The file of a finished run has a budget, which an option replaces.
    return settings.replace(minutes=None, images=None) if minutes or images else settings


def _recorded_data(settings: Settings, out: Path, config: Path | None, resume: bool,
                   init_from: Path | None) -> tuple[Settings, list[str]]:
    """The data that a run or a configuration names if the command names none, and the settings to read them with."""
    from ornstein.training.run import Run, locate_data

    recorded = settings if config is not None else Run(out).settings() if resume else None
    if recorded is None and init_from is not None and init_from.is_dir() and (recorded := Run(init_from).settings()):
        settings = settings.replace(**recorded.reading)
    if recorded is None:
        raise ValueError("DATA is missing; name digits, a folder of pictures, shards or an array file"
                         + (f" (there is no run in {out} to continue)" if resume else ""))
    source = locate_data(recorded, f"name them: ornstein train DATA --out {out} " + (
        f"--config {config}" if config else "--resume" if resume else f"--from {init_from}"))
    return settings, source if isinstance(source, list) else [source]


def _fit(trainer: Trainer, display: Display, out: Path, trackers: Iterable[str]) -> None:
    """Train, and print how to continue if it is stopped."""
    from ornstein.training import launch

    try:
        trainer.fit(display.event)
    except KeyboardInterrupt as stop:
        if not stop.args:  # a second Ctrl-C
            raise
        launch.report_stop()
        options = "".join(f" --tracker {shlex.quote(name)}" for name in trackers)
        display.say(f"stopped and saved; continue with: ornstein train --out {out} --resume{options}")
        raise SystemExit(128 + stop.args[0]) from None
    if launch.is_first():
        launch.report_outcome(0)
