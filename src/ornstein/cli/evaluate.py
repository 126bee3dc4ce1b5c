"""`ornstein evaluate` and `ornstein likelihood`: how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ornstein import terminal
from ornstein.cli.app import Out, Run, Sampler, Seed, TrainedOn, app, check_memory
from ornstein.display import emit, say

__all__ = ["Features", "Json", "Overwrite", "Place", "announce", "check_out", "evaluate", "likelihood", "split_spaces"]

Unseen = Annotated[str | None, Parameter(
    help="Unseen data, named as for train; by default the rows held out of training.")]
Other = Annotated[Path | None, Parameter(help="A second run, to compare the first one with.")]
Place = Annotated[Out, Parameter(help="Folder for the page (index.html) and its figures (report.json).")]
Count = Annotated[int | None, Parameter(
    help="Samples to draw; by default 10,000 if a sample has at most 256 values, else 2,000.")]
Nfe = Annotated[int | None, Parameter(help="Network calls per sample, at most; 20 by default.")]
Steps = Annotated[int | None, Parameter(help="Steps of the sampler, instead of --nfe.")]
Guidance = Annotated[float | None, Parameter(help="Scale of classifier-free guidance; 1 is no guidance.")]
Features = Annotated[str, Parameter(
    help="Feature spaces to measure in, separated by commas: pixels, network, inception=FILE, dinov2=FILE.")]
Likelihood = Annotated[bool, Parameter(help="Whether to compute likelihoods.")]
Restore = Annotated[tuple[str, ...], Parameter(
    help="Restore held-out rows from a measurement, such as mask=0.5, to test how sure the model is; may be repeated.",
    negative=(), show_default=False)]
Noise = Annotated[float, Parameter(help="Standard deviation of that measurement's noise, with the data in -1..1.")]
Overwrite = Annotated[bool, Parameter(help="Replace the report in --out.", negative=())]
Json = Annotated[bool, Parameter(help="Print each event as one line of JSON.", negative=())]


@app.command(sort_key=4)
def evaluate(run: Run, other: Other = None, *, out: Place, data: Unseen = None, trained_on: TrainedOn = None,
             count: Count = None, nfe: Nfe = None, steps: Steps = None, sampler: Sampler = "auto",
             guidance: Guidance = None, features: Features = "pixels,network", likelihood: Likelihood = True,
             restore: Restore = (), noise: Noise = 0.0, seed: Seed = 0, overwrite: Overwrite = False,
             json: Json = False) -> None:
    """Measure how good a model is, on one page: distances with error bars, likelihoods, copies."""
    check_out(out, overwrite)
    from ornstein.display import ProgressLine
    from ornstein.evaluation.evaluate import evaluate as evaluate_model
    from ornstein.evaluation.pieces import clear_pieces, partial_folder
    from ornstein.evaluation.report_files import lines, write_report
    from ornstein.training.reopen import reopen
    from ornstein.user_classes import load_sampler

    spaces, rule = split_spaces(features), load_sampler(sampler)
    # Open both before time is spent on the first.
    opened = [(path, reopen(path, data, trained_on)) for path in ([run] if other is None else [run, other])]
    (_, first), (_, (second, *_)) = opened[0], opened[-1]
    if first.model.shape != second.shape:
        raise ValueError(f"{other} draws samples of shape {second.shape}, {run} of {first.model.shape}; only models of "
                         "the same shape can be compared")
    if count is not None:
        check_memory(count, second.shape)
    # Both are compared with the rows that are unseen by the first.
    unseen = first.evaluation_data or (None if other is None else first.trained_on.split()[1])
    reports, kept = [], partial_folder(out)
    try:
        for path, (model, known, held_out, facts, notes) in opened:
            name = _name(path)
            with ProgressLine(json, "" if other is None else name) as progress:
                report = evaluate_model(
                    model, known, held=unseen or held_out, count=count, sampler=rule, nfe=nfe, steps=steps,
                    guidance=guidance, spaces=spaces, likelihood=likelihood, restore=restore, noise=noise,
                    seed=seed, name=name, facts=facts, notes=notes, tell=progress, partial=kept)
            report.drawn["sampler"] = sampler
            report.model |= {"run": str(path)} if path.is_dir() else {}
            reports.append(report)
        # Printed before they are written, as the disk may be full by now.
        for line in () if json else lines(reports):
            say(line)
        write_report(reports, out)
    except (KeyboardInterrupt, Exception) as error:
        # A library may have turned the interrupt into another error.
        is_stopped = isinstance(error, KeyboardInterrupt) or terminal.was_interrupted()
        if is_stopped and kept.is_dir():
            say(f"ornstein: stopped; finished parts are kept in {kept}, run the same command to continue", error=True)
            raise SystemExit(130) from None
        if isinstance(error, ValueError) and not is_stopped:  # there is nothing to continue
            clear_pieces(kept)
        raise
    clear_pieces(kept)
    announce(out, json)


@app.command(sort_key=5)
def likelihood(
    run: Run,
    *,
    data: Unseen = None,
    trained_on: TrainedOn = None,
    method: Annotated[str, Parameter(help="elbo (bounds on log p) or ode (log p of the probability flow).")] = "elbo",
    count: Annotated[int, Parameter(help="Number of unseen samples, at most.")] = 512,
    steps: Annotated[int, Parameter(help="Steps of the chain for its bound, beside that of continuous time.")] = 64,
    seed: Seed = 0,
) -> None:
    """Compute how likely unseen data are under a model, in nats per sample and bits per value."""
    from ornstein.arguments import require
    from ornstein.evaluation.likelihoods import METHODS, bounds, flow

    require("--method", method, METHODS)
    if count < 2:
        raise ValueError(f"--count is {count}; a mean with an error needs at least 2 samples")
    from ornstein.display import ProgressLine
    from ornstein.evaluation.pieces import Pieces, PieceStore
    from ornstein.evaluation.preparation import Rows, in_float32, training_and_unseen
    from ornstein.evaluation.progress import Progress
    from ornstein.training.reopen import reopen

    model, known, held_out, _, notes = reopen(run, data, trained_on)
    training, unseen, more_notes = training_and_unseen(model, known, held_out)
    for note in [*notes, *more_notes]:
        say(note)
    seen, rows, spec = Rows.of(training, count, seed), Rows.of(unseen, count, seed), training.spec
    part = "bounds" if method == "elbo" else "flow"
    with ProgressLine() as line:
        progress = Progress(line, (part,))
        progress.expect({})
        with progress(part) as update:
            pieces = Pieces(PieceStore(), update, progress.clock)
            likelihoods = (bounds(in_float32(model), rows, seen, spec, seed, steps, pieces=pieces)[0]
                           if method == "elbo" else [flow(in_float32(model), rows, spec, seed, pieces=pieces)])
    for result in likelihoods:
        say(f"{result.name}: {result} (mean and standard error of {result.count} unseen samples; {result.grid})")
        for name, mean, error in result.terms:
            say(f"    {name}: {mean:.3f} ± {error:.3f} nats")
    say(likelihoods[0].units)


def split_spaces(features: str) -> list[str]:
    """The names of feature spaces in --features."""
    return [space.strip() for space in features.split(",") if space.strip()]


def announce(out: Path, json: bool) -> None:
    """Print where the report is."""
    from ornstein.evaluation.report_files import FIGURES, PAGE

    if json:
        emit("report", page=str(out / PAGE), figures=str(out / FIGURES))
    else:
        say(f"the report is {out / PAGE}, its figures are in {out / FIGURES}")


def check_out(out: Path, overwrite: bool) -> None:
    """Refuse a folder that is not empty, unless it holds a report to be replaced."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out is {out}, which is a file; name a folder")
    if parent := next((path for path in out.parents if path.exists() and not path.is_dir()), None):
        raise ValueError(f"out is {out}, but {parent} is a file; name another folder")
    from ornstein import files
    from ornstein.evaluation.report_files import is_foreign

    files.check_writable(out)
    entries = files.list_folder(out)
    if foreign := next((path for path in entries if is_foreign(path)), None):
        raise FileExistsError(f"{out} holds {foreign.name}, which does not belong to a report; name another folder")
    if entries and not overwrite:
        raise FileExistsError(f"{out} already holds a report; replace it (--overwrite), or name another folder")


def _name(run: Path) -> str:
    path = run.resolve()
    return path.parent.name if path.is_file() and path.stem == "model" else path.stem if path.is_file() else path.name
