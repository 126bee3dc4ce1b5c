"""`ornstein sample`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ornstein import __version__
from ornstein.cli.app import Out, Run, Sampler, Seed, app, check_memory, flags
from ornstein.display import progress_callback, say

if TYPE_CHECKING:
    from torch import Tensor

    from ornstein.diffusion.denoiser import NetworkDenoiser
    from ornstein.diffusion.samplers import Frame
    from ornstein.request import Request

    SetTuned = Callable[[NetworkDenoiser], None]

__all__ = ["draw", "sample"]

DEFAULT_COUNT, MAX_FILMED = 64, 40  # samples; at most 40 of a film alone

Place = Annotated[Out | None, Parameter(
    help="FILE.png, .jpg or .webp for one sheet, FILE.npz (for tables also FILE.csv) for numbers, or a folder for "
         "single pictures, which keep their transparency.")]
Film = Annotated[Out | None, Parameter(
    help="FILE.gif, .webp or .mp4: a film of the pictures forming, step by step.")]
Grid = Annotated[list[str] | None, Parameter(consume_multiple=True, negative=(), help=(
    "One or two options with values, as in nfe=5,10,20 guidance=1,2: a sheet with a row for each value of the first "
    "and a column for each of the second, all from the same noise."))]
Count = Annotated[int | None, Parameter(
    help="Samples to draw; by default 64, up to 40 for a film alone, 4 per cell of --grid (8 with one option).")]
Nfe = Annotated[int | None, Parameter(help="Network calls per sample, at most; 20 by default.")]
Steps = Annotated[int | None, Parameter(help="Steps of the sampler, instead of --nfe.")]
Tolerance = Annotated[float | None, Parameter(
    help="Largest error of a step, such as 1e-3, instead of --nfe: takes as many calls as needed.")]
Label = Annotated[str | None, Parameter(
    help="A class by name or index, or several in turn as in cat,dog; by default all in turn.")]
Condition = Annotated[str | None, Parameter(
    help="Values of the conditions, as in 1.5,2 (--condition=-1.5,2 if the first is negative).")]
Guidance = Annotated[float | None, Parameter(help="Scale of classifier-free guidance; 1 is no guidance.")]
Again = Annotated[Path | None, Parameter(
    help="A picture, film or .npz file to draw again, into --out or beside it. RUN is needed only if the run has "
         "moved.")]
Scale = Annotated[int | None, Parameter(
    help="Enlarge every pixel by a whole factor; by default sheets fill about 1,000 pixels.")]


@app.command(sort_key=2)
def sample(run: Run | None = None, *, out: Place = None, save_steps: Film = None, grid: Grid = None,
           count: Count = None, nfe: Nfe = None, steps: Steps = None, tolerance: Tolerance = None,
           sampler: Sampler = "auto", label: Label = None, condition: Condition = None, guidance: Guidance = None,
           scale: Scale = None, seed: Seed = 0, again: Again = None) -> None:
    """Draw samples from a trained model; the same seed gives the same pictures."""
    if again is not None:
        from ornstein.cli.redraw import redraw

        given = {"save_steps": save_steps, "grid": grid, "count": count, "nfe": nfe, "steps": steps, "label": label,
                 "tolerance": tolerance, "condition": condition, "guidance": guidance, "scale": scale,
                 "seed": seed or None}
        if options := [f"--{name.replace('_', '-')}" for name, value in given.items() if value is not None]:
            raise ValueError(f"--again and {options[0]} are both given, but {again} says how it was drawn; leave "
                             f"{options[0]} out")
        redraw(again, run, out, sampler)
        return
    if run is None:
        raise ValueError("RUN is missing (ornstein sample --help says what it takes)")
    draw(run, out=out, save_steps=save_steps, grid=grid, count=count, scale=scale, options={
        "label": label, "condition": condition, "guidance": guidance, "seed": seed, "nfe": nfe, "sampler": sampler,
        "steps": steps, "tolerance": tolerance})


def draw(run: Path, *, out: Path | None, save_steps: Path | None, grid: list[str] | None, count: int | None,
         scale: int | None, options: dict[str, Any], set_tuned: SetTuned | None = None) -> None:
    """Draw samples with the options of a `Request`; `set_tuned` may replace the tuned choices of the model."""
    suffix = _check_outputs(out, save_steps, grid, scale)
    if count is not None and count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    values = _values(grid, options) if grid else {}
    from ornstein import files, sheet
    from ornstein.checkpoint import load
    from ornstein.figures import film, pictures
    from ornstein.machine import default_device
    from ornstein.request import Request
    from ornstein.user_classes import load_sampler

    model = load(run).to(default_device())
    spec = model.data
    if spec is None:
        raise ValueError(f"{run} has no description of its data; draw from it in Python with ornstein.sample")
    count = count or (pictures.even_count(spec, MAX_FILMED) if out is None else
                      sheet.default_count(values) if values else
                      DEFAULT_COUNT)
    if save_steps is not None:
        film.check_data(spec)
    if spec.kind != "picture" and scale is not None:
        raise ValueError(f"samples of shape {spec.shape} are not pictures; leave out --scale")
    if out is not None:
        pictures.check_output(spec, out)
    if suffix == "" and out is not None:
        pictures.check_numbered_folder(out, count)
    for path in (path for path in (out, save_steps) if path is not None):
        if path is save_steps or suffix:
            files.check_replaceable(path)
        files.check_writable(path)
    check_memory(count, spec.shape)
    if set_tuned is not None:
        set_tuned(model)
    request = Request(count, **(options | {"sampler": load_sampler(options["sampler"])}))
    is_live = sys.stderr.isatty()
    with flags():
        facts = facts_of(run, model, request, options["sampler"], scale, grid)
        if values:
            sheet.save_sheet(model, values, Path(str(out)), request, scale=scale, facts=facts, progress=is_live)
            say(f"{' x '.join(map(str, map(len, values.values())))} cells of {count} in {out}")
            return
        conditions = request.conditions(model)
        has_vectors = conditions is not None and conditions.is_floating_point()
        labels = None if has_vectors else conditions
        x = (request.draw(model, progress=is_live) if save_steps is None else
             film.write_film(_with_progress(request.frames(model), is_live), save_steps, spec, labels, scale, facts))
    if out is not None:
        pictures.write(spec, x.cpu(), labels, out, facts, conditions if has_vectors else None, scale)
    _report(model, request, conditions, out, save_steps)


def facts_of(run: Path, model: NetworkDenoiser, request: Request, sampler: str, scale: int | None,
             grid: list[str] | None) -> dict[str, Any]:
    """The facts to write into the files, from which they can be drawn again."""
    from ornstein.checkpoint import digest

    facts = {**request.facts(), "sampler": sampler, "run": str(run), "model": digest(run), "ornstein": __version__}
    facts |= {} if scale is None else {"scale": scale}
    if grid:
        return facts | {"cells": grid}
    return facts | request.choice_facts(model)


def _check_outputs(out: Path | None, save_steps: Path | None, grid: list[str] | None,
                   scale: int | None) -> str | None:
    """The suffix of --out, "" for a folder and None without it; refuses outputs that do not go together."""
    from ornstein.figures.formats import MAX_SCALE, NUMBER_FORMATS, PICTURE_FORMATS, film_format, output_format

    if out is None and save_steps is None:
        raise ValueError("--out is missing: FILE.png, .jpg or .webp for one drawing of all, FILE.npz or .csv for "
                         "numbers, a folder for single pictures; or name a film with --save-steps")
    if save_steps is not None:
        film_format(save_steps)
        if grid:
            raise ValueError("--grid and --save-steps are both given; a film shows one walk: leave one of them out")
        if out is not None and save_steps.absolute() == out.absolute():
            raise ValueError(f"--out and --save-steps are both {out}; name another file for the film")
    suffix = None if out is None else output_format(out)
    if grid == []:
        raise ValueError("--grid has no option; write one or two, such as nfe=5,10,20 guidance=1,2")
    if grid and suffix not in PICTURE_FORMATS:
        raise ValueError(f"out is {out}; a sheet of --grid must end in .png, .jpg or .webp")
    if scale is not None and suffix in NUMBER_FORMATS and save_steps is None:
        raise ValueError(f"--scale is {scale}, but numbers are not enlarged; leave it out, or name a picture in --out")
    if scale is not None and not 1 <= scale <= MAX_SCALE:
        raise ValueError(f"--scale is {scale}; it must be from 1 to {MAX_SCALE}")
    return suffix


def _values(grid: list[str], options: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The options of --grid by name, with their values."""
    from ornstein.arguments import require, short_repr
    from ornstein.sheet import OPTIONS
    from ornstein.user_classes import load_sampler

    values_of = dict[str, list[Any]]()
    for pair in grid:
        name, equals, values = pair.partition("=")
        if not equals:
            raise ValueError(f"--grid has {short_repr(pair)}; write option=value,value such as nfe=5,10,20")
        require("option of --grid", name, OPTIONS)
        if name in values_of:
            raise ValueError(f"--grid has {name} twice; name all of its values at once: {name}=...,...")
        if options[name] != {"sampler": "auto", "seed": 0}.get(name):
            raise ValueError(f"{name} is given as --{name} and in --grid; leave one of them out")
        types = {"nfe": int, "steps": int, "seed": int, "tolerance": float, "guidance": float, "sampler": load_sampler}
        try:
            values_of[name] = [types.get(name, str)(value) for value in values.split(",")]
        except ValueError:
            if name == "sampler":
                raise
            raise ValueError(f"--grid has {short_repr(pair)}; values of {name} are "
                             f"{'whole ' * (types[name] is int)}numbers separated by commas") from None
    return values_of


def _with_progress(frames: Iterable[Frame], is_live: bool) -> Generator[Frame, None, None]:
    """Yield frames, with a line of progress on a terminal."""
    with progress_callback(is_live, "sampling") as report:
        for frame in frames:
            report(1 - frame.time)
            yield frame


def _report(model: NetworkDenoiser, request: Request, conditions: Tensor | None, out: Path | None,
            save_steps: Path | None) -> None:
    """Print what was drawn, and how."""
    spec: Any = model.data
    unconditional = f", without --condition {','.join(spec.conditions).upper()}: drawn over all conditions"
    choice = request.choice(model)
    damping = f", velocity damped by {choice.damping:g}" if choice and choice.damping else ""
    method = f" by {choice.sampler}, tuned for {choice.nfe} calls{damping}" if choice else ""
    if scales := request.tuned_guidance(model):
        method = f" by auto: the sampler tuned for this number of calls is for guidance {min(scales):g}"
    places = " and ".join(([f"in {out}"] if out else []) + ([f"forming in {save_steps}"] if save_steps else []))
    say(f"{request.count} samples {places}{method}{unconditional if spec.conditions and conditions is None else ''}")
