"""What the figures show: of one model against real data, and of two side by side, only where it is more than chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

from markupsafe import Markup

from ornstein.evaluation.results import NORMAL, Likelihood, Measure
from ornstein.figures.chart import number

__all__ = ["COARSE", "OVERLAP", "figure", "finding", "of_likelihoods", "of_measures", "shown", "weak"]

OVERLAP = "no difference shown"
COARSE = 150  # rows of a side, below which only coarse differences can be shown
NAMED = 3  # measures that a sentence names


def shown(measures: Sequence[Measure]) -> list[Measure]:
    """Those that show the samples to differ from real data."""
    return [one for one in measures if one.differs]


def weak(measures: Sequence[Measure]) -> bool:
    """Whether so few rows were compared that only coarse differences can be shown."""
    return min((min(one.real, one.generated) for one in measures), default=0) < COARSE


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
    """Which of two likelihoods is higher, "A", "B" or None, on the same rows and grid, and why: where each row's
    likelihood is known by the mean of the rows' differences, since some rows are unlikely under every model."""
    if not same or (one.grid, one.count) != (other.grid, other.count):
        return None, "not ranked: other data or another grid"
    error = one.error + other.error
    if one.each and len(one.each) == len(other.each):
        apart = [mine - theirs for mine, theirs in zip(one.each, other.each, strict=True)]
        error = stdev(apart) / math.sqrt(len(apart))
    if not abs(one.nats - other.nats) > NORMAL * error:
        return None, OVERLAP
    return ("A", "A is better") if one.nats > other.nats else ("B", "B is better")


def finding(measures: Sequence[Measure], things: str) -> Markup | None:
    """Whether samples were told from real `things`, and by what; None where nothing was measured."""
    if not measures:
        return None
    main, telling = next((one for one in measures if one.key == "auc"), measures[0]), shown(measures)
    if main in telling:
        if main.key == "auc":
            return Markup("samples are told from real {} with AUC {}").format(things, figure(main))
        return Markup("samples differ from real {}: {} {}").format(things, main.name, figure(main))
    by = Markup("{} {}").format("AUC" if main.key == "auc" else main.name, figure(main))
    if telling:
        names = list(dict.fromkeys(one.name for one in telling))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return Markup("samples differ from real {}: shown by “{}”{}, but not by {}").format(
            things, "”, “".join(names[:NAMED]), more, by)
    if not any(one.differs is False for one in measures):
        return Markup("nothing tells whether samples differ from real {}: {}").format(things, by)
    if weak(measures):
        return Markup("with so few {} only coarse differences can be seen: none was, which does not make the samples "
                      "like real ones ({})").format(things, by)
    return Markup("no figure tells the samples from real {}, which does not prove them alike ({})").format(things, by)


def figure(measure: Measure) -> Markup:
    """A figure with its interval and its floor."""
    text = Markup("<b>{}</b>").format(measure.found)
    if (floor := measure.floor) is None:
        return text
    if measure.comparable:
        return text + f" where real ones score {number(floor.estimate, floor.half)}"
    return text + f" where real ones score in {floor.ends}"
