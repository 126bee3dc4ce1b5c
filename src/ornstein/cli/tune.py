"""`ornstein tune`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from ornstein.cli.app import Run, app
from ornstein.display import say

if TYPE_CHECKING:
    from torch import Tensor

    from ornstein.data import Dataset
    from ornstein.diffusion.samplers.choice import Choice

__all__ = ["tune"]

MAX_STARTS = 500  # for the search, and as many again to confirm it
MAX_ROWS = 10_000  # of the training data, to judge samples by
BLURRED = 2  # calls up to which samples are blurred with any rule


@app.command(sort_key=3)
def tune(
    run: Run,
    *,
    nfe: Annotated[str, Parameter(help="Network calls per sample to tune for; several as in 3,4,6.")],
    guidance: Annotated[float | None, Parameter(help="Scale of classifier-free guidance to tune for.")] = None,
    quick: Annotated[bool, Parameter(negative="", help="Learn by regression alone: a third of the time, half of the "
                                     "gain.")] = False,
    starts: Annotated[int | None, Parameter(help="Starting noises for the search, and as many to confirm it; 128 by "
                                            "default, 32 for samples of more than 256 values.")] = None,
    seed: Annotated[int, Parameter(help="Seed of these noises.")] = 0,
) -> None:
    """Learn a sampler for a model and a number of network calls, or choose the best known sampler and its times."""
    try:
        budgets = sorted({int(part) for part in nfe.split(",")})
    except ValueError:
        raise ValueError(f"--nfe is {nfe!r}; it must be a number of calls, or several as in 3,4,6") from None
    if starts is not None and not 16 <= starts <= MAX_STARTS:
        raise ValueError(f"--starts is {starts}; it must be from 16 to {MAX_STARTS}")
    if budgets[0] < 1:
        raise ValueError(f"--nfe is {budgets[0]}; it must be at least 1")
    from ornstein.checkpoint import MODEL
    from ornstein.training.run import lock_output

    # Lock the model before it is read, so that no changes of another process are lost.
    with lock_output(run, run / MODEL if run.is_dir() else run):
        _tune(run, budgets, guidance, quick, starts, seed)


def _tune(run: Path, budgets: list[int], guidance: float | None, quick: bool, starts: int | None,
          seed: int) -> None:
    import torch

    from ornstein.adoption.adopted import Adopted
    from ornstein.checkpoint import MODEL, load, save
    from ornstein.evaluation.preparation import adapt
    from ornstein.machine import default_device
    from ornstein.training.reopen import reopen
    from ornstein.tuning.tune import tune as search
    from ornstein.tuning.tune import usual_starts

    path, distance, model = run / MODEL if run.is_dir() else run, None, load(run).to(default_device())
    has_data = model.trained_on if isinstance(model, Adopted) else run.is_dir()
    if has_data:
        training, notes = adapt(model, reopen(run).trained_on.split()[0], "data", model.data)
        for note in notes:
            say(note)
        distance = _distance(training)
    else:
        say(f"{run} does not say what it was trained on: no distance to data confirms the choice")
    starts = usual_starts(model) if starts is None else starts
    labels = model.data.cycle(2 * starts) if model.data else None
    if labels is not None:
        labels = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))]
    is_live = sys.stderr.isatty()
    for nfe in budgets:
        start = time.perf_counter()
        choice = search(model, nfe, starts=starts, seed=seed, distance=distance, guidance=guidance, quick=quick,
                        condition=labels, progress=lambda line: say(line, error=True) if is_live else None)
        _report(choice, starts, time.perf_counter() - start)
        save(model, path)
    condition = "without guidance" if guidance is None or guidance == 1 else f"--guidance {guidance:g}"
    say(f"saved in {path}: sampler auto uses it at --nfe {' or '.join(map(str, budgets))}, {condition}")


def _distance(training: Dataset) -> Callable[[Tensor], float] | None:
    """A function for the distance of samples to the training data; None if these are too few."""
    from ornstein.evaluation.discrepancy import MIN_ROWS, discrepancy
    from ornstein.evaluation.features import features

    if len(training) < MIN_ROWS:
        say(f"{len(training)} training samples are too few to judge by ({MIN_ROWS} are needed): the choice is by the "
            "error against the exact path alone")
        return None
    space = features("pixels", training)
    distance_to_data = discrepancy(space(training.batch(range(min(len(training), MAX_ROWS)))[0]))
    return lambda x: distance_to_data(space(x.cpu()))


def _report(choice: Choice, starts: int, seconds: float) -> None:
    """Print what was tried, what was chosen and how long it took."""
    say(f"median error against the exact path, {starts} unseen starts, {choice.nfe} call{'s' * (choice.nfe > 1)}")
    for name, error in sorted(choice.errors.items(), key=lambda entry: entry[1]):
        say(f"  {name:30s} {error:.3g}")
    say(f"chosen: {choice.why}; {seconds:.0f} s")
    if choice.nfe <= BLURRED:
        say(f"{choice.nfe} call{'s' * (choice.nfe > 1)} cannot draw what many calls do, with any sampler: expect "
            "blurred samples; from 3 calls on little is lost")
