"""`ornstein compare`: how good samples of any program are."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from ornstein.cli.app import Seed, app
from ornstein.cli.evaluate import Features, Json, Overwrite, Place, announce, check_out, split_spaces
from ornstein.cli.train import Fit, Size
from ornstein.display import say

__all__ = ["compare"]


@app.command(sort_key=4.2)
def compare(
    real: Annotated[str, Parameter(help="Real samples: a folder of pictures, .npy, .npz, .parquet or .tar files, or "
                                        "any other DATA of train.")],
    generated: Annotated[str, Parameter(help="Generated samples of any program, named likewise.")],
    /, *others: Annotated[str, Parameter(help="More sets of generated samples, up to six in all.")],
    out: Place,
    trained_on: Annotated[str | None, Parameter(
        help="Training data of the program: copies are looked for in them, and all of REAL that is not in them is "
             "compared.")] = None,
    size: Size = None,
    fit: Fit = None,
    features: Features = "pixels,network",
    seed: Seed = 0,
    overwrite: Overwrite = False,
    json: Json = False,
) -> None:
    """Compare samples of any program with real ones, without a model: distances with error bars, copies."""
    check_out(out, overwrite)
    from ornstein.display import ProgressLine
    from ornstein.evaluation.compare import compare as compare_sets
    from ornstein.evaluation.report_files import lines, write_report

    with ProgressLine(json) as progress:
        report = compare_sets(real, generated, *others, trained_on=trained_on, size=size, fit=fit or "cut", seed=seed,
                              spaces=split_spaces(features), tell=progress)
    for line in () if json else lines([report, *report.others]):
        say(line)
    write_report(report, out)
    announce(out, json)
