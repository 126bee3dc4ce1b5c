"""`ornstein sample`."""

from __future__ import annotations

import re
import sys
from typing import Annotated

from cyclopts import Parameter

from ornstein import __version__
from ornstein.cli.app import Out, Run, Sampler, Seed, app, ending, fits
from ornstein.display import say

__all__ = ["sample"]

FLAGS = "nfe|steps|tolerance|guidance|condition|sampler|seed|label"  # that the library's messages name without dashes

Place = Annotated[Out, Parameter(
    help="FILE.png for one drawing of all, FILE.npz for numbers, or a folder for single pictures.")]
Count = Annotated[int, Parameter(help="Samples to draw.")]
Nfe = Annotated[int | None, Parameter(help="Network calls a sample, never exceeded; 20 by default.")]
Steps = Annotated[int | None, Parameter(help="Steps of the sampler, in place of --nfe.")]
Tolerance = Annotated[float | None, Parameter(
    help="Error that a step may make, such as 1e-3, in place of a budget: as many calls as that takes.")]
Label = Annotated[str | None, Parameter(help="A class by name, or by index; by default all in turn.")]
Condition = Annotated[str | None, Parameter(
    help="Numbers that the data came with, as 1.5,2 (--condition=-1.5,2 if the first is negative).")]
Guidance = Annotated[float | None, Parameter(help="Scale of classifier-free guidance; 1 is none.")]


@app.command(sort_key=2)
def sample(run: Run, *, out: Place, count: Count = 64, nfe: Nfe = None, steps: Steps = None,
           tolerance: Tolerance = None, sampler: Sampler = "auto", label: Label = None, condition: Condition = None,
           guidance: Guidance = None, seed: Seed = 0) -> None:
    """Draw samples from a trained model; a seed gives the same pictures again."""
    kind = ending(out)
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    from ornstein import files
    from ornstein.checkpoint import digest, load
    from ornstein.figures import pictures
    from ornstein.machine import device
    from ornstein.own import rule
    from ornstein.request import Request

    model = load(run).to(device())
    spec = model.data
    if spec is None:
        raise ValueError(f"{run} says nothing of its data; draw from it in Python with ornstein.sample")
    if not kind:
        if spec.kind != "picture":
            raise ValueError(f"samples of shape {spec.shape} are no pictures; name a .png file to see them drawn, or a "
                             ".npz file for the numbers")
        pictures.numbered(out, count)
    else:
        files.refuse(out)
    files.check_writable(out)
    fits(count, spec.shape)
    request = Request(count, label, condition, guidance, seed, rule(sampler), nfe, steps, tolerance)
    try:
        conditions = request.conditions(model)
        x = request.draw(model, progress=sys.stderr.isatty())
    except ValueError as error:
        # The library speaks of its arguments, the user typed flags.
        raise ValueError(re.sub(
            rf"(?:^|(?<=class with ))((?:nfe|tolerance) and )?({FLAGS})\b",
            lambda match: f"--{match[0].replace(' and ', ' and --')}", str(error))) from None
    facts = {**request.facts(), "sampler": sampler, "model": digest(run), "ornstein": __version__}
    vectors = conditions is not None and conditions.is_floating_point()
    pictures.write(spec, x.cpu(), None if vectors else conditions, out, facts,
                   conditions if vectors else None)
    alike = f", without --condition {','.join(spec.conditions).upper()}: drawn from all conditions alike"
    tuned = request.choice(model)
    damped = f", velocity damped by {tuned.damping:g}" if tuned and tuned.damping else ""
    how = f" by {tuned.sampler}, tuned for {tuned.nfe} calls{damped}" if tuned else ""
    say(f"{count} samples in {out}{how}{alike if spec.conditions and conditions is None else ''}")
