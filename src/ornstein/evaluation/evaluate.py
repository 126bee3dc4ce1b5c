"""One evaluation: draw, compare, ask for likelihoods, look for copies, and put it all into a report."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ornstein import noise
from ornstein.data import Dataset, DataSpec, load_data
from ornstein.data.dataset import digest_values
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.guidance import Guided
from ornstein.diffusion.samplers import sample
from ornstein.diffusion.samplers.loop import NFE, plan
from ornstein.diffusion.samplers.rule import Rule
from ornstein.evaluation.classifier import accuracy_interval
from ornstein.evaluation.features import Features, features, known
from ornstein.evaluation.likelihoods import bounds, flow, gaussians
from ornstein.evaluation.measures import distances_between, forest_between
from ornstein.evaluation.memorisation import memorisation
from ornstein.evaluation.noise_levels import by_noise_level
from ornstein.evaluation.report import Measure, Report
from ornstein.evaluation.rows import LEAST, Rows, careful, sides, without
from ornstein.figures.pictures import picture, show
from ornstein.isolation import isolated
from ornstein.names import whole

__all__ = ["FEATURES", "evaluate"]

FEATURES = ("pixels", "network")
PARTS = ("features", "samples", "distances", "copies", "noise levels", "bounds", "flow")
SMALL_SIZE, SMALL = 16, (0.02, 0.05, 0.65, 0.01, 0.02, 0.15, 0.10)  # values a sample, and shares of the time
MIDDLE_SIZE, MIDDLE = 1024, (0.08, 0.27, 0.14, 0.01, 0.03, 0.15, 0.32)
LARGE = (0.06, 0.15, 0.15, 0.02, 0.04, 0.08, 0.50)
FEW = 150  # rows, below which little can be shown
FLOOR = 2_000  # training rows, at most, that no feature is fitted to
COMPARED = 10_000  # rows of a side, at most
VALUES = 2**27  # and values in them
SHOWN, POINTS = 40, 1_000  # samples on the page, beside as many real ones; of vectors
Tell = Callable[[str, float], None]


@isolated(gradients=True, evaluating=True)
def evaluate(model: Denoiser, data: Dataset | Any, *, held: Dataset | Any | None = None, count: int | None = None,
             sampler: str | Rule = "auto", nfe: int | None = None, steps: int | None = None,
             guidance: float | None = None, spaces: Sequence[str] = FEATURES, likelihood: bool = True,
             conditional: bool = True, seed: int = 0, name: str | None = None, facts: dict[str, Any] | None = None,
             notes: Sequence[str] = (), tell: Tell | None = None) -> Report:
    """Find out how good a model is: distances to unseen data with error bars, likelihoods, and evidence of copies.

    Args:
        model: any `Denoiser`.
        data: what it was trained on, a `Dataset` or what `load_data` takes; its held-out rows are the unseen ones.
        held: unseen data in place of those, of which all rows count.
        count: samples to draw; 10,000 up to 256 values a sample and 2,000 above, unless given.
        sampler, nfe, steps, guidance: as for `sample`.
        spaces: feature spaces for distances, as `features` names them.
        likelihood: whether to ask for likelihoods, which needs a model that can be differentiated.
        conditional: whether the model is told the labels or conditions of the data; False for a model that takes none
            and does not say so.
        seed: of everything that is drawn.
        name: of the model, for people.
        facts: more of the model, for its card.
        notes: sentences for the report.
        tell: called with the part that is under way and its share of the time.

    Returns:
        `Report`; print it, or make a page of it with `write_report`.

    Raises:
        ValueError: too few rows or samples, shapes that differ, data that are all alike, samples that are not finite.
        FileNotFoundError: a feature space whose file is not there.
    """
    data = data if isinstance(data, Dataset) else load_data(data)
    held = held if isinstance(held, Dataset | None) else load_data(held)
    size = math.prod(model.shape)
    count = whole("count", (10_000 if size <= 256 else 2_000) if count is None else count)
    if count < LEAST:
        raise ValueError(f"count is {count}; an evaluation needs at least {LEAST} samples, and some thousand for "
                         "intervals that say much")
    if isinstance(spaces, str):
        raise TypeError(f"spaces is {spaces!r}; it must be a list of names")
    for space in spaces:
        known(space)
    plan(model, sampler, nfe, steps, None)  # refuses what no sampler can do, before minutes are spent
    training, unseen, more = sides(model, data, held, conditional)
    if guidance is not None and guidance != 1:
        Guided(model, guidance)
        if not training.spec.classes and training.conditions is None:
            raise ValueError(f"guidance is {guidance}, but there is nothing to guide towards; leave it out")
    fit, apart = _for_features(training, seed)
    fewest = min(len(unseen), len(apart))
    if fewest < FEW:
        more.append(f"only {len(unseen)} unseen rows, and {len(apart)} real ones to compare with: these figures can "
                    "show coarse differences only")
    clock = _Clock(tell or (lambda *_: None))
    # Where the time goes, measured on points, digits and pictures of 32 x 32.
    weigh = dict(zip(PARTS, SMALL if size <= SMALL_SIZE else MIDDLE if size <= MIDDLE_SIZE else LARGE, strict=True))
    with clock("features", weigh["features"]):
        found = [features(space, fit, seed=seed, most=max(4, min(64, fewest // 4))) for space in spaces]
    with clock("samples", weigh["samples"]) as share:
        told = _told(training, count, seed)
        report_of_draw = {"count": count, "sampler": sampler if isinstance(sampler, str) else type(sampler).__name__,
                          "nfe": NFE if nfe is None and steps is None else nfe, "steps": steps, "guidance": guidance,
                          "seed": seed}
        x = _as_data(sample(model, count, sampler=sampler, nfe=nfe, steps=steps, guidance=guidance, condition=told,
                            seed=seed, progress=share).float().cpu(), training.spec)
    report = Report(
        name or training.spec.name, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        importlib.metadata.version("ornstein"), _of_data(training, unseen), _of_model(model, facts), report_of_draw,
        notes=[*notes, *more])
    with clock("distances", weigh["distances"]) as share:
        report.measures += _measures(found, x, told, training, apart, unseen, seed, share)
    with clock("copies", weigh["copies"]):
        report.memorisation = memorisation(x, training, unseen, seed=seed)
    _pictures(report, x, told, training, unseen, seed)
    exact = careful(model)
    seen, rows = (Rows.of(part, _affordable(size), seed) for part in (training, unseen))
    with clock("noise levels", weigh["noise levels"]):
        report.levels = by_noise_level(exact, training, seen, rows, seed)
    if likelihood:
        with clock("bounds", weigh["bounds"]):
            report.likelihood, report.steps = bounds(exact, rows, seen, training.spec, seed)
        with clock("flow", weigh["flow"]) as share:
            report.likelihood.append(flow(exact, rows, training.spec, seed, tell=share))
            report.likelihood += gaussians(rows, training, seed)
    report.seconds = clock.seconds
    report.drawn["seconds"] = clock.seconds["samples"]
    return report


class _Clock:
    """Times the parts of an evaluation and tells how far it is.

    Args:
        tell: called with a part's name and the share of the whole that is done.
    """

    def __init__(self, tell: Tell) -> None:
        self.tell, self.done = tell, 0.0
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, part: str, share: float) -> Iterator[Callable[[float], None]]:
        """Time a part that is about `share` of the whole; yields what to call with the share of the part."""
        self.tell(part, self.done)
        started = time.perf_counter()
        yield lambda inner: self.tell(part, self.done + share * inner)
        self.seconds[part] = round(time.perf_counter() - started, 2)
        self.done += share


def _told(training: Dataset, count: int, seed: int) -> Tensor | None:
    """Labels or conditions for samples, in the shares that the training rows have."""
    if not training.spec.classes and training.conditions is None:
        return None
    given = training.labels if training.conditions is None else training.conditions
    return torch.from_numpy(given[noise.generator(seed, "evaluate", 1).integers(len(training), size=count)])


def _as_data(x: Tensor, spec: DataSpec) -> Tensor:
    """Samples as a user gets them, on the levels where the data have any.

    Raises:
        ValueError: samples that are not finite.
    """
    if lost := int((~x.flatten(1).isfinite().all(1)).sum()):
        raise ValueError(f"{lost} of {len(x)} samples hold values that are not finite; the model is broken, or the "
                         "sampler does not suit it (try another --sampler or a larger --nfe)")
    return spec.encode(spec.decode(x)) if spec.rounds else x


def _for_features(training: Dataset, seed: int) -> tuple[Dataset, Dataset]:
    """Training rows for feature spaces to be fitted to, and as many others as the floor is measured on.

    On the rows that a network was trained on its features are not what they are on others, and a floor of those rows
    would be one that a perfect model does not reach.
    """
    some = np.zeros(len(training), bool)
    some[noise.generator(seed, "evaluate", 2).permutation(len(training))[:min(len(training) // 4, FLOOR)]] = True
    return without(training, some)


def _measures(found: list[Features], x: Tensor, told: Tensor | None, training: Dataset, apart: Dataset,
              unseen: Dataset, seed: int, share: Callable[[float], None]) -> Iterator[Measure]:
    most = int(min(COMPARED, VALUES // math.prod(training.spec.shape)))
    real, other, fresh = (Rows.of(part, most, seed) for part in (training, apart, unseen))
    for number, space in enumerate(found):
        share(number / (len(found) + 1))
        yield from distances_between(space(fresh.x), space(x[:most]), space(other.x), space.name)
        if space.classes and all(labels is not None and labels.ndim == 1 and (labels >= 0).any()
                                 for labels in (told, fresh.told)):
            yield _accuracy(space, (x, told), (fresh.x, fresh.told))
    share(len(found) / (len(found) + 1))
    yield forest_between(*(rows.flatten(1).double().numpy() for rows in (fresh.x, x[:most], real.x)), seed=seed)


def _accuracy(space: Features, *rows: tuple[Tensor, Tensor | None]) -> Measure:
    """How often a classifier sees in a sample the class that was asked for; its floor are unseen real rows."""
    hits = []
    for x, labels in rows:
        wanted = labels if labels is not None else torch.full((len(x),), -1, device="cpu")
        asked = wanted >= 0
        hits.append(space.predict(x[asked]) == wanted[asked].numpy())
    (value, low, high), floor = (_share(hit) for hit in hits)
    return Measure("accuracy", "Recognised as the class asked for", space.name, value, low, high, 1.0, len(hits[1]),
                   len(hits[0]), None, *floor)


def _share(hits: np.ndarray) -> tuple[float, float, float]:
    found = accuracy_interval(int(hits.sum()), len(hits))
    return found.value, found.low, found.high


def _affordable(size: int) -> int:
    """Rows whose likelihood is asked for: fewer where each costs more."""
    return int(np.clip(2**18 // size, 64, 512))


def _of_data(training: Dataset, unseen: Dataset) -> dict[str, Any]:
    spec = training.spec
    return {"name": spec.name, "shape": list(spec.shape), "kind": spec.kind, "levels": spec.bins,
            "classes": [spec.classes[number] for number in spec.drawn], "conditions": list(spec.conditions),
            "training": len(training), "held_out": len(unseen), "held_out_name": unseen.spec.name,
            "held_out_sha256": digest_values(unseen.values)}


def _of_model(model: Denoiser, facts: dict[str, Any] | None) -> dict[str, Any]:
    network = getattr(model, "network", None)
    own: dict[str, Any] = {"denoiser": type(model).__name__, "schedule": type(model.schedule).__name__}
    if isinstance(network, nn.Module):
        own |= {"network": type(network).__name__, "weights": sum(value.numel() for value in network.parameters()),
                "predicts": getattr(model, "predicts", None), "precision": getattr(model, "precision", None)}
    metrics = getattr(model, "metrics", None)
    return own | (dict(metrics) if isinstance(metrics, Mapping) else {}) | (facts or {})


def _pictures(report: Report, x: Tensor, told: Tensor | None, training: Dataset, unseen: Dataset, seed: int) -> None:
    """The images that the page shows: samples beside unseen rows, by class where there are any, and nearest pairs."""
    spec, some = training.spec, SHOWN if len(training.spec.shape) > 1 else POINTS
    fresh = Rows.of(unseen, some, seed)
    named = told is not None and told.ndim == 1 and bool(spec.classes) and fresh.told is not None
    for name, rows, labels in (("samples", x, told), ("real", fresh.x, fresh.told)):
        rows, labels = rows[:len(fresh)], labels[:len(fresh)] if labels is not None and named else None
        order = torch.arange(len(rows), device="cpu") if labels is None else labels.argsort(stable=True)
        report.pictures[name] = show(spec, rows[order], 8, None if labels is None else labels[order])
    if report.memorisation is None or len(spec.shape) == 1:  # two points in a plane are nothing to look at
        return
    for number, pair in enumerate(report.memorisation.pairs):
        for kind, one in (("sample", x[pair.sample][None]), ("training", training.batch([pair.training])[0])):
            report.pictures[f"pair-{number}-{kind}"] = (
                Image.fromarray(picture(spec, one)[0]) if spec.kind == "picture" else show(spec, one, 1))
