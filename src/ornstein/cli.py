"""The command line: the user's words, each a thin call of the library. Nothing heavy is imported before it is used."""

from __future__ import annotations

import math
import os
import re
import sys
import time
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from ornstein import __version__

__all__ = ["app", "main"]

app = App(
    name="ornstein", version=__version__, version_flags=["--version"],
    help="Train a diffusion model on your own pictures, draw new ones in few network calls, and see every step.",
)
Data = Annotated[str | None, Parameter(
    help="digits, moons, mixture; a folder of pictures; .npy, .npz, .parquet or .tar files; or hf:NAME.")]
Run = Annotated[Path, Parameter(help="Folder of a run, or a model.safetensors file.")]
Seed = Annotated[int, Parameter(help="Of all randomness, from 0 to 2^64 - 1.")]
Sampler = Annotated[str, Parameter(help="A name of `ornstein list samplers`, or path.py:Class for a rule of your own.")]


@app.command(sort_key=1)
def train(
    data: Data = None,
    *,
    out: Annotated[Path, Parameter(help="Folder of the run, made if missing.")],
    minutes: Annotated[float | None, Parameter(
        help="Wall clock to spend, start-up included; 10 unless --images is given.")] = None,
    images: Annotated[int | None, Parameter(
        help="Pictures to see, in place of --minutes; such runs repeat bit for bit on a CPU.")] = None,
    size: Annotated[int | None, Parameter(
        help="Side of the pictures in pixels; a folder's are resized and cropped.")] = None,
    classes: Annotated[bool | None, Parameter(
        help="Learn the classes; by default wherever the data have labels.", negative="--no-classes")] = None,
    layout: Annotated[str | None, Parameter(
        help="Axes of an array's samples: V (values), CL, HW, CHW, HWC, DHW, CDHW ...; read off by default.")] = None,
    network: Annotated[str | None, Parameter(help="auto, unet, dit or mlp.")] = None,
    seed: Annotated[int | None, Parameter(
        help="Of weights, order and noise, from 0 to 2^64 - 1; 0 by default.")] = None,
    precision: Annotated[str | None, Parameter(help="auto, fp32 or bf16.")] = None,
    processes: Annotated[int | None, Parameter(
        help="Processes to train in together, on this machine; 1 by default.")] = None,
    config: Annotated[Path | None, Parameter(help="A run.yaml to take the settings from.")] = None,
    set: Annotated[list[str] | None, Parameter(
        help="Any setting of run.yaml as key=value; may be repeated.", negative=())] = None,
    resume: Annotated[bool, Parameter(help="Go on with the run in --out, or start it.", negative=())] = False,
    overwrite: Annotated[bool, Parameter(help="Replace the run in --out.", negative=())] = False,
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
        # A finished run's file has a budget; one given here takes its place.
        settings = settings.replace(**({"minutes": None, "images": None} if minutes or images else {}))
    if data is None and config is None:
        from ornstein.training.run import Run

        there = Run(out).settings() if resume else None
        if there is None:
            raise ValueError("DATA is missing; name digits, a folder of pictures, shards or an array file"
                             + (f" (there is no run in {out} to go on with)" if resume else ""))
        data = there.data
    given = {"data": data, "minutes": minutes, "images": images, "size": size, "classes": classes, "network": network,
             "layout": layout, "seed": seed, "precision": precision, "processes": processes}
    settings = settings.replace(**{name: value for name, value in given.items() if value is not None})
    settings = settings.with_text(set or [])

    from ornstein.training import engine
    from ornstein.training.run import Run
    from ornstein.training.trainer import Trainer

    # A new start goes on with what this job has begun, and with nothing else.
    again = launch.again() > 0 and (launch.ours() or Run(out).job() == launch.job())
    if again:
        settings = settings.replace(micro_batch=None)  # run.yaml has what the memory allows
    engine.begin()
    trainer = Trainer(settings.data, minutes=minutes, images=images, seed=seed, settings=settings, out=out,
                      resume=resume or again, overwrite=overwrite and not again, started=started, job=launch.job())
    if trainer.processes > 1 and not one_of_many:
        trainer.prepare()
        words = [word for word in sys.argv[1:] if word.partition("=")[0] not in ("--overwrite", "--resume")]
        launch.launch([*words, "--resume"], trainer.processes, started - trainer.used)
        return
    if launch.again():
        display.say(f"a process has died; all have started again ({launch.again()} of {launch.most()})")
    elif resume and not one_of_many and not trainer.goes_on:
        display.say(f"there is no checkpoint in {out} to go on from; the run starts")
    try:
        trainer.fit(display.event)
    except KeyboardInterrupt as stop:
        if not stop.args:  # a second one, which waits for nothing
            raise
        display.say(f"stopped and saved; go on with: ornstein train --out {out} --resume")
        raise SystemExit(128 + stop.args[0]) from None
    if launch.speaks():
        launch.outcome(0)
    engine.end()


@app.command(sort_key=2)
def sample(
    run: Run,
    *,
    out: Annotated[Path, Parameter(
        help="FILE.png for one drawing of all, FILE.npz for numbers, or a folder for single pictures.")],
    count: Annotated[int, Parameter(help="Samples to draw.")] = 64,
    nfe: Annotated[int | None, Parameter(help="Network calls a sample, never exceeded; 20 by default.")] = None,
    steps: Annotated[int | None, Parameter(help="Steps of the sampler, in place of --nfe.")] = None,
    sampler: Sampler = "auto",
    label: Annotated[str | None, Parameter(help="A class by name, or by index; by default all in turn.")] = None,
    condition: Annotated[str | None, Parameter(
        help="Numbers that the data came with, as 1.5,2 (--condition=-1.5,2 if the first is negative).")] = None,
    guidance: Annotated[float | None, Parameter(help="Scale of classifier-free guidance; 1 is none.")] = None,
    seed: Seed = 0,
) -> None:
    """Draw samples from a trained model; a seed gives the same pictures again."""
    import torch

    from ornstein.checkpoint import digest, load
    from ornstein.diffusion.samplers import sample as draw
    from ornstein.figures import pictures
    from ornstein.machine import device
    from ornstein.own import rule

    model = load(run).to(device())
    spec = model.data
    if spec is None:
        raise ValueError(f"{run} says nothing of its data; draw from it in Python with ornstein.sample")
    if out.is_dir() if out.suffix else out.is_file():
        raise ValueError(f"out is {out}, which is a {'folder' if out.is_dir() else 'file'} already; name another")
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    if out.suffix not in (".png", ".npz", ""):
        raise ValueError(f"out is {out}; it must end in .png or .npz, or be a folder")
    if not out.suffix:
        if spec.kind != "picture":
            raise ValueError(f"samples of shape {spec.shape} are no pictures; name a .png file to see them drawn, or a "
                             ".npz file for the numbers")
        pictures.numbered(out)
    _fits(count, spec.shape)
    labels = pictures.cycle(model, count) if label is None else torch.full((count,), spec.label(label))
    told = None
    if condition is not None:
        told = torch.tensor(_numbers(condition, spec)).expand(count, -1)
    if guidance is not None and guidance != 1 and labels is None and told is None:
        remedy = "give --condition" if spec.conditions else "leave it out"
        raise ValueError(f"--guidance is {guidance:g}, but there is nothing to guide towards; {remedy}")
    try:
        x = draw(model, count, sampler=rule(sampler), nfe=nfe, steps=steps, condition=labels if told is None else told,
                 guidance=guidance, seed=seed, progress=sys.stderr.isatty())
    except ValueError as error:
        # The library speaks of its arguments, the user typed flags.
        raise ValueError(re.sub(r"^(nfe and )?(nfe|steps|guidance|condition|sampler|seed)\b",
                                lambda match: f"--{match[0].replace(' and ', ' and --')}", str(error))) from None
    facts = {"seed": seed, "sampler": sampler, "nfe": nfe, "steps": steps, "guidance": guidance, "label": label,
             "model": digest(run), "ornstein": __version__, **({} if condition is None else {"condition": condition})}
    pictures.write(spec, x.cpu(), labels, out, facts, told)
    alike = f", without --condition {','.join(spec.conditions).upper()}: drawn from all conditions alike"
    print(f"{count} samples in {out}{alike if spec.conditions and told is None else ''}")


def _numbers(condition: str, spec: Any) -> list[float]:
    """The numbers of --condition, as many as the data have names for."""
    wanted = len(spec.conditions)
    if not wanted:
        raise ValueError(f"--condition is {condition}, but this model was trained without; leave it out"
                         + (", or choose a class with --label" if spec.classes else ""))
    parts = condition.split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        numbers = []
    if len(numbers) != wanted or not all(map(math.isfinite, numbers)):
        raise ValueError(f"--condition is {condition}; it must be {wanted} finite number{'s' * (wanted > 1)}"
                         f"{', with commas between,' if wanted > 1 else ''} for {', '.join(spec.conditions)}")
    return numbers


def _fits(count: int, shape: tuple[int, ...]) -> None:
    """Refuse to draw more than this machine's memory holds, before any time is spent."""
    # Ten float32 of every value: latent, answers that a rule remembers, and the way to the data's own units.
    need, there = 40 * count * math.prod(shape), os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if need > there:
        raise ValueError(f"--count is {count}; so many samples of shape {shape} need {need / 2**30:,.0f} GiB of "
                         f"memory, this machine has {there / 2**30:,.0f}; draw {max(1, count * there // (2 * need)):,} "
                         "at a time, each with a --seed of its own")


@app.command(sort_key=3)
def trace(
    run: Run,
    image: Annotated[Path | None, Parameter(
        help="A picture of your own; by default, and for arrays, what the model draws.")] = None,
    *,
    out: Annotated[Path, Parameter(help="FILE.png to draw into.")],
    label: Annotated[str | None, Parameter(help="The class to come back as, by name or index.")] = None,
    seed: Seed = 0,
) -> None:
    """Draw the forward chain, the way back, and the schedule's curves."""
    if out.suffix != ".png":
        raise ValueError(f"out is {out}; it must end in .png")
    from ornstein.checkpoint import load
    from ornstein.figures.trace import draw

    draw(load(run), out, image=image, label=label, seed=seed)
    print(f"the chain and the way back are in {out}")


@app.command(sort_key=4)
def check(
    own: Annotated[str | None, Parameter(help="path.py:Class of a schedule or sampler rule of your own.")] = None,
) -> None:
    """Verify this installation, or a schedule or sampler of your own, against closed forms."""
    from ornstein.check import certify

    failed = 0
    for result in certify(own):
        print(("ok    " if result.holds else "FAILS ") + result.line)
        failed += not result.holds
    if failed:
        raise RuntimeError(f"{failed} of these do not hold")


@app.command(name="list", sort_key=5)
def list_(
    what: Annotated[str, Parameter(help="samplers, schedules, networks or data.")],
) -> None:
    """List the names that the other commands take."""
    from ornstein.names import require

    require("list", what, ("samplers", "schedules", "networks", "data"))
    if what == "samplers":
        from ornstein.diffusion.samplers import samplers

        lines = {name: f"order {facts['order']}, {'random' if facts['stochastic'] else 'deterministic'}, "
                       f"{facts['calls']} call{'s' if facts['calls'] != 1 else ''} a step, "
                       f"times even in {facts['grid']}"
                 for name, facts in samplers().items()}
    elif what == "data":
        from ornstein.data import sources

        lines = {**sources(), "PATH": "a folder of pictures; .npy, .npz, .parquet or .tar files",
                 "hf:NAME": "a set of the Hugging Face Hub"}
    else:
        table: Any
        if what == "schedules":
            from ornstein.diffusion.schedule import SCHEDULES as table
        else:
            from ornstein.networks import NETWORKS as table
        lines = {name: (kind.__doc__ or "").strip().splitlines()[0] for name, kind in table.items()}
    wide = max(map(len, lines))
    for name, line in lines.items():
        print(f"{name:{wide}}  {line}")


def main() -> None:
    """Run the command line; every error is one line on standard error, a traceback only with --debug."""
    words = sys.argv[1:]
    debug = "--debug" in words
    try:
        app([word for word in words if word != "--debug"], exit_on_error=False, print_error=False)
    except KeyboardInterrupt:
        _fail("stopped at once; what was not saved before is lost", 130)
    except Exception as error:  # whatever a file of the user's own, or a fault of ours, may raise
        if debug:
            raise
        usage = isinstance(error, CycloptsError | ValueError | TypeError | FileExistsError | FileNotFoundError)
        if "WORLD_SIZE" in os.environ:
            _leave(error, usage)
        known = usage or isinstance(error, OSError | RuntimeError)
        _fail(error if known else f"{type(error).__name__}: {error} (--debug shows where)", 2 if usage else 1)


def _leave(error: Exception, usage: bool) -> None:
    """End one of several processes."""
    from ornstein.training import launch
    from ornstein.training.events import TrainingFailed

    line = _line(error)
    if not (usage or isinstance(error, TrainingFailed)):
        # Most often another process has died. All start again, and the first one says so.
        launch.fault(line)
        raise SystemExit(1)
    if launch.outcome(2 if usage else 1, f"ornstein: {line}"):
        raise SystemExit(1)


def _fail(error: Exception | str, code: int) -> None:
    print(f"ornstein: {_line(error)}", file=sys.stderr)
    raise SystemExit(code)


def _line(error: Exception | str) -> str:
    line = " ".join(str(error).split())
    if isinstance(error, OSError) and error.filename and error.strerror:
        line = f"{error.filename}: {error.strerror.lower()}; name another path"
    return line + (" (ornstein --help shows the commands)" if isinstance(error, CycloptsError) else "")


if __name__ == "__main__":
    main()
