"""`ornstein tune`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from ornstein.cli.app import Run, app
from ornstein.display import say

__all__ = ["tune"]

DRAWN = 500  # starts to search with, and as many again to confirm on, at most


@app.command(sort_key=3)
def tune(
    run: Run,
    *,
    nfe: Annotated[int, Parameter(help="Network calls a sample to choose for.")],
    starts: Annotated[int, Parameter(help="Noises to search with; as many again confirm.")] = 128,
    seed: Annotated[int, Parameter(help="Of these noises.")] = 0,
) -> None:
    """Choose the sampler and its times for this model and a number of network calls."""
    if not 16 <= starts <= DRAWN:
        raise ValueError(f"--starts is {starts}; it must lie from 16 to {DRAWN}")
    if nfe < 1:
        raise ValueError(f"--nfe is {nfe}; it must be at least 1")
    from ornstein.checkpoint import MODEL
    from ornstein.training.run import held

    # From before the model is read: what another process kept in it meanwhile would be lost.
    with held(run, run / MODEL if run.is_dir() else run):
        _tune(run, nfe, starts, seed)


def _tune(run: Path, nfe: int, starts: int, seed: int) -> None:
    import torch

    from ornstein.checkpoint import MODEL, load, save
    from ornstein.evaluation.distances import frechet
    from ornstein.evaluation.features import features
    from ornstein.machine import device
    from ornstein.training.reopen import reopen
    from ornstein.tuning import tune as search

    if run.is_dir():
        opened = reopen(run)
        model, training = opened.model, opened.trained_on.split()[0]
        space = features("pixels", training)
        real = space(training.batch(range(min(len(training), 10_000)))[0])

        def distance(x: torch.Tensor) -> float:
            return frechet(real, space(x.cpu()))
    else:
        model, distance = load(run).to(device()), None
        say(f"{run} is a file that does not say what it was trained on: no distance to data confirms the choice")
    labels = model.data.cycle(2 * starts) if model.data else None
    live = sys.stderr.isatty()
    choice = search(model, nfe, starts=starts, seed=seed, distance=distance,
                    condition=None if labels is None else labels[torch.randperm(
                        len(labels), generator=torch.Generator().manual_seed(seed))],
                    progress=lambda line: say(line, error=True) if live else None)
    say(f"median error against the exact path, {starts} unseen starts, {nfe} calls")
    for name, error in sorted(choice.errors.items(), key=lambda entry: entry[1]):
        say(f"  {name:30s} {error:.3g}")
    say(f"chosen: {choice.why}")
    place = run / MODEL if run.is_dir() else run
    save(model, place)
    say(f"kept in {place}: sampler auto uses it at --nfe {nfe}, without guidance")
