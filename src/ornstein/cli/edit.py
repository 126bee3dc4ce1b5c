"""`ornstein edit`."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ornstein.arguments import alternatives, require
from ornstein.cli.app import Out, Run, Seed, app, fits, flags
from ornstein.display import say

if TYPE_CHECKING:
    from torch import Tensor

    from ornstein.data import DataSpec
    from ornstein.diffusion.editing.operator import Operator
    from ornstein.given import Given

__all__ = ["edit"]

# Inputs and, unless --count says otherwise, draws.
ACTIONS = {"fill": (1, 16), "restore": (1, 16), "vary": (1, 16), "interpolate": (2, 8), "invert": (1, 1)}
ONLY = {"mask": "fill", "operator": "restore", "noise": "restore", "strength": "vary"}
STRENGTH = 0.5
TABULAR = (".csv", ".parquet")

Action = Annotated[str, Parameter(
    name="ACTION", help=f"{alternatives(*ACTIONS)}: draw what is unknown, undo a measurement, draw variations, walk "
                        "from one to another, or find the latent that a sample is drawn from.")]
Inputs = Annotated[Path, Parameter(
    name="INPUT", help="A picture, or samples in the data's own values as .npy, .npz, .csv or .parquet, NaN or an "
                       "empty cell where they are unknown; of pictures the transparent part is unknown. Two for "
                       "interpolate; for restore the measurement.")]
Place = Annotated[Out, Parameter(
    help="FILE.png, .jpg or .webp for a sheet with draws, mean and spread; FILE.npz for numbers, of tables also .csv "
         "or .parquet; or a folder for single pictures.")]
Count = Annotated[int | None, Parameter(
    help="Draws for each sample, 16 by default; of interpolate the samples of a walk with both ends, 8.")]
Mask = Annotated[Path | None, Parameter(
    help="What of INPUT is unknown: a picture that is white where it is to be painted anew, as in other programs, or a "
         ".npy file that is true where values are known, as in Python.")]
Measurement = Annotated[str | None, Parameter(
    help="What was measured: mask=0.5, blur=1.5, down=4, sums=4, fourier=0.25, grey or mean.")]
Noise = Annotated[float | None, Parameter(
    help="Standard deviation of the measurement's noise, in the data's own values (0 to 255 for bytes); by default a "
         "hundredth of their range, as pictures are rounded.")]
Strength = Annotated[float | None, Parameter(
    help="How much vary changes: 0 nothing, 1 all; 0.5 by default.")]
Label = Annotated[str | None, Parameter(help="The class by name, or by index; by default none is told.")]
Condition = Annotated[str | None, Parameter(help="Numbers that the data came with, as 1.5,2.")]
Guidance = Annotated[float | None, Parameter(help="Scale of classifier-free guidance towards --label; 1 is none.")]
Nfe = Annotated[int, Parameter(help="Network calls a draw.")]


@app.command(sort_key=2.5)
def edit(run: Run, action: Action, *inputs: Inputs, out: Place, count: Count = None, mask: Mask = None,
         operator: Measurement = None, noise: Noise = None, strength: Strength = None, label: Label = None,
         condition: Condition = None, guidance: Guidance = None, nfe: Nfe = 50, seed: Seed = 0) -> None:
    """Edit samples with a trained model: fill gaps, undo a blur, vary a picture, walk between two."""
    require("action", action, ACTIONS)
    wanted, usual = ACTIONS[action]
    many = usual if count is None else count
    _refuse(action, inputs, wanted, many, {"mask": mask, "operator": operator, "noise": noise, "strength": strength})
    from ornstein import __version__, files
    from ornstein.checkpoint import digest, load
    from ornstein.diffusion.editing.operator import read_operator
    from ornstein.figures import pictures
    from ornstein.given import edited
    from ornstein.machine import device
    from ornstein.request import Request

    kind, model = _kind(action, out), load(run).to(device())
    spec = model.data
    if spec is None:
        raise ValueError(f"{run} says nothing of its data; edit in Python, as with ornstein.inpaint")
    if kind == "" and (spec.kind != "picture" or action == "invert"):
        raise ValueError(f"--out is {out}, a folder for single pictures, and {action} of samples of shape {spec.shape} "
                         "gives none; name a .png file to see them drawn, or a .npz file for the numbers")
    with flags():
        measured = None if operator is None else read_operator(operator, spec.shape)
    given = _read(run, spec, action, inputs, measured, mask)
    if kind in TABULAR and not (given[0].table or len(spec.shape) == 1):
        raise ValueError(f"--out is {out}, and samples of shape {spec.shape} are no rows of a table; name a .npz file "
                         "for the numbers")
    samples = len(given[0].values)
    fits(many, spec.shape, samples)
    pictures.numbered(out, samples * many) if kind == "" else files.refuse(out)
    files.check_writable(out)
    asked = Request(1, label=label, condition=condition, guidance=guidance, nfe=nfe, seed=seed)
    with flags():
        told = given[0].told if label is None and condition is None else asked.conditions(model)
    if told is not given[0].told and given[0].told is not None:
        raise ValueError(f"--{'condition' if label is None else 'label'} is given, and {inputs[0]} says itself "
                         "what each row is; leave one of them out")
    if asked.guided and told is None:
        raise ValueError(f"--guidance is {guidance:g}, but there is nothing to guide towards; give --label, or "
                         "--condition")
    for note in (note for one in given for note in one.notes):
        say(note)
    words: dict[str, Any] = {"nfe": nfe, "condition": told, "guidance": guidance, "progress": sys.stderr.isatty()}
    with flags():
        drawn = edited(model, spec, action, given, many, seed, words, measured, noise,
                       STRENGTH if strength is None else strength)
    facts = {**asked.facts(), "edit": action, "of": [path.name for path in inputs], "model": digest(run),
             "ornstein": __version__}
    _write(spec, action, drawn.unflatten(0, (samples, -1)).cpu(), given, out, facts)
    what = {"interpolate": f"{many} samples from one to the other", "invert": "the latent"}.get(action, f"{many} draws")
    say(f"{what}{f' for each of {samples}' * (samples > 1)} in {out}")


def _kind(action: str, out: Path) -> str:
    """What --out stands for, after refusing what an action cannot be written as."""
    from ornstein.data.parquet import need_pyarrow
    from ornstein.figures.formats import ending

    kind = ending(out, (".parquet",))
    if kind == ".parquet":
        need_pyarrow(str(out))
    if (kind in TABULAR and action == "invert") or (kind == ".parquet" and action != "fill"):
        raise ValueError(f"--out is {out}, and {action} writes no such table; name a .npz file for the numbers")
    return kind


def _refuse(action: str, inputs: tuple[Path, ...], wanted: int, many: int, options: dict[str, Any]) -> None:
    """Refuse what can be seen to be wrong before anything is read."""
    if len(inputs) != wanted:
        raise ValueError(f"{action} takes {wanted} INPUT{'s' * (wanted > 1)}, and {len(inputs)} are given; name "
                         f"{'the two samples to walk between' if wanted > 1 else 'one file, which may hold several'}")
    for name, value in options.items():
        if value is not None and action != ONLY[name]:
            raise ValueError(f"--{name} is given, which is for {ONLY[name]} and not for {action}; leave it out")
    if action == "restore" and options["operator"] is None:
        raise ValueError("--operator is missing: what was measured, such as blur=1.5, down=4 or mean; a hole in a "
                         "picture is filled with `ornstein edit RUN fill`")
    if many < (2 if action == "interpolate" else 1):
        raise ValueError(f"--count is {many}; it must be at least {2 if action == 'interpolate' else 1}")
    if action == "invert" and many > 1:
        raise ValueError(f"--count is {many}, but a sample has one latent; leave it out")
    if (noise := options["noise"]) is not None and not 0 <= noise < math.inf:
        raise ValueError(f"--noise is {noise:g}; it must be a standard deviation, at least 0")
    if (strength := options["strength"]) is not None and not 0 <= strength <= 1:
        raise ValueError(f"--strength is {strength:g}; it must be from 0 (nothing changes) to 1 (all does)")


def _read(run: Path, spec: DataSpec, action: str, inputs: tuple[Path, ...], measured: Operator | None,
          mask: Path | None) -> list[Given]:
    """What is to be edited, with NaN where it is unknown; ValueError where that does not go with the action."""
    import numpy as np

    from ornstein.given import apply_mask, fit_of, read_given, read_measured

    fit = fit_of(run)
    given = [read_given(spec, path, fit) if measured is None else read_measured(spec, measured.into, path, fit)
             for path in inputs]
    if mask is not None:
        apply_mask(spec, mask, given[0], fit, str(inputs[0]))
    for one, path in zip(given, inputs, strict=True):
        lost = int(np.isnan(one.values).sum())
        if lost and action != "fill":
            raise ValueError(f"{path} has {lost} values that are unknown, and {action} needs all; fill them first "
                             "with `ornstein edit RUN fill`")
        if not lost and action == "fill":
            raise ValueError(f"nothing of {path} is unknown; name a --mask, or write NaN (make pixels transparent) "
                             "where it is to be filled")
    if len({len(one.values) for one in given}) > 1:
        raise ValueError(f"{inputs[0]} holds {len(given[0].values)} samples and {inputs[1]} {len(given[1].values)}; "
                         "they must be as many")
    return given


def _write(spec: DataSpec, action: str, drawn: Tensor, given: list[Given], out: Path, facts: dict[str, Any]) -> None:
    """Draws (B, count, *shape) as a sheet, as pictures or as numbers."""
    import numpy as np

    from ornstein import files
    from ornstein.figures import edits, pictures
    from ornstein.figures.arrays import entries
    from ornstein.figures.formats import KINDS, write_picture

    kind = out.suffix.lower()
    if kind == ".npz":
        own: dict[str, Any] = {"z": drawn[:, 0].numpy()}
        if action != "invert":
            own = edits.numbers(spec, drawn, given[0].values)
        with files.replacing(out) as beside, beside.open("wb") as file:
            np.savez_compressed(file, **own)  # pyrefly: ignore  # its stub takes any name for allow_pickle
    elif kind in TABULAR and action == "fill":
        table, names = given[0].table, given[0].names
        if not table:
            names = entries(spec)
            table = dict(zip(names, given[0].values.T, strict=True))
        edits.write_table(edits.filled(spec, edits.numbers(spec, drawn, given[0].values), table, names), out)
    elif kind in KINDS and not out.is_dir():
        same = given[0].values.shape[1:] == spec.shape
        write_picture(edits.edited(spec, action, drawn, given[0].values if same else None), out, facts)
    else:
        pictures.write(spec, drawn.flatten(0, 1), None, out, facts)
