"""What the figures show: of one model against real data, and of two side by side, only where it is more than chance."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from statistics import stdev

from ornstein.evaluation.report import Likelihood, Measure, Report
from ornstein.figures.chart import NORMAL

__all__ = ["FEW", "differs", "disjoint", "estimate", "floor_of", "of_likelihoods", "of_measures", "same_data", "shown",
           "verdicts", "weak"]

OVERLAP = "no difference shown"
FEW = 150  # rows of a side, below which only coarse differences can be shown


def disjoint(one: Measure, other: Measure) -> bool:
    """Whether two intervals have nothing in common."""
    return math.isfinite(one.low + other.low) and (one.high < other.low or other.high < one.low)


def estimate(measure: Measure) -> float:
    """What a measure's interval belongs to: its limit where it has one, else its value."""
    return measure.value if measure.limit is None else measure.limit


def floor_of(measure: Measure) -> Measure | None:
    """The floor as a measure of its own; None without."""
    if measure.floor is None or measure.floor_low is None or measure.floor_high is None:
        return None
    return replace(measure, value=measure.floor, limit=measure.floor_limit, low=measure.floor_low,
                   high=measure.floor_high)


def differs(measure: Measure) -> bool | None:
    """Whether a measure shows samples to differ from real data; None where the two cannot be compared."""
    floor = floor_of(measure)
    if floor is None or (measure.limit is None) != (floor.limit is None):
        return None
    return disjoint(measure, floor)


def shown(report: Report) -> list[Measure]:
    """The measures that show the samples to differ from real data."""
    return [one for one in report.measures if differs(one)]


def weak(report: Report) -> bool:
    """Whether so few rows were compared that only coarse differences can be shown."""
    return min((min(one.real, one.generated) for one in report.measures), default=0) < FEW


def same_data(one: Report, other: Report) -> bool:
    """Whether two models were judged by the same unseen rows."""
    return all(one.data.get(name) == other.data.get(name) for name in ("shape", "held_out", "held_out_sha256"))


def of_measures(one: Measure, other: Measure, same: bool = True) -> tuple[str | None, str]:
    """Which of two is better, "A", "B" or None, and why: nearer to the best score on the same unseen data, and at the
    same numbers of samples unless both have a limit, which does not depend on them."""
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
    """Which of two likelihoods is higher, "A", "B" or None, on the same rows and grid, and why.

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
