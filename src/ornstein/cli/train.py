"""`ornstein train`."""

from __future__ import annotations

import os
import shlex
import sys
import time
from pathlib import Path
from typing import Annotated, Any, get_args

from cyclopts import Parameter

from ornstein import __version__
from ornstein.cli.app import Data, Out, app, side
from ornstein.names import NetworkName, Precision, either

__all__ = ["train"]


@app.command(sort_key=1)
def train(
    data: Data = None,
    *,
    out: Annotated[Out, Parameter(help="Folder of the run, made if missing.")],
    minutes: Annotated[float | None, Parameter(
        help="Wall clock to spend, start-up included; 10 unless --images is given.")] = None,
    images: Annotated[int | None, Parameter(
        help="Pictures to see, in place of --minutes; such runs repeat bit for bit on a CPU.")] = None,
    size: Annotated[int | None, Parameter(
        help="Side of the pictures in pixels; a folder's are resized and cropped.", converter=side)] = None,
    classes: Annotated[bool | None, Parameter(
        help="Learn the classes; by default wherever the data have labels.", negative="--no-classes")] = None,
    layout: Annotated[str | None, Parameter(
        help="Axes of an array's samples: V (values), CL, HW, CHW, HWC, DHW, CDHW ...; read off by default.")] = None,
    network: Annotated[str | None, Parameter(help=f"{either('auto', *get_args(NetworkName))}.")] = None,
    seed: Annotated[int | None, Parameter(
        help="Of weights, order and noise, from 0 to 2^64 - 1; 0 by default.")] = None,
    precision: Annotated[str | None, Parameter(help=f"{either('auto', *get_args(Precision))}.")] = None,
    processes: Annotated[int | None, Parameter(
        help="Processes to train in together, on this machine; one a core by default, where that pays.")] = None,
    config: Annotated[Path | None, Parameter(help="A run.yaml to take the settings from.")] = None,
    set: Annotated[list[str] | None, Parameter(
        help="Any setting of run.yaml as key=value; may be repeated.", negative=())] = None,
    resume: Annotated[bool, Parameter(help="Go on with the run in --out, or start it.", negative=())] = False,
    overwrite: Annotated[bool, Parameter(help="Replace the run in --out.", negative=())] = False,
    tracker: Annotated[list[str] | None, Parameter(
        help="tensorboard, or path.py:Class of a tracker of your own; may be repeated.", negative=())] = None,
    json: Annotated[bool, Parameter(help="Print each event as one line of JSON.", negative=())] = False,
) -> None:
    """Train a model on DATA within a budget, and keep everything in one folder."""
    started = time.monotonic()
    # Before torch is imported: its sockets warn of names that a machine without a network cannot look up.
    os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
    from ornstein.training import launch

    if one_of_many := launch.launched():
        launch.follow()
        started = launch.started()
    from ornstein.display import Display

    display = Display(json, silent=one_of_many and not launch.speaks())
    if not launch.announced():
        display.say(f"ornstein {__version__}: training into {out}")
    from ornstein.settings import Settings

    settings = Settings()
    if config is not None:
        try:
            settings = Settings.from_yaml(config.read_text("utf-8"))
        except ValueError as error:
            raise ValueError(f"{config}: {error}") from None
        if minutes or images:  # in place of the budget that a finished run's file has
            settings = settings.replace(minutes=None, images=None)
    if data is None:
        from ornstein.training.run import Run, located

        there = settings if config is not None else Run(out).settings() if resume else None
        if there is None:
            raise ValueError("DATA is missing; name digits, a folder of pictures, shards or an array file"
                             + (f" (there is no run in {out} to go on with)" if resume else ""))
        data = located(there, f"name them: ornstein train DATA --out {out} "
                       + ("--resume" if config is None else f"--config {config}"))
    given: dict[str, Any] = {
        "data": data, "minutes": minutes, "images": images, "size": size, "classes": classes, "network": network,
        "layout": layout, "seed": seed, "precision": precision, "processes": processes}
    settings = settings.replace(**{name: value for name, value in given.items() if value is not None})
    settings = settings.with_text(set or [])

    from ornstein.training import engine, trackers
    from ornstein.training.run import Run
    from ornstein.training.trainer import Trainer

    kinds = trackers.named(tracker or [])  # before the data are read
    # A new start goes on with what this job has begun, and with nothing else.
    again = launch.again() > 0 and (launch.ours() or Run(out).job() == launch.job())
    if again:
        settings = settings.replace(micro_batch=None)  # run.yaml has what the memory allows
    engine.begin()
    trainer = Trainer(settings.data, minutes=minutes, images=images, seed=seed, settings=settings, out=out,
                      resume=resume or again, overwrite=overwrite and not again, started=started, job=launch.job())
    if trainer.processes > 1 and not one_of_many and not trainer.forks:
        trainer.prepare()
        words = [word for word in sys.argv[1:] if word.partition("=")[0] not in ("--overwrite", "--resume")]
        launch.launch([*words, "--resume"], trainer.processes, started - trainer.used)
        return
    trainer.trackers = trackers.made(kinds) if launch.speaks() else ()
    if launch.again():
        display.say(f"a process has died; all have started again ({launch.again()} of {launch.most()})")
    elif resume and not one_of_many and not trainer.goes_on:
        display.say(f"there is no checkpoint in {out} to go on from; the run starts")
    try:
        trainer.fit(display.event)
    except KeyboardInterrupt as stop:
        if not stop.args:  # a second one, which waits for nothing
            raise
        launch.stopped()
        words = "".join(f" --tracker {shlex.quote(name)}" for name in kinds)
        display.say(f"stopped and saved; go on with: ornstein train --out {out} --resume{words}")
        raise SystemExit(128 + stop.args[0]) from None
    if launch.speaks():
        launch.outcome(0)
    engine.end()
