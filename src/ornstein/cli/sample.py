"""`ornstein sample`."""

from __future__ import annotations

import math
import re
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from ornstein import __version__
from ornstein.cli.app import Out, Run, Sampler, Seed, app, ending, fits
from ornstein.display import say

__all__ = ["sample"]


@app.command(sort_key=2)
def sample(
    run: Run,
    *,
    out: Annotated[Out, Parameter(
        help="FILE.png for one drawing of all, FILE.npz for numbers, or a folder for single pictures.")],
    count: Annotated[int, Parameter(help="Samples to draw.")] = 64,
    nfe: Annotated[int | None, Parameter(help="Network calls a sample, never exceeded; 20 by default.")] = None,
    steps: Annotated[int | None, Parameter(help="Steps of the sampler, in place of --nfe.")] = None,
    tolerance: Annotated[float | None, Parameter(
        help="Error that a step may make, such as 1e-3, in place of a budget: as many calls as that takes.")] = None,
    sampler: Sampler = "auto",
    label: Annotated[str | None, Parameter(help="A class by name, or by index; by default all in turn.")] = None,
    condition: Annotated[str | None, Parameter(
        help="Numbers that the data came with, as 1.5,2 (--condition=-1.5,2 if the first is negative).")] = None,
    guidance: Annotated[float | None, Parameter(help="Scale of classifier-free guidance; 1 is none.")] = None,
    seed: Seed = 0,
) -> None:
    """Draw samples from a trained model; a seed gives the same pictures again."""
    kind = ending(out)
    if count < 1:
        raise ValueError(f"count is {count}; it must be at least 1")
    import torch

    from ornstein import files, noise
    from ornstein.checkpoint import digest, load
    from ornstein.diffusion.samplers import sample as draw
    from ornstein.diffusion.samplers.loop import tuned_for
    from ornstein.figures import pictures
    from ornstein.machine import device
    from ornstein.own import rule

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
    labels = pictures.cycle(model, count) if label is None else torch.full((count,), spec.label(label))
    told = None
    if condition is not None:
        told = torch.tensor(_numbers(condition, spec), dtype=torch.float64).expand(count, -1)
    if guidance is not None and guidance != 1 and labels is None and told is None:
        remedy = "give --condition" if spec.conditions else "leave it out"
        raise ValueError(f"--guidance is {guidance:g}, but there is nothing to guide towards; {remedy}")
    try:
        x = draw(model, count, sampler=rule(sampler), nfe=nfe, steps=steps, condition=labels if told is None else told,
                 guidance=guidance, seed=seed, progress=sys.stderr.isatty(), tolerance=tolerance)
    except ValueError as error:
        # The library speaks of its arguments, the user typed flags.
        raise ValueError(re.sub(r"^((?:nfe|tolerance) and )?(nfe|steps|tolerance|guidance|condition|sampler|seed)\b",
                                lambda match: f"--{match[0].replace(' and ', ' and --')}", str(error))) from None
    facts = {"seed": seed, "sampler": sampler, "nfe": nfe, "steps": steps, "guidance": guidance, "label": label,
             **({} if tolerance is None else {"tolerance": tolerance}),
             "model": digest(run), "ornstein": __version__, "noise": noise.VERSION,
             **({} if condition is None else {"condition": condition})}
    pictures.write(spec, x.cpu(), labels, out, facts, told)
    alike = f", without --condition {','.join(spec.conditions).upper()}: drawn from all conditions alike"
    tuned = tuned_for(model, nfe, steps, None) if sampler == "auto" and guidance in (None, 1) else None
    damped = f", velocity damped by {tuned.damping:g}" if tuned and tuned.damping else ""
    how = f" by {tuned.sampler}, tuned for {tuned.nfe} calls{damped}" if tuned else ""
    say(f"{count} samples in {out}{how}{alike if spec.conditions and told is None else ''}")


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
