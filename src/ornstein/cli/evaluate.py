"""`ornstein evaluate` and `ornstein likelihood`: how good a model is."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from ornstein.cli.app import Data, Run, Sampler, Seed, app

if TYPE_CHECKING:
    from ornstein.data import Dataset
    from ornstein.diffusion.denoiser import NetworkDenoiser

__all__ = ["evaluate", "likelihood"]

PAGE, FIGURES = "index.html", "report.json"


@app.command(sort_key=3)
def evaluate(
    run: Run,
    other: Annotated[Path | None, Parameter(help="A second run, to compare the first one with.")] = None,
    *,
    out: Annotated[Path, Parameter(help="Folder for the page (index.html) and its figures (report.json).")],
    data: Data = None,
    count: Annotated[int | None, Parameter(
        help="Samples to draw; 10,000 up to 256 values a sample, else 2,000, by default.")] = None,
    nfe: Annotated[int | None, Parameter(help="Network calls a sample, never exceeded; 20 by default.")] = None,
    steps: Annotated[int | None, Parameter(help="Steps of the sampler, in place of --nfe.")] = None,
    sampler: Sampler = "auto",
    guidance: Annotated[float | None, Parameter(help="Scale of classifier-free guidance; 1 is none.")] = None,
    features: Annotated[str, Parameter(
        help="Spaces to measure in, with commas: pixels, network, inception=FILE, dinov2=FILE.")] = "pixels,network",
    likelihood: Annotated[bool, Parameter(help="Whether to ask for likelihoods.")] = True,
    seed: Seed = 0,
    overwrite: Annotated[bool, Parameter(help="Replace the report in --out.", negative=())] = False,
    json: Annotated[bool, Parameter(help="Print each event as one line of JSON.", negative=())] = False,
) -> None:
    """Tell how good a model is: distances with error bars, likelihoods, evidence of copies, on one page."""
    _refuse(out, overwrite)
    from ornstein.display import Parts
    from ornstein.evaluation.compare import lines, write
    from ornstein.evaluation.evaluate import evaluate as judge
    from ornstein.own import rule

    spaces, rule_ = [space.strip() for space in features.split(",") if space.strip()], rule(sampler)
    reports, unseen, parts = [], None, Parts(json)
    for place in [run] if other is None else [run, other]:
        model, trained_on, held, facts = _opened(place, data)
        # Both are held against the rows that are unseen by the first.
        held = unseen or held
        report = judge(model, trained_on, held=held, count=count, sampler=rule_, nfe=nfe, steps=steps,
                       guidance=guidance, spaces=spaces, likelihood=likelihood, seed=seed, name=_name(place),
                       facts=facts, tell=parts)
        parts.end()
        report.drawn["sampler"] = sampler
        reports.append(report)
        if other is not None and unseen is None:
            unseen = held or trained_on.split()[1]
    write(reports, out / PAGE, out / FIGURES)
    if json:
        parts.event("report", page=str(out / PAGE), figures=str(out / FIGURES))
        return
    for line in lines(reports):
        print(line)
    print(f"the report is {out / PAGE}, its figures are in {out / FIGURES}")


@app.command(sort_key=4)
def likelihood(
    run: Run,
    *,
    data: Data = None,
    method: Annotated[str, Parameter(help="elbo, bounds of the chain, or ode, of the flow.")] = "elbo",
    count: Annotated[int, Parameter(help="Unseen samples to ask about, at most.")] = 512,
    steps: Annotated[int, Parameter(help="Of the chain whose bound is taken beside that of continuous time.")] = 64,
    seed: Seed = 0,
) -> None:
    """Tell how likely unseen data are under a model, in nats a sample and bits a value."""
    from ornstein.evaluation.likelihoods import METHODS, bounds, flow
    from ornstein.names import require

    require("--method", method, METHODS)
    if count < 2:
        raise ValueError(f"--count is {count}; a mean with an error needs at least 2 samples")
    from ornstein.display import Parts
    from ornstein.evaluation.rows import Rows, careful, sides

    model, trained_on, held, _ = _opened(run, data)
    training, unseen, notes = sides(model, trained_on, held)
    for note in notes:
        print(note)
    seen, rows, spec = Rows.of(training, count, seed), Rows.of(unseen, count, seed), training.spec
    parts = Parts()
    if method == "elbo":
        parts("bounds", 0.0)
        found = bounds(careful(model), rows, seen, spec, seed, steps)[0]
    else:
        found = [flow(careful(model), rows, spec, seed, tell=lambda share: parts("flow", share))]
    parts.end()
    for one in found:
        bits = "" if one.bits is None else f"{one.bits:.4f} ± {one.bits_error:.4f} bits a value, "
        print(f"{one.name}: {bits}{one.nats:.2f} ± {one.error:.2f} nats a sample "
              f"({one.count} unseen samples; {one.grid})")
        for name, mean, error in one.terms:
            print(f"    {name}: {mean:.3f} ± {error:.3f} nats")


def _refuse(out: Path, overwrite: bool) -> None:
    """Refuse a folder that holds anything, unless it is a report to be replaced."""
    if out.exists() and not out.is_dir():
        raise ValueError(f"out is {out}, which is a file; name a folder")
    there = sorted(path.name for path in out.iterdir()) if out.is_dir() else []
    if not there:
        return
    if not {PAGE, FIGURES} >= set(there):
        raise FileExistsError(f"{out} holds {next(name for name in there if name not in (PAGE, FIGURES))}, which is of "
                              "no report; name another folder")
    if not overwrite:
        raise FileExistsError(f"{out} already holds a report; replace it (--overwrite), or name another folder")


def _name(run: Path) -> str:
    path = run.resolve()
    return path.parent.name if path.is_file() and path.stem == "model" else path.stem if path.is_file() else path.name


def _opened(run: Path, data: str | None) -> tuple[NetworkDenoiser, Dataset, Dataset | None, dict[str, Any]]:
    """A model, what it was trained on, what else to hold it against, and facts for its card."""
    from ornstein.checkpoint import digest, load
    from ornstein.data import load_data
    from ornstein.machine import device
    from ornstein.training.run import Run as Folder

    model = load(run).to(device())
    facts: dict[str, Any] = {"sha256": digest(run)}
    settings = Folder(run).settings() if run.is_dir() else None
    given = None
    if data is not None:
        shape = model.shape
        side = shape[-1] if model.data is not None and model.data.kind == "picture" else None
        given = load_data(data, size=side if Path(data).is_dir() else None)
    if settings is None:
        if given is None:
            raise ValueError(f"{run} does not say what it was trained on; name it with --data")
        return model, given, None, facts
    facts["settings"] = settings.as_dict()
    try:
        trained_on = load_data(settings.data, size=settings.size, classes=settings.classes, layout=settings.layout,
                               reader=settings.reader)
    except (FileNotFoundError, ValueError) as error:
        if given is None:
            raise ValueError(f"the data of {run} cannot be read again ({error}); name them with --data") from None
        return model, given, None, facts
    if given is None or given.digest() == trained_on.digest():
        return model, trained_on, None, facts
    return model, trained_on, given, facts
