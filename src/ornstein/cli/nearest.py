"""`ornstein nearest`."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ornstein.cli.app import Out, Run, TrainedOn, app
from ornstein.display import say

if TYPE_CHECKING:
    from torch import Tensor

    from ornstein.data import Dataset
    from ornstein.evaluation.nearest import Neighbour

__all__ = ["nearest"]

TILE = 192  # pixels of a picture's side in a sheet, so that file names fit above it


@app.command(sort_key=4.5)
def nearest(
    run: Run,
    picture: Annotated[Path, Parameter(
        help="A picture file, from `ornstein sample` or any other program; for arrays a .npy file of one sample.")],
    *,
    out: Annotated[Out | None, Parameter(
        help="FILE.png, .jpg or .webp for a sheet: the picture, then its neighbours, nearest first.")] = None,
    count: Annotated[int, Parameter(help="Training pictures to name.")] = 8,
    trained_on: TrainedOn = None,
) -> None:
    """List the training pictures nearest to a picture, to see whether a sample is new or a copy."""
    from ornstein.figures.formats import PICTURE_FORMATS

    if out is not None and out.suffix.lower() not in PICTURE_FORMATS:
        raise ValueError(f"out is {out}; it must end in .png, .jpg or .webp")
    if not picture.is_file():
        raise FileNotFoundError(f"{picture} does not exist; name a picture file, or a .npy file of one sample")
    if run.is_file() and trained_on is None:
        raise ValueError(f"{run} does not say what it was trained on; name it with --trained-on")
    from ornstein import files
    from ornstein.evaluation.nearest import nearest as search
    from ornstein.figures.subject import read_sample
    from ornstein.training.reopen import reopen

    if out is not None:
        files.check_replaceable(out)
        files.check_writable(out)
    opened = reopen(run, trained_on=trained_on, require_unseen=False)
    data = opened.trained_on
    x = read_sample(data.spec, picture)
    if out is not None and x.ndim < 3:
        raise ValueError(f"out is {out}, but samples of shape {data.spec.shape} cannot be drawn; leave it out, the "
                         "printed lines name the rows")
    for note in opened.notes:
        say(note, error=True)
    neighbours = search(x, data, count)[0]
    for neighbour in neighbours:
        label = f"  {neighbour.label}" * bool(neighbour.label)
        transform = f"  ({neighbour.how})" * (neighbour.how != "as it is")
        say(f"{neighbour.distance:.3f}  {neighbour.name}{label}{transform}")
    if out is not None:
        _sheet(out, x, data, picture.name, neighbours)


def _sheet(out: Path, x: Tensor, data: Dataset, name: str, neighbours: list[Neighbour]) -> None:
    """Draw a sample and its neighbours, each under its name."""
    import torch

    from ornstein import __version__
    from ornstein.figures.formats import write_picture
    from ornstein.figures.pictures import captioned

    names = [name, *(f"{neighbour.distance:.3f}  {Path(neighbour.name).name}" for neighbour in neighbours)]
    rows = [neighbour.row for neighbour in neighbours]
    scale = max(1, TILE // max(x.shape[-2:])) if data.spec.kind == "picture" else None
    image = captioned(data.spec, torch.cat([x, data.batch(rows)[0]]), math.ceil(len(names) ** 0.5), names, scale)
    write_picture(image, out, {"ornstein": __version__, "nearest": name, "rows": rows})
