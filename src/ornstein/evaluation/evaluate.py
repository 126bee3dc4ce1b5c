"""One evaluation: draw, compare, ask for likelihoods, look for copies, and put it all into a report."""

from __future__ import annotations

import datetime
import hashlib
import importlib.metadata
import inspect
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ornstein import noise
from ornstein.arguments import require_int
from ornstein.data import Dataset, DataSpec, load_data
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.guidance import Guided
from ornstein.diffusion.samplers import sample
from ornstein.diffusion.samplers.loop import NFE, plan
from ornstein.diffusion.samplers.rule import Rule
from ornstein.evaluation.compared import Compared
from ornstein.evaluation.features import check, known
from ornstein.evaluation.images import add_images
from ornstein.evaluation.kept import Kept, Pieces
from ornstein.evaluation.likelihoods import bounds, flow, gaussians
from ornstein.evaluation.memorisation import memorisation
from ornstein.evaluation.noise_levels import by_noise_level
from ornstein.evaluation.pace import Pace, Tell
from ornstein.evaluation.report import Report
from ornstein.evaluation.restoration import operators, restoration, seconds_of_rows
from ornstein.evaluation.results import Curve, Memorisation
from ornstein.evaluation.rows import LEAST, Rows, careful, facts_of, shuffled, sides
from ornstein.evaluation.trials import expected
from ornstein.isolation import isolated
from ornstein.workers import worker_count

__all__ = ["FEATURES", "evaluate"]

FEATURES = ("pixels", "network")
PARTS = ("features", "real data", "samples", "distances", "copies", "noise levels", "bounds", "flow")
RESTORED = "restored rows"  # a part, too, where it is asked for
DRAWN = 512  # samples that are drawn together: enough for several workers


@isolated(gradients=True, evaluating=True)
def evaluate(model: Denoiser, data: Dataset | Any, *, held: Dataset | Any | None = None, count: int | None = None,
             sampler: str | Rule = "auto", nfe: int | None = None, steps: int | None = None,
             guidance: float | None = None, spaces: Sequence[str] = FEATURES, likelihood: bool = True,
             restore: str | Sequence[str] = (), noise: float = 0.0, conditional: bool = True, seed: int = 0,
             name: str | None = None, facts: dict[str, Any] | None = None, notes: Sequence[str] = (),
             tell: Tell | None = None, partial: str | Path | None = None) -> Report:
    """Find out how good a model is: distances to unseen data with error bars, likelihoods, evidence of copies, and
    whether it is as sure as it may be of what a measurement leaves open.

    Args:
        model: any `Denoiser`.
        data: what it was trained on, a `Dataset` or what `load_data` takes; its held-out rows are the unseen ones.
        held: unseen data in place of those, of which all rows count.
        count: samples to draw; 10,000 up to 256 values a sample and 2,000 above, unless given.
        sampler, nfe, steps, guidance: as for `sample`.
        spaces: feature spaces for distances, as `features` names them.
        likelihood: whether to ask for likelihoods, which needs a model that can be differentiated.
        restore: operators by name, as for `restore`, from whose measurements held-out rows are restored: "mask=0.5".
        noise: standard deviation of the noise of these measurements, on the scale where the data lie in -1..1.
        conditional: whether the model is told the labels or conditions of the data; False for a model that takes none
            and does not say so.
        seed: of everything that is drawn.
        name: of the model, for people.
        facts: more of the model, for its card.
        notes: sentences for the report.
        tell: called with the part that is under way, the share of the time that has passed, and the seconds that are
            left, None until they are known.
        partial: folder to keep in what is done, so that the same call goes on there after it was cut short; for a
            model whose facts have its sha256.

    Returns:
        `Report`; print it, or make a page of it with `write_report`.

    Raises:
        ValueError: too few rows or samples, shapes that differ, data that are all alike, an unknown operator.
        FileNotFoundError: a feature space whose file is not there.
        RuntimeError: samples that are not finite, or a flow that cannot be followed.
    """
    data = data if isinstance(data, Dataset) else load_data(data)
    held = held if isinstance(held, Dataset | None) else load_data(held)
    size = math.prod(model.shape)
    count = require_int("count", (10_000 if size <= 256 else 2_000) if count is None else count)
    if count < LEAST:
        raise ValueError(f"count is {count}; an evaluation needs at least {LEAST} samples, and some thousand for "
                         "intervals that say much")
    if isinstance(spaces, str):
        raise TypeError(f"spaces is {spaces!r}; it must be a list of names")
    for space in spaces:
        check(space)
    plan(model, sampler, nfe, steps, None)  # refuses what no sampler can do, before minutes are spent
    asked = operators(restore, noise, model.shape)
    training, unseen, more = sides(model, data, held, conditional)
    if guidance is not None and guidance != 1:
        Guided(model, guidance)
        if not training.spec.classes and training.conditions is None:
            raise ValueError(f"guidance is {guidance}, but there is nothing to guide towards; leave it out")
    drawn = {"count": count, "sampler": sampler if isinstance(sampler, str) else type(sampler).__name__,
             "nfe": NFE if nfe is None and steps is None else nfe, "steps": steps, "guidance": guidance, "seed": seed}
    report = Report(
        name or training.spec.name, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        importlib.metadata.version("ornstein"), facts_of(training, unseen), _of_model(model, facts), drawn,
        notes=[*notes, *more])
    pace = Pace(tell or (lambda *_: None), (*PARTS[:None if likelihood else -2], *([RESTORED] if asked else [])))
    kept = Kept() if partial is None else Kept(Path(partial), _identity(report, sampler, spaces, training, unseen) | {
        "restored": [*asked, noise]})
    return _filled(report, model, training, unseen, sampler, spaces, likelihood, asked, noise, kept, pace)


def _filled(report: Report, model: Denoiser, training: Dataset, unseen: Dataset, sampler: str | Rule,
            spaces: Sequence[str], likelihood: bool, restored: Sequence[str], deviation: float, kept: Kept,
            pace: Pace) -> Report:
    """The report with its figures, part after part."""
    spec, seed, count, size = training.spec, report.drawn["seed"], report.drawn["count"], math.prod(model.shape)
    asked, exact = _conditions(training, count, seed), careful(model)
    # Fewer rows are asked about where each costs more.
    seen, rows = (Rows.of(part, int(np.clip(2**18 // size, 64, 512)), seed) for part in (training, unseen))
    compared, fit = Compared.of(training, unseen, count, seed)
    report.notes += compared.notes

    @contextmanager
    def part(name: str) -> Iterator[Pieces]:
        with pace(name) as share:
            yield Pieces(kept, share, pace.clock)

    cost = expected(exact, training, seen, rows, compared, spaces, likelihood, kept, pace)
    draws = (report.drawn["steps"] or report.drawn["nfe"]) * (1 if report.drawn["guidance"] in (None, 1) else 2)
    pace.expect(cost.parts | {"samples": cost.calls(draws * count, 64) / worker_count()} | (
        {RESTORED: len(restored) * seconds_of_rows(model.shape, cost.calls(1, 64))} if restored else {}))
    with part("features") as piece:
        compared.learn(piece, spaces, fit)
    with part("real data") as piece:
        compared.floors(piece, cost.floors)
    with part("samples") as piece:
        x = torch.cat([_drawn(model, start, report.drawn, sampler, asked, spec, piece)
                       for start in range(0, count, DRAWN)])
    with part("distances") as piece:
        some = torch.from_numpy(shuffled(count, compared.most(training), seed))
        report.measures = compared.measures(piece, x[some], None if asked is None else asked[some], cost.distances)
    with part("copies") as piece:
        report.memorisation = piece("copies", lambda: memorisation(x, training, unseen, seed=seed), Memorisation.read)
    add_images(report, x, asked, unseen, training, lambda number: x[number][None])
    with part("noise levels") as piece:
        report.levels = piece("levels", lambda: by_noise_level(exact, training, seen, rows, seed),
                              lambda curves: [Curve.read(one) for one in curves])
    if likelihood:
        with part("bounds") as piece:
            report.likelihood, report.steps = bounds(exact, rows, seen, spec, seed, piece=piece, costs=cost.bounds)
        with part("flow") as piece:
            report.likelihood.append(flow(exact, rows, spec, seed, piece=piece))
            report.likelihood += gaussians(rows, training, seed)
    if restored:
        _restored(report, model, training, unseen, restored, deviation, kept, pace)
    report.seconds = pace.seconds
    report.drawn["seconds"] = report.seconds["samples"]
    return report


def _restored(report: Report, model: Denoiser, training: Dataset, unseen: Dataset, names: Sequence[str],
              deviation: float, kept: Kept, pace: Pace) -> None:
    """Add what rows are like that are restored from their measurements."""
    with pace(RESTORED) as share:
        piece = Pieces(kept, share, pace.clock)
        for number, name in enumerate(names):
            found, image = restoration(model, name, deviation, training, unseen, report.drawn["seed"], piece=piece,
                                       number=number, share=(number / len(names), (number + 1) / len(names)))
            report.restorations.append(found)
            if image is not None:
                report.pictures[f"restored-{number}"] = image


def _identity(report: Report, sampler: str | Rule, spaces: Sequence[str], training: Dataset,
              unseen: Dataset) -> dict[str, Any]:
    """Everything that the pieces of an evaluation depend on."""
    if "sha256" not in report.model:
        raise ValueError("partial is given, but facts have no 'sha256' of the model, without which what is kept of one "
                         "could pass for another's; give it, or leave partial out")
    rule = sampler
    if isinstance(sampler, Rule):
        code = Path(inspect.getsourcefile(type(sampler)) or "").read_bytes()
        rule = f"{type(sampler).__qualname__} {sorted(vars(sampler).items())} {hashlib.sha256(code).hexdigest()}"
    files = {space: hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
             for space in spaces if (path := known(space)[2])}
    return {"version": report.version, "torch": torch.__version__, "threads": torch.get_num_threads(),
            "model": report.model["sha256"], "drawn": report.drawn, "sampler": rule, "spaces": list(spaces),
            "files": files, "training": training.digest(), "unseen": unseen.digest(), "spec": repr(training.spec)}


def _drawn(model: Denoiser, start: int, drawn: dict[str, Any], sampler: str | Rule, asked: Tensor | None,
           spec: DataSpec, piece: Pieces) -> Tensor:
    """The samples from a number on that are drawn, and kept, together: on the levels where the data have any."""
    count = drawn["count"]
    stop = min(start + DRAWN, count)

    def make() -> dict[str, Tensor]:
        x = sample(model, stop - start, sampler=sampler, nfe=drawn["nfe"], steps=drawn["steps"], seed=drawn["seed"],
                   guidance=drawn["guidance"], condition=None if asked is None else asked[start:stop], first=start,
                   progress=piece.within(start / count, stop / count)).float().cpu()
        return {"x": spec.encode(spec.decode(x)) if spec.rounds else x}

    return piece.tensors(f"samples-{start}", make, stop / count)["x"]


def _conditions(training: Dataset, count: int, seed: int) -> Tensor | None:
    """Labels or conditions for samples, in the shares that the training rows have."""
    if not training.spec.classes and training.conditions is None:
        return None
    rows = noise.generator(seed, "evaluate", 1).integers(len(training), size=count)
    return torch.from_numpy((training.labels if training.conditions is None else training.conditions)[rows])


def _of_model(model: Denoiser, facts: dict[str, Any] | None) -> dict[str, Any]:
    network, metrics = getattr(model, "network", None), getattr(model, "metrics", None)
    known: dict[str, Any] = {"denoiser": type(model).__name__, "schedule": type(model.schedule).__name__}
    if isinstance(network, nn.Module):
        known |= {"network": type(network).__name__, "weights": sum(value.numel() for value in network.parameters()),
                  "predicts": getattr(model, "predicts", None), "precision": getattr(model, "precision", None)}
    return known | (dict(metrics) if isinstance(metrics, Mapping) else {}) | (facts or {})
