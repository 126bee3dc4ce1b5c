"""`ornstein adopt`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ornstein.cli.app import Out, app
from ornstein.display import say

if TYPE_CHECKING:
    from ornstein.adoption.adopted import Adopted

__all__ = ["adopt"]

Schedules = Annotated[str | None, Parameter(
    help="chain, cosine, linear, exploding or a scheduler_config.json; by default the schedule in the folder.")]
InputNames = Annotated[list[str] | None, Parameter(name="--input", consume_multiple=True, negative=(), help=(
    "Names of an .onnx file's inputs, as in x=sample time=timestep condition=label."))]


@app.command(sort_key=6)
def adopt(
    source: Annotated[Path, Parameter(help="A folder of diffusers, or an .onnx file.")],
    *,
    out: Annotated[Out, Parameter(help="Folder of the new run.")],
    convention: Annotated[str | None, Parameter(help="What the model predicts: x, eps, v, k-diffusion, edm, score_sde, "
                                                "sub-vp, score, flow, flow_matching or torchcfm; by default as the "
                                                "folder says.")] = None,
    schedule: Schedules = None,
    shape: Annotated[str | None, Parameter(help="Shape of one sample, channels first, as in 3x32x32.")] = None,
    time: Annotated[str | None, Parameter(help="Time input of an x, eps or v model: t, index or log_snr.")] = None,
    classes: Annotated[str | None, Parameter(help="Number of classes, or their names as in cat,dog.")] = None,
    null: Annotated[int | None, Parameter(help="Number of the class that stands for no class.")] = None,
    range_: Annotated[str | None, Parameter(name="--range", help="The model's values for the smallest and the largest "
                                            "value of the data, as in --range=-1,1 or --range 0,1.")] = None,
    data: Annotated[str | None, Parameter(help="Data like the training data, to check range and schedule.")] = None,
    inputs: InputNames = None,
    output: Annotated[str | None, Parameter(help="Name of an .onnx file's output.")] = None,
    overwrite: Annotated[bool, Parameter(negative="", help="Replace a model that was adopted before.")] = False,
) -> None:
    """Import a model of another library, so that all other commands work with it; nothing is trained."""
    from ornstein.arguments import short_repr

    def numbers(option: str, text: str | None, separator: str, kind: type) -> tuple | None:
        try:
            return None if text is None else tuple(kind(number) for number in text.split(separator))
        except ValueError:
            raise ValueError(f"--{option} is {short_repr(text)}; it must be numbers separated by {separator}") from None

    sides, ends = numbers("shape", shape, "x", int), numbers("range", range_, ",", float)
    names = None if classes is None else int(classes) if classes.isdecimal() else classes.split(",")
    if wrong := next((pair for pair in inputs or () if "=" not in pair), None):
        raise ValueError(f"--input has {short_repr(wrong)}; write role=name, such as x=sample")
    path = _model_path(out, overwrite)
    from ornstein.adoption.adopt import adopt as adopt_model
    from ornstein.checkpoint import save
    from ornstein.training.run import lock_output

    with lock_output(out, path):
        model = adopt_model(source, convention=convention, schedule=schedule, shape=sides, time=time, classes=names,
                            null=null, range=ends, data=data, output=output,
                            inputs=dict(pair.split("=", 1) for pair in inputs or ()) or None)
        save(model, path)
    _report(model, out, data)


def _model_path(out: Path, overwrite: bool) -> Path:
    """The path of the model's file in a run folder; refuses a folder with other content."""
    from ornstein import files
    from ornstein.checkpoint import MODEL
    from ornstein.training.run import SETTINGS

    if out.exists() and not out.is_dir():
        raise ValueError(f"out is {out}, which is a file; name a folder")
    path = out / MODEL
    if (out / SETTINGS).exists():
        raise FileExistsError(f"{out} holds a training; name another folder")
    files.check_replaceable(path, ours=True)
    if path.exists() and not overwrite:
        raise FileExistsError(f"{out} already holds a model; replace it (--overwrite), or name another folder")
    return path


def _report(model: Adopted, out: Path, data: str | None) -> None:
    """Print what was understood, and what to do next."""
    spec = model.data
    weights = sum(value.numel() for value in model.network.parameters())
    say(f"{model.origin}{f', {weights:,} weights' * bool(weights)}")
    steps = f" of {model.schedule.T:,} steps" if hasattr(model.schedule, "T") else ""
    say(f"answers {model.convention} on {type(model.schedule).__name__}{steps}; samples of shape "
        f"{' x '.join(map(str, model.shape))}{f', {model.classes} classes' * bool(model.classes)}")
    if spec is not None:
        low, high = (float(end.flat[0]) for end in spec.ends)
        say(f"its values {low:g} to {high:g} are {spec.least} to {spec.most} of the data")
    if data is None:
        say("not checked: name data like those that it was trained on with --data")
    say(f"saved in {out}: ornstein sample {out} --out samples.png")
