"""`ornstein edit`."""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ornstein.arguments import alternatives, require
from ornstein.cli.app import Out, Run, Seed, app, check_memory, flags
from ornstein.display import say

if TYPE_CHECKING:
    from torch import Tensor

    from ornstein.data import DataSpec
    from ornstein.diffusion.editing.operator import Operator
    from ornstein.inputs import EditInput

__all__ = ["edit"]

# For each action, the number of inputs and the default number of draws.
ACTIONS = {"fill": (1, 16), "restore": (1, 16), "vary": (1, 16), "interpolate": (2, 8), "invert": (1, 1)}
# For each option, the action that takes it.
ACTION_OF = {"mask": "fill", "operator": "restore", "noise": "restore", "strength": "vary"}
DEFAULT_STRENGTH = 0.5
TABULAR = (".csv", ".parquet")

Action = Annotated[str, Parameter(
    name="ACTION", help=f"{alternatives(*ACTIONS)}: draw what is unknown, undo a measurement, draw variations, "
                        "interpolate between two samples, or find the latent that a sample is drawn from.")]
Inputs = Annotated[Path, Parameter(
    name="INPUT", help="A picture, or samples in the data's own values as .npy, .npz, .csv or .parquet, with NaN or "
                       "empty cells where they are unknown; transparent pixels are unknown too. Two for interpolate; "
                       "for restore the measurement.")]
Place = Annotated[Out, Parameter(
    help="FILE.png, .jpg or .webp for a sheet with draws, mean and spread; FILE.npz for numbers, for tables also .csv "
         "or .parquet; or a folder for single pictures.")]
Count = Annotated[int | None, Parameter(
    help="Draws for each sample, 16 by default; for interpolate the number of samples with both ends, 8.")]
Mask = Annotated[Path | None, Parameter(
    help="Which part of INPUT is unknown: a picture that is white where it is to be drawn anew, as in other programs, "
         "or a .npy file that is true where values are known, as in Python.")]
Measurement = Annotated[str | None, Parameter(
    help="What was measured: mask=0.5, blur=1.5, down=4, sums=4, fourier=0.25, grey or mean.")]
Noise = Annotated[float | None, Parameter(
    help="Standard deviation of the measurement's noise, in the data's own values (0 to 255 for bytes); by default a "
         "hundredth of their range, because pictures are rounded.")]
Strength = Annotated[float | None, Parameter(
    help="How much vary changes: 0 nothing, 1 everything; 0.5 by default.")]
Label = Annotated[str | None, Parameter(help="The class by name or index; none by default.")]
Condition = Annotated[str | None, Parameter(help="Numbers to condition on, such as 1.5,2.")]
Guidance = Annotated[float | None, Parameter(help="Scale of classifier-free guidance towards --label; 1 is none.")]
Nfe = Annotated[int, Parameter(help="Network calls per draw.")]


@app.command(sort_key=2.5)
def edit(run: Run, action: Action, *inputs: Inputs, out: Place, count: Count = None, mask: Mask = None,
         operator: Measurement = None, noise: Noise = None, strength: Strength = None, label: Label = None,
         condition: Condition = None, guidance: Guidance = None, nfe: Nfe = 50, seed: Seed = 0) -> None:
    """Edit samples with a trained model: fill gaps, undo a blur, vary a picture, interpolate between two."""
    require("action", action, ACTIONS)
    input_count, default_count = ACTIONS[action]
    count = default_count if count is None else count
    _check(action, inputs, input_count, count,
           {"mask": mask, "operator": operator, "noise": noise, "strength": strength})
    from ornstein import __version__, files
    from ornstein.checkpoint import digest, load
    from ornstein.diffusion.editing.operator import read_operator
    from ornstein.figures import pictures
    from ornstein.inputs import run_edit
    from ornstein.machine import default_device
    from ornstein.request import Request

    suffix, model = _suffix(action, out), load(run).to(default_device())
    spec = model.data
    if spec is None:
        raise ValueError(f"{run} has no description of its data; edit in Python, as with ornstein.inpaint")
    if suffix == "" and (spec.kind != "picture" or action == "invert"):
        raise ValueError(f"--out is {out}, a folder for single pictures, and {action} of samples of shape {spec.shape} "
                         "gives none; name a .png file to see them drawn, or a .npz file for the numbers")
    with flags():
        measurement = None if operator is None else read_operator(operator, spec.shape)
    edit_inputs = _read(run, spec, action, inputs, measurement, mask)
    if suffix in TABULAR and not (edit_inputs[0].table or len(spec.shape) == 1):
        raise ValueError(f"--out is {out}, and samples of shape {spec.shape} are not rows of a table; name a .npz file "
                         "for the numbers")
    samples = len(edit_inputs[0].values)
    check_memory(count, spec.shape, samples)
    pictures.check_numbered_folder(out, samples * count) if suffix == "" else files.check_replaceable(out)
    files.check_writable(out)
    request = Request(1, label=label, condition=condition, guidance=guidance, nfe=nfe, seed=seed)
    conditions = edit_inputs[0].condition
    if label is not None or condition is not None:
        if conditions is not None:
            raise ValueError(f"--{'condition' if label is None else 'label'} is given, and {inputs[0]} has the label "
                             "of each row; leave one of them out")
        with flags():
            conditions = request.conditions(model)
    if request.guided and conditions is None:
        raise ValueError(f"--guidance is {guidance:g}, but there is nothing to guide towards; give --label, or "
                         "--condition")
    for note in (note for edit_input in edit_inputs for note in edit_input.notes):
        say(note)
    options: dict[str, Any] = {"nfe": nfe, "condition": conditions, "guidance": guidance,
                               "progress": sys.stderr.isatty()}
    with flags():
        draws = run_edit(model, spec, action, edit_inputs, count, seed, options, measurement, noise,
                         DEFAULT_STRENGTH if strength is None else strength)
    facts = {**request.facts(), "edit": action, "of": [path.name for path in inputs], "model": digest(run),
             "ornstein": __version__}
    _write(spec, action, draws.unflatten(0, (samples, -1)).cpu(), edit_inputs[0], out, facts)
    result = {"interpolate": f"{count} samples from one to the other", "invert": "the latent"}.get(
        action, f"{count} draws")
    say(f"{result}{f' for each of {samples}' * (samples > 1)} in {out}")


def _suffix(action: str, out: Path) -> str:
    """The suffix of --out, or "" for a folder; refuses formats that an action cannot be written in."""
    from ornstein.data.parquet import need_pyarrow
    from ornstein.figures.formats import output_format

    suffix = output_format(out, (".parquet",))
    if suffix == ".parquet":
        need_pyarrow(str(out))
    if (suffix in TABULAR and action == "invert") or (suffix == ".parquet" and action != "fill"):
        raise ValueError(f"--out is {out}, and {action} writes no such table; name a .npz file for the numbers")
    return suffix


def _check(action: str, inputs: tuple[Path, ...], input_count: int, count: int, options: dict[str, Any]) -> None:
    """Check the arguments before anything is read."""
    if len(inputs) != input_count:
        raise ValueError(f"{action} takes {input_count} INPUT{'s' * (input_count > 1)}, and {len(inputs)} are given; "
                         + ("name the two samples to interpolate between" if input_count > 1 else
                            "name one file, which may hold several"))
    for name, value in options.items():
        if value is not None and action != ACTION_OF[name]:
            raise ValueError(f"--{name} is given, which is for {ACTION_OF[name]} and not for {action}; leave it out")
    if action == "restore" and options["operator"] is None:
        raise ValueError("--operator is missing: what was measured, such as blur=1.5, down=4 or mean; a hole in a "
                         "picture is filled with `ornstein edit RUN fill`")
    if count < (2 if action == "interpolate" else 1):
        raise ValueError(f"--count is {count}; it must be at least {2 if action == 'interpolate' else 1}")
    if action == "invert" and count > 1:
        raise ValueError(f"--count is {count}, but a sample has one latent; leave it out")
    if (noise := options["noise"]) is not None and not 0 <= noise < math.inf:
        raise ValueError(f"--noise is {noise:g}; it must be a standard deviation, at least 0")
    if (strength := options["strength"]) is not None and not 0 <= strength <= 1:
        raise ValueError(f"--strength is {strength:g}; it must be from 0 (nothing changes) to 1 (everything does)")


def _read(run: Path, spec: DataSpec, action: str, paths: tuple[Path, ...], operator: Operator | None,
          mask: Path | None) -> list[EditInput]:
    """Read the inputs, with NaN where they are unknown, and check that they suit the action."""
    import numpy as np

    from ornstein.inputs import apply_mask, read_measurements, read_samples, training_fit

    fit = training_fit(run)
    inputs = [read_samples(spec, path, fit) if operator is None else read_measurements(spec, operator.into, path, fit)
              for path in paths]
    if mask is not None:
        apply_mask(spec, mask, inputs[0], fit, str(paths[0]))
    for edit_input, path in zip(inputs, paths, strict=True):
        unknown = int(np.isnan(edit_input.values).sum())
        if unknown and action != "fill":
            raise ValueError(f"{path} has {unknown} values that are unknown, and {action} needs all; fill them first "
                             "with `ornstein edit RUN fill`")
        if not unknown and action == "fill":
            raise ValueError(f"nothing of {path} is unknown; name a --mask, or write NaN (make pixels transparent) "
                             "where it is to be filled")
    if len({len(edit_input.values) for edit_input in inputs}) > 1:
        raise ValueError(f"{paths[0]} holds {len(inputs[0].values)} samples and {paths[1]} {len(inputs[1].values)}; "
                         "they must hold the same number")
    return inputs


def _write(spec: DataSpec, action: str, draws: Tensor, edit_input: EditInput, out: Path, facts: dict[str, Any]) -> None:
    """Write draws (B, count, *shape) as a sheet, as pictures or as numbers."""
    import numpy as np

    from ornstein import files
    from ornstein.figures import edits, pictures
    from ornstein.figures.arrays import entry_names
    from ornstein.figures.formats import PICTURE_FORMATS, write_picture

    suffix, values = out.suffix.lower(), edit_input.values
    if suffix == ".npz":
        arrays: dict[str, Any] = ({"z": draws[:, 0].numpy()} if action == "invert" else
                                  edits.edit_arrays(spec, draws, values))
        with files.replacing(out) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, **arrays)  # pyrefly: ignore  # its stub takes any name for allow_pickle
    elif suffix in TABULAR and action == "fill":
        table, columns = edit_input.table, edit_input.columns
        if not table:
            columns = entry_names(spec)
            table = dict(zip(columns, values.T, strict=True))
        edits.write_table(edits.fill_table(spec, edits.edit_arrays(spec, draws, values), table, columns), out)
    elif suffix in PICTURE_FORMATS and not out.is_dir():
        given = values if values.shape[1:] == spec.shape else None
        write_picture(edits.draw_edits(spec, action, draws, given), out, facts)
    else:
        pictures.write(spec, draws.flatten(0, 1), None, out, facts)
