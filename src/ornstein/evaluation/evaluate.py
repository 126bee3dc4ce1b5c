"""One evaluation: draw, compare, ask for likelihoods, look for copies, and put it all into a report."""

from __future__ import annotations

import datetime
import importlib.metadata
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ornstein import noise
from ornstein.data import Dataset, DataSpec, load_data
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.samplers import generate
from ornstein.diffusion.samplers.loop import NFE, choose, plan
from ornstein.diffusion.samplers.rule import Rule
from ornstein.evaluation.classifier import accuracy_interval
from ornstein.evaluation.features import Features, features
from ornstein.evaluation.likelihoods import bounds, flow, gaussians
from ornstein.evaluation.measures import distances_between, forest_between
from ornstein.evaluation.memorisation import memorisation
from ornstein.evaluation.noise_levels import by_noise_level
from ornstein.evaluation.report import Measure, Report
from ornstein.evaluation.rows import LEAST, Rows, careful, sides
from ornstein.figures.pictures import picture, show

__all__ = ["FEATURES", "evaluate"]

FEATURES = ("pixels", "network")
SHOWN = 40  # samples on the page, beside as many real ones
Tell = Callable[[str, float], None]


def evaluate(model: Denoiser, data: Dataset | Any, *, held: Dataset | Any | None = None, count: int | None = None,
             sampler: str | Rule = "auto", nfe: int | None = None, steps: int | None = None,
             guidance: float | None = None, spaces: Sequence[str] = FEATURES, likelihood: bool = True, seed: int = 0,
             name: str | None = None, facts: dict[str, Any] | None = None, tell: Tell | None = None) -> Report:
    """Find out how good a model is: distances to unseen data with error bars, likelihoods, and evidence of copies.

    Args:
        model: any `Denoiser`.
        data: what it was trained on, a `Dataset` or what `load_data` takes; its held-out rows are the unseen ones.
        held: unseen data in place of those, of which all rows count.
        count: samples to draw; 10,000 up to 256 values a sample and 2,000 above, unless given.
        sampler, nfe, steps, guidance: as for `sample`.
        spaces: feature spaces for distances, as `features` names them.
        likelihood: whether to ask for likelihoods, which needs a model that can be differentiated.
        seed: of everything that is drawn.
        name: of the model, for people.
        facts: more of the model, for its card.
        tell: called with the part that is under way and its share of the time.

    Returns:
        `Report`; `report.write(path)` keeps its figures, `ornstein.evaluation.page.render` draws them.

    Raises:
        ValueError: too few rows or samples, shapes that differ, data that are all alike, samples that are not finite.
        FileNotFoundError: a feature space whose file is not there.
    """
    data = data if isinstance(data, Dataset) else load_data(data)
    held = held if isinstance(held, Dataset | None) else load_data(held)
    size = math.prod(model.shape)
    count = (10_000 if size <= 256 else 2_000) if count is None else count
    if count < LEAST:
        raise ValueError(f"count is {count}; an evaluation needs at least {LEAST} samples, and some thousand for "
                         "intervals that say much")
    plan(model, choose(sampler), nfe, steps, None)  # refuses what no sampler can do, before minutes are spent
    training, unseen, notes = sides(model, data, held)
    clock = _Clock(tell or (lambda *_: None))
    with clock("features", 0.08):
        found = [features(space, training, seed=seed) for space in spaces]
    with clock("samples", 0.27) as share:
        told = _told(training, count, seed)
        report_of_draw = {"count": count, "sampler": sampler if isinstance(sampler, str) else type(sampler).__name__,
                          "nfe": NFE if nfe is None and steps is None else nfe, "steps": steps, "guidance": guidance,
                          "seed": seed}
        for frame in generate(model, count, sampler=sampler, nfe=nfe, steps=steps, guidance=guidance, condition=told,
                              seed=seed):
            share(1 - frame.time)
        x = _as_data(frame.latent.float().cpu(), training.spec)
    report = Report(
        name or training.spec.name, datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        importlib.metadata.version("ornstein"), _of_data(training, unseen), _of_model(model, facts), report_of_draw,
        notes=notes)
    with clock("distances", 0.14) as share:
        report.measures += _measures(found, x, told, training, unseen, seed, share)
    with clock("copies", 0.01):
        report.memorisation = memorisation(x, training, unseen, seed=seed)
    _pictures(report, x, told, training, unseen, seed)
    exact = careful(model)
    seen, rows = (Rows.of(part, _affordable(size), seed) for part in (training, unseen))
    with clock("noise levels", 0.03):
        report.levels = by_noise_level(exact, training, seen, rows, seed)
    if likelihood:
        with clock("bounds", 0.15):
            report.likelihood, report.steps = bounds(exact, rows, seen, training.spec, seed)
        with clock("flow", 0.32) as share:
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
    return x if spec.levels is None else spec.encode(spec.decode(x))


def _measures(found: list[Features], x: Tensor, told: Tensor | None, training: Dataset, unseen: Dataset, seed: int,
              share: Callable[[float], None]) -> Iterator[Measure]:
    most = max(len(unseen), min(len(training), 10_000))
    real, fresh = (Rows.of(part, most, seed) for part in (training, unseen))
    for number, space in enumerate(found):
        share(number / (len(found) + 1))
        yield from distances_between(space(fresh.x), space(x), space(real.x), space.name)
        if space.classes and told is not None and told.ndim == 1 and fresh.told is not None:
            yield _accuracy(space, (x, told), (fresh.x, fresh.told))
    share(len(found) / (len(found) + 1))
    yield forest_between(*(rows.flatten(1).double().numpy() for rows in (fresh.x, x, real.x)), seed=seed)


def _accuracy(space: Features, drawn: tuple[Tensor, Tensor], real: tuple[Tensor, Tensor]) -> Measure:
    """How often a classifier sees in a sample the class that was asked for; its floor are unseen real rows."""
    hits = []
    for x, wanted in (drawn, real):
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
    return {"name": spec.name, "shape": list(spec.shape), "kind": spec.kind, "levels": spec.levels,
            "classes": list(spec.classes), "conditions": list(spec.conditions), "training": len(training),
            "held_out": len(unseen), "held_out_name": unseen.spec.name, "held_out_sha256": unseen.digest()}


def _of_model(model: Denoiser, facts: dict[str, Any] | None) -> dict[str, Any]:
    network = getattr(model, "network", None)
    own: dict[str, Any] = {"denoiser": type(model).__name__, "schedule": type(model.schedule).__name__}
    if network is not None:
        own |= {"network": type(network).__name__, "weights": sum(value.numel() for value in network.parameters()),
                "predicts": getattr(model, "predicts", None), "precision": getattr(model, "precision", None)}
    return own | dict(getattr(model, "metrics", {})) | (facts or {})


def _pictures(report: Report, x: Tensor, told: Tensor | None, training: Dataset, unseen: Dataset, seed: int) -> None:
    """The images that the page shows: samples beside unseen rows of the same classes, and the nearest pairs."""
    spec = training.spec
    fresh = Rows.of(unseen, SHOWN, seed)
    some = min(SHOWN, len(fresh))
    labels = told if told is not None and told.ndim == 1 and spec.classes else None
    for name, rows, classes in (("samples", x, labels), ("real", fresh.x, fresh.told if labels is not None else None)):
        report.pictures[name] = show(spec, rows[:some], 8, None if classes is None else classes[:some])
    if report.memorisation is None or spec.kind != "picture":
        return
    for number, pair in enumerate(report.memorisation.pairs):
        both = torch.cat([x[pair.sample][None], training.batch([pair.training])[0]])
        for kind, pixels in zip(("sample", "training"), picture(spec, both), strict=True):
            report.pictures[f"pair-{number}-{kind}"] = Image.fromarray(pixels)
