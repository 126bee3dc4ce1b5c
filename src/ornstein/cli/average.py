"""`ornstein average`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ornstein.cli.app import Out, Run, app
from ornstein.display import say

__all__ = ["average"]

WIDTHS = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2)
ROWS, LEVELS = 256, 24  # held-out samples, and levels of log SNR from -9 to 9, to compare widths on
MAX_MISSED = 0.5  # share of the profile that may be missing
ROUGH = 0.1  # share from which a warning is printed


@app.command(sort_key=6)
def average(
    run: Run,
    *,
    width: Annotated[float | None, Parameter(
        help="Relative width of the average, up to 0.28; without it several are compared, nothing is written.")] = None,
    images: Annotated[int | None, Parameter(
        help="Pictures seen at the end of the average, one of the saved moments; by default the last.")] = None,
    out: Annotated[Out | None, Parameter(help="FILE.safetensors for the model; by default the run's own file.")] = None,
) -> None:
    """Build another average of a run's weights after the training, or compare several."""
    if not run.is_dir():
        raise ValueError(f"run is {run}; averages are saved in the folder of a run")
    if width is None:
        if out is not None:
            raise ValueError(f"out is {out}, but no width is given; add --width")
        _compare(run, images)
        return
    from ornstein.checkpoint import MODEL, save
    from ornstein.training.reaverage import reaverage
    from ornstein.training.run import lock_output

    if out is not None and out.suffix.lower() != ".safetensors":
        raise ValueError(f"out is {out}; it must end in .safetensors")
    path = out or run / MODEL
    with lock_output(run if out is None else None, path):
        model, missed = reaverage(run, width, images)
        if missed > MAX_MISSED:
            raise ValueError(f"--width is {width:g}; {missed:.0%} of such an average cannot be reconstructed from the "
                             f"saved ones, and at most {MAX_MISSED:.0%} may be missing; ornstein average {run} tries "
                             "widths that can")
        save(model, path)
    say(f"{path} now has an average of width {width:g}" + (
        f"; {missed:.0%} of its profile could not be reconstructed from the saved averages" if missed > ROUGH else ""))


def _compare(run: Path, images: int | None) -> None:
    import numpy as np
    import torch

    from ornstein.diffusion.score import level_losses
    from ornstein.evaluation.preparation import adapt
    from ornstein.training.reaverage import reaverage
    from ornstein.training.reopen import reopen

    opened = reopen(run)
    held_out = opened.trained_on.split()[1]
    if not len(held_out):
        raise ValueError(f"{run} has no held-out samples to compare widths on; give --width")
    held_out, notes = adapt(opened.model, held_out, "data", opened.model.data)
    for note in notes:
        say(note)
    x, labels = held_out.batch(np.arange(min(ROWS, len(held_out))))
    options = getattr(opened.model.network, "options", {})
    condition = labels if options.get("classes") or options.get("conditions") else None
    levels = -9 + 18 * (torch.arange(LEVELS, dtype=torch.float64) + 0.5) / LEVELS
    losses = {}
    say(f"held-out diffusion term, log SNR -9 to 9, nats per value, of {len(x)} samples")
    for width in WIDTHS:
        model, missed = reaverage(run, width, images)
        losses[width] = 18 * level_losses(model, x, levels, condition=condition).mean(0)
        say(f"width {width:<5g} {float(losses[width].mean()):.4f}"
            + (f"   (rough: {missed:.0%} of the profile is missing)" if missed > ROUGH else ""))
    best = min(losses, key=lambda width: float(losses[width].mean()))
    say(f"smallest at {best:g}: ornstein average {run} --width {best:g}")
