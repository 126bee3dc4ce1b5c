"""An evaluation: draw samples, compare them, compute likelihoods, look for copies, and report all of it."""

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
from ornstein.diffusion.samplers.loop import NFE, plan_walk
from ornstein.diffusion.samplers.rule import Rule
from ornstein.evaluation.costs import estimate_costs
from ornstein.evaluation.features import check_features, parse_name
from ornstein.evaluation.images import add_images
from ornstein.evaluation.likelihoods import bounds, flow, gaussians
from ornstein.evaluation.memorisation import memorisation
from ornstein.evaluation.noise_levels import loss_curves
from ornstein.evaluation.pieces import Pieces, PieceStore
from ornstein.evaluation.preparation import MIN_UNSEEN, Rows, data_facts, in_float32, shuffled_rows, training_and_unseen
from ornstein.evaluation.progress import Progress, ProgressCallback
from ornstein.evaluation.reference import Reference
from ornstein.evaluation.report import Report
from ornstein.evaluation.restoration import operator_names, restoration, restoration_seconds
from ornstein.evaluation.results import Curve, Memorisation
from ornstein.isolation import isolated
from ornstein.workers import worker_count

__all__ = ["FEATURES", "evaluate"]

FEATURES = ("pixels", "network")
PARTS = ("features", "real data", "samples", "distances", "copies", "noise levels", "bounds", "flow")
RESTORED = "restored rows"  # another part, if requested
BLOCK = 512  # samples that are drawn in one call: enough for several workers


@isolated(gradients=True, evaluating=True)
def evaluate(model: Denoiser, data: Dataset | Any, *, held: Dataset | Any | None = None, count: int | None = None,
             sampler: str | Rule = "auto", nfe: int | None = None, steps: int | None = None,
             guidance: float | None = None, spaces: Sequence[str] = FEATURES, likelihood: bool = True,
             restore: str | Sequence[str] = (), noise: float = 0.0, conditional: bool = True, seed: int = 0,
             name: str | None = None, facts: dict[str, Any] | None = None, notes: Sequence[str] = (),
             tell: ProgressCallback | None = None, partial: str | Path | None = None) -> Report:
    """Measure how good a model is: distances to unseen data with error bars, likelihoods, evidence of copies, and
    whether it is as sure as it should be of what a measurement leaves open.

    Args:
        model: any `Denoiser`.
        data: what it was trained on, a `Dataset` or anything that `load_data` takes; its held-out rows are the unseen
            ones.
        held: unseen data to use instead of those; all of its rows count.
        count: samples to draw; by default 10,000 for up to 256 values a sample and 2,000 for more.
        sampler, nfe, steps, guidance: as for `sample`.
        spaces: feature spaces for distances, as `features` names them.
        likelihood: whether to compute likelihoods, which needs a model that can be differentiated.
        restore: names of operators, as for `restore`, from whose measurements held-out rows are restored: "mask=0.5".
        noise: standard deviation of the noise of these measurements, on the scale where the data lie in -1..1.
        conditional: whether the model is given the labels or conditions of the data; False for a model that takes none
            but does not declare it.
        seed: of all random draws.
        name: of the model, for people.
        facts: more facts of the model, for its card.
        notes: sentences for the report.
        tell: called with the name of the current part, the share of the time that has passed, and the seconds that are
            left, None until they are known.
        partial: folder for finished parts, from which the same call resumes after an interruption; needs facts with the
            model's sha256.

    Returns:
        `Report`; print it, or write it as a page with `write_report`.

    Raises:
        ValueError: too few rows or samples, shapes that differ, data that are all equal, an unknown operator.
        FileNotFoundError: the file of a feature space is missing.
        RuntimeError: samples that are not finite, or a flow that cannot be followed.
    """
    data = data if isinstance(data, Dataset) else load_data(data)
    held = held if isinstance(held, Dataset | None) else load_data(held)
    size = math.prod(model.shape)
    count = require_int("count", (10_000 if size <= 256 else 2_000) if count is None else count)
    if count < MIN_UNSEEN:
        raise ValueError(f"count is {count}; an evaluation needs at least {MIN_UNSEEN} samples, and some thousand for "
                         "intervals that say much")
    if isinstance(spaces, str):
        raise TypeError(f"spaces is {spaces!r}; it must be a list of names")
    for space in spaces:
        check_features(space)
    plan_walk(model, sampler, nfe, steps, None)  # refuses what no sampler can do, before minutes are spent
    operators = operator_names(restore, noise, model.shape)
    training, unseen, data_notes = training_and_unseen(model, data, held, conditional)
    if guidance is not None and guidance != 1:
        Guided(model, guidance)
        if not training.spec.classes and training.conditions is None:
            raise ValueError(f"guidance is {guidance}, but there is nothing to guide towards; leave it out")
    drawn = {"count": count, "sampler": sampler if isinstance(sampler, str) else type(sampler).__name__,
             "nfe": NFE if nfe is None and steps is None else nfe, "steps": steps, "guidance": guidance, "seed": seed}
    report = Report(
        name or training.spec.name, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        importlib.metadata.version("ornstein"), data_facts(training, unseen), _model_facts(model, facts), drawn,
        notes=[*notes, *data_notes])
    progress = Progress(tell or (lambda *_: None),
                        (*PARTS[:None if likelihood else -2], *([RESTORED] if operators else [])))
    store = PieceStore() if partial is None else PieceStore(
        Path(partial), _identity(report, sampler, spaces, training, unseen) | {"restored": [*operators, noise]})
    return _measured(report, model, training, unseen, sampler, spaces, likelihood, operators, noise, store, progress)


def _measured(report: Report, model: Denoiser, training: Dataset, unseen: Dataset, sampler: str | Rule,
              spaces: Sequence[str], likelihood: bool, operators: Sequence[str], deviation: float, store: PieceStore,
              progress: Progress) -> Report:
    """The report with its figures, part after part."""
    spec, seed, count, size = training.spec, report.drawn["seed"], report.drawn["count"], math.prod(model.shape)
    conditions, exact = _conditions(training, count, seed), in_float32(model)
    # Fewer rows are used where each costs more.
    seen_rows, unseen_rows = (Rows.of(data, int(np.clip(2**18 // size, 64, 512)), seed) for data in (training, unseen))
    reference, fit = Reference.build(training, unseen, count, seed)
    report.notes += reference.notes

    @contextmanager
    def part(name: str) -> Iterator[Pieces]:
        with progress(name) as update:
            yield Pieces(store, update, progress.clock)

    costs = estimate_costs(exact, training, seen_rows, unseen_rows, reference, spaces, likelihood, store, progress)
    calls = (report.drawn["steps"] or report.drawn["nfe"]) * (1 if report.drawn["guidance"] in (None, 1) else 2)
    progress.expect(costs.parts | {"samples": costs.calls(calls * count, 64) / worker_count()} | (
        {RESTORED: len(operators) * restoration_seconds(model.shape, costs.calls(1, 64))} if operators else {}))
    with part("features") as pieces:
        reference.fit_spaces(pieces, spaces, fit)
    with part("real data") as pieces:
        reference.measure_floors(pieces, costs.floors)
    with part("samples") as pieces:
        x = torch.cat([_draw_block(model, start, report.drawn, sampler, conditions, spec, pieces)
                       for start in range(0, count, BLOCK)])
    with part("distances") as pieces:
        rows = torch.from_numpy(shuffled_rows(count, reference.row_limit(training), seed))
        report.measures = reference.measure(pieces, x[rows], None if conditions is None else conditions[rows],
                                            costs.distances)
    with part("copies") as pieces:
        report.memorisation = pieces.figures("copies", lambda: memorisation(x, training, unseen, seed=seed),
                                             Memorisation.read)
    add_images(report, x, conditions, unseen, training, lambda index: x[index][None])
    with part("noise levels") as pieces:
        report.levels = pieces.figures("levels", lambda: loss_curves(exact, training, seen_rows, unseen_rows, seed),
                                       lambda curves: [Curve.read(curve) for curve in curves])
    if likelihood:
        with part("bounds") as pieces:
            report.likelihood, report.steps = bounds(exact, unseen_rows, seen_rows, spec, seed, pieces=pieces,
                                                     costs=costs.bounds)
        with part("flow") as pieces:
            report.likelihood.append(flow(exact, unseen_rows, spec, seed, pieces=pieces))
            report.likelihood += gaussians(unseen_rows, training, seed)
    if operators:
        with part(RESTORED) as pieces:
            _add_restorations(report, model, training, unseen, operators, deviation, pieces)
    report.seconds = progress.seconds
    report.drawn["seconds"] = report.seconds["samples"]
    return report


def _add_restorations(report: Report, model: Denoiser, training: Dataset, unseen: Dataset, operators: Sequence[str],
                      deviation: float, pieces: Pieces) -> None:
    """Add how well unseen rows are restored from their measurements, by each operator."""
    for index, name in enumerate(operators):
        found, image = restoration(model, name, deviation, training, unseen, report.drawn["seed"], pieces=pieces,
                                   index=index, span=(index / len(operators), (index + 1) / len(operators)))
        report.restorations.append(found)
        if image is not None:
            report.pictures[f"restored-{index}"] = image


def _identity(report: Report, sampler: str | Rule, spaces: Sequence[str], training: Dataset,
              unseen: Dataset) -> dict[str, Any]:
    """Everything that the finished pieces of an evaluation depend on."""
    if "sha256" not in report.model:
        raise ValueError("partial is given, but facts have no 'sha256' of the model, without which pieces of one model "
                         "could be taken for another's; give it, or leave partial out")
    rule = sampler
    if isinstance(sampler, Rule):
        code = Path(inspect.getsourcefile(type(sampler)) or "").read_bytes()
        rule = f"{type(sampler).__qualname__} {sorted(vars(sampler).items())} {hashlib.sha256(code).hexdigest()}"
    files = {space: hashlib.sha256(Path(path).expanduser().read_bytes()).hexdigest()
             for space in spaces if (path := parse_name(space)[2])}
    return {"version": report.version, "torch": torch.__version__, "threads": torch.get_num_threads(),
            "model": report.model["sha256"], "drawn": report.drawn, "sampler": rule, "spaces": list(spaces),
            "files": files, "training": training.digest(), "unseen": unseen.digest(), "spec": repr(training.spec)}


def _draw_block(model: Denoiser, start: int, drawn: dict[str, Any], sampler: str | Rule, conditions: Tensor | None,
                spec: DataSpec, pieces: Pieces) -> Tensor:
    """Draw the block of samples that begins with number `start`, rounded to the levels of the data if it has any."""
    count = drawn["count"]
    stop = min(start + BLOCK, count)

    def compute() -> dict[str, Tensor]:
        x = sample(model, stop - start, sampler=sampler, nfe=drawn["nfe"], steps=drawn["steps"], seed=drawn["seed"],
                   guidance=drawn["guidance"], condition=None if conditions is None else conditions[start:stop],
                   first=start, progress=pieces.within(start / count, stop / count)).float().cpu()
        return {"x": spec.on_levels(x)}

    return pieces.tensors(f"samples-{start}", compute, stop / count)["x"]


def _conditions(training: Dataset, count: int, seed: int) -> Tensor | None:
    """Labels or conditions for samples, in the proportions of the training rows."""
    if not training.spec.classes and training.conditions is None:
        return None
    rows = noise.generator(seed, "evaluate", 1).integers(len(training), size=count)
    return torch.from_numpy((training.labels if training.conditions is None else training.conditions)[rows])


def _model_facts(model: Denoiser, facts: dict[str, Any] | None) -> dict[str, Any]:
    network, metrics = getattr(model, "network", None), getattr(model, "metrics", None)
    known: dict[str, Any] = {"denoiser": type(model).__name__, "schedule": type(model.schedule).__name__}
    if isinstance(network, nn.Module):
        known |= {"network": type(network).__name__, "weights": sum(value.numel() for value in network.parameters()),
                  "predicts": getattr(model, "predicts", None), "precision": getattr(model, "precision", None)}
    return known | (dict(metrics) if isinstance(metrics, Mapping) else {}) | (facts or {})
