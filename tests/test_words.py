"""What a report says of samples: nothing that they contradict, and of real data no more often than stated that they are
not real."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import ornstein as orn
from ornstein.evaluation.classifier import forest_auc_interval
from ornstein.evaluation.features import features
from ornstein.evaluation.page import render
from ornstein.evaluation.pieces import Pieces, PieceStore
from ornstein.evaluation.preparation import Rows, split_off
from ornstein.evaluation.ranking import differing, too_few_rows
from ornstein.evaluation.reference import Reference
from ornstein.evaluation.report import Report
from ornstein.evaluation.report_files import lines

PRAISE = ("no difference from real", "no figure tells", "look real", "only slightly more often")


def shapes(count: int, seed: int) -> np.ndarray:
    """Colour pictures of 12 x 12: a disc or a bar with sharp edges on a plain ground, and some grain."""
    draw = np.random.default_rng(seed)
    y, x = np.mgrid[:12, :12]
    place, radius = draw.uniform(2, 9, (2, count, 1, 1)), draw.uniform(1.5, 4, (count, 1, 1))
    disc = ((y - place[0]) ** 2 + (x - place[1]) ** 2 < radius**2)
    bar = np.abs(y - place[0] + draw.uniform(-1, 1, (count, 1, 1)) * (x - place[1])) < radius / 2
    inside = np.where(draw.random((count, 1, 1)) < 0.5, disc, bar)[:, None]
    colours = draw.uniform(20, 235, (2, count, 3, 1, 1))
    return (np.where(inside, *colours) + draw.normal(0, 4, (count, 3, 12, 12))).clip(0, 255).astype(np.uint8)


def digits(count: int, seed: int) -> np.ndarray:
    return np.asarray(orn.load_data("digits").values)[np.random.default_rng(seed).permutation(1797)[:count]]


def traces(count: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    waves = np.sin(draw.uniform(0, 6.28, (count, 2, 1)) + np.arange(48) * draw.uniform(0.1, 0.5, (count, 1, 1)))
    return waves * draw.uniform(0.5, 1, (count, 2, 1)) + draw.normal(0, 0.05, waves.shape)


def vectors(count: int, seed: int) -> np.ndarray:
    draw = np.random.default_rng(seed)
    return np.random.default_rng(0).normal(0, 1, (5, 6))[draw.integers(0, 5, count)] + draw.normal(0, 0.1, (count, 6))


def blurred(x: torch.Tensor) -> torch.Tensor:
    """Without its details: means over a few places; of vectors, drawn halfway to the mean of all."""
    if x.ndim == 2:
        return (x + x.mean(0)) / 2
    few = (F.adaptive_avg_pool1d, F.adaptive_avg_pool2d)[x.ndim - 3](x, 4)
    return F.interpolate(few, size=x.shape[2:], mode=("linear", "bilinear")[x.ndim - 3], align_corners=False)


KINDS = {"digits": digits, "shapes": shapes, "traces": traces, "vectors": vectors}
BLOTCHES = {
    "blurred": blurred,
    "mean": lambda x: x.mean(0, keepdim=True).expand_as(x),
    "averages": lambda x: (x + x.roll(1, 0) + x.roll(2, 0)) / 3,
}


def judged(kind: str, held: int, blotches: str = "", seed: int = 0, spaces: tuple[str, ...] = ("pixels",)) -> Report:
    """A report's distances for real data in place of samples, two thirds of them replaced by blotches if named."""
    training = min(9 * held, 1000)
    count = min(600, 1797 - held - training) if kind == "digits" else 600
    values = KINDS[kind](held + training + count, seed)
    data = orn.load_data(values[:held + training])
    seen, unseen = split_off(data, np.arange(len(data)) < held)
    fit, apart = split_off(seen, np.arange(len(seen)) < len(seen) // 4)
    x = data.spec.encode(values[held + training:])
    if blotches:
        some = 2 * count // 3
        noise = 0.05 * torch.randn(x[:some].shape, generator=torch.Generator().manual_seed(seed))
        x[:some] = (BLOTCHES[blotches](x[:some]) + noise).clamp(-1, 1)
        x = x if data.spec.levels is None else data.spec.encode(data.spec.decode(x))
        x = x[np.random.default_rng(seed).permutation(count)]
    real, other, fresh = (Rows.of(part, 2000, seed) for part in (seen, apart, unseen))
    reference = Reference(real.x, other, fresh, count, seed)
    reference.spaces = [features(space, fit, seed=seed, components=max(4, min(64, min(held, len(apart)) // 4)))
                       for space in spaces]
    works = len(spaces) + len(reference.forest_inputs)
    pieces, shares = Pieces(PieceStore(), lambda *_: None, lambda: 0.0), [1 / works] * works
    reference.measure_floors(pieces, shares)
    return Report(kind, "2026", "0", {"kind": data.spec.kind, "held_out": held}, {}, {"count": count},
                  reference.measure(pieces, x, None, shares))


FAST = [("vectors", 160, "averages")]
ALL = [(kind, held, how) for kind in KINDS for held in (30, 60, 149, 160, 400) for how in BLOTCHES]


@pytest.mark.parametrize(("kind", "held", "how"), [
    *FAST, *(pytest.param(*case, marks=pytest.mark.slow) for case in ALL if case not in FAST)])
def test_of_blotches_no_sentence_says_that_they_are_like_real_data(kind, held, how, monkeypatch):
    """Two thirds of the samples are blotches: a difference is shown, or the rows are said to be too few to show one."""
    if (kind, held, how) in FAST:
        monkeypatch.setitem(forest_auc_interval.__kwdefaults__, "trees", 20)
    report = judged(kind, held, how)
    assert differing(report.measures) or too_few_rows(report.measures)
    for text in ("\n".join(lines([report])), render([report])):
        assert not any(words in text.lower() for words in PRAISE)
    if held >= 150:
        assert f"a difference from real {report.things} is shown" in render([report]).lower()


@pytest.mark.parametrize(("kind", "held", "times", "most"), [
    (kind, held, 40, 5) for kind in KINDS if kind != "digits" for held in (40, 160)])
@pytest.mark.slow
def test_real_data_are_seldom_told_from_real_data(kind, held, times, most):
    """At a chance of one in twenty, more than 5 of 40 happen one time in 70."""
    assert sum(bool(differing(judged(kind, held, seed=seed).measures)) for seed in range(times)) <= most
