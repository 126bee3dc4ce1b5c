"""What may be said of two models side by side: which is better, only where that is more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from statistics import stdev

from ornstein.evaluation.report import Likelihood, Measure, Report
from ornstein.figures.chart import NORMAL

__all__ = ["disjoint", "estimate", "of_likelihoods", "of_measures", "same_data", "verdicts"]

OVERLAP = "no difference shown"


def disjoint(one: Measure, other: Measure) -> bool:
    """Whether two intervals have nothing in common."""
    return math.isfinite(one.low + other.low) and (one.high < other.low or other.high < one.low)


def estimate(measure: Measure) -> float:
    """What a measure's interval belongs to: its limit where it has one, else its value."""
    return measure.value if measure.limit is None else measure.limit


def same_data(one: Report, other: Report) -> bool:
    """Whether two models were judged by the same unseen rows."""
    return all(one.data.get(name) == other.data.get(name) for name in ("shape", "held_out", "held_out_sha256"))


def of_measures(one: Measure, other: Measure, same: bool = True) -> tuple[str | None, str]:
    """Which of two is better, "A", "B" or None, and why not or that.

    Better is nearer to what indistinguishable data would score, for the same unseen data, and for as many samples
    unless both have a limit, which does not depend on their number.
    """
    if not same:
        return None, "not ranked: other data"
    counts = (one.real, one.generated) != (other.real, other.generated)
    if counts and (one.limit is None or other.limit is None):
        return None, "not ranked: other counts"
    mine, theirs = _gap(one), _gap(other)
    if mine[0] <= theirs[1] and theirs[0] <= mine[1]:
        return None, OVERLAP
    return ("A", "A is better") if mine < theirs else ("B", "B is better")


def _gap(measure: Measure) -> tuple[float, float]:
    """The interval of the distance from the best score: of two AUC on either side of 0.5 the nearer one is better."""
    ends = sorted(abs(end - measure.best) for end in (measure.low, measure.high))
    return (0.0 if measure.low <= measure.best <= measure.high else ends[0]), ends[1]


def of_likelihoods(one: Likelihood, other: Likelihood, same: bool = True) -> tuple[str | None, str]:
    """Which of two likelihoods is higher, on the same rows and the same grid, and why not or that.

    Some rows are unlikely under every model, so where each row's likelihood is known the rows' differences are judged:
    their mean against its own standard error.
    """
    if not same or (one.grid, one.count) != (other.grid, other.count):
        return None, "not ranked: other data or another grid"
    error = one.error + other.error
    if one.each and len(one.each) == len(other.each):
        apart = [mine - theirs for mine, theirs in zip(one.each, other.each, strict=True)]
        error = stdev(apart) / math.sqrt(len(apart))
    if not abs(one.nats - other.nats) > NORMAL * error:
        return None, OVERLAP
    return ("A", "A is better") if one.nats > other.nats else ("B", "B is better")


def verdicts(a: Report, b: Report) -> Iterator[tuple[str, str | None, str]]:
    """(name, "A", "B" or None, in words) for each figure that both reports have."""
    same = same_data(a, b)
    for one in a.measures:
        for other in b.measures:
            if (one.key, one.features) == (other.key, other.features):
                name = f"{one.name} ({one.features})" if one.features else one.name
                yield name, *of_measures(one, other, same)
    for mine in a.likelihood:
        for theirs in b.likelihood:
            if mine.key == theirs.key and not mine.key.startswith("gaussian"):
                yield mine.name, *of_likelihoods(mine, theirs, same)
