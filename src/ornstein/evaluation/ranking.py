"""What figures show, of one model against real data or of two models: only differences beyond chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import stdev

from markupsafe import Markup

from ornstein.evaluation.results import NORMAL, Likelihood, Measure
from ornstein.figures.chart import number

__all__ = ["ENOUGH_ROWS", "NO_DIFFERENCE", "compare_likelihoods", "compare_measures", "differing", "finding",
           "too_few_rows"]

NO_DIFFERENCE = "no difference shown"
ENOUGH_ROWS = 150  # of a side; with fewer, only coarse differences can be shown
NAMED = 3  # measures that a sentence names


def differing(measures: Sequence[Measure]) -> list[Measure]:
    """The measures by which samples are shown to differ from real data."""
    return [measure for measure in measures if measure.differs]


def too_few_rows(measures: Sequence[Measure]) -> bool:
    """Whether so few rows were compared that only coarse differences can be shown."""
    return min((min(measure.real, measure.generated) for measure in measures), default=0) < ENOUGH_ROWS


def compare_measures(a: Measure, b: Measure, same_data: bool = True) -> tuple[str | None, str]:
    """Which of two measures is better, "A", "B" or None, and why.

    They must be of the same unseen data, and of the same numbers of samples unless both have a limit, which does not
    depend on them. The better one is nearer to the best score.
    """
    if not same_data:
        return None, "not ranked: other data"
    if (a.real, a.generated) != (b.real, b.generated) and (a.limit is None or b.limit is None):
        return None, "not ranked: other counts"
    gap_a, gap_b = _gap(a), _gap(b)
    if gap_a[0] <= gap_b[1] and gap_b[0] <= gap_a[1]:
        return None, NO_DIFFERENCE
    return ("A", "A is better") if gap_a < gap_b else ("B", "B is better")


def _gap(measure: Measure) -> tuple[float, float]:
    """The interval of the distance from the best score; of two AUCs on either side of 0.5 the nearer one is better."""
    ends = sorted(abs(end - measure.best) for end in (measure.low, measure.high))
    return (0.0 if measure.low <= measure.best <= measure.high else ends[0]), ends[1]


def compare_likelihoods(a: Likelihood, b: Likelihood, same_data: bool = True,
                        letters: tuple[str, str] = ("A", "B")) -> tuple[str | None, str]:
    """Which of two likelihoods of the same rows and grid is higher, by its letter or None, and why.

    Where the likelihood of each row is known, the mean of their differences counts, since some rows are unlikely under
    every model.
    """
    if not same_data or (a.grid, a.count) != (b.grid, b.count):
        return None, "not ranked: other data or another grid"
    error = a.error + b.error
    if a.each and len(a.each) == len(b.each):
        differences = [nats_a - nats_b for nats_a, nats_b in zip(a.each, b.each, strict=True)]
        error = stdev(differences) / math.sqrt(len(differences))
    if not abs(a.nats - b.nats) > NORMAL * error:
        return None, NO_DIFFERENCE
    better = letters[0] if a.nats > b.nats else letters[1]
    return better, f"{better} is better"


def finding(measures: Sequence[Measure], things: str) -> Markup | None:
    """Whether samples differ from real `things`, and by which figures; None where nothing was measured."""
    if not measures:
        return None
    main = next((measure for measure in measures if measure.key == "auc"), measures[0])
    showing = differing(measures)
    if main in showing:
        if main.key == "auc":
            return Markup("a classifier tells samples from real {} with AUC {}").format(things, _figure(main))
        return Markup("samples differ from real {}: {} {}").format(things, main.name, _figure(main))
    figure = Markup("{} {}").format("AUC" if main.key == "auc" else main.name, _figure(main))
    if showing:
        names = list(dict.fromkeys(measure.name for measure in showing))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return Markup("samples differ from real {}: shown by “{}”{}, but not by {}").format(
            things, "”, “".join(names[:NAMED]), more, figure)
    if not any(measure.differs is False for measure in measures):
        return Markup("no figure can tell whether samples differ from real {}: {}").format(things, figure)
    if too_few_rows(measures):
        return Markup("with so few {} only coarse differences can be seen; none was, but that does not show the "
                      "samples to be like real ones ({})").format(things, figure)
    return Markup("no figure tells the samples from real {}, which does not prove that they are alike ({})").format(
        things, figure)


def _figure(measure: Measure) -> Markup:
    """A figure with its interval and its floor."""
    text = Markup("<b>{}</b>").format(measure.found)
    if (floor := measure.floor) is None:
        return text
    if measure.comparable:
        return text + f" where real ones score {number(floor.estimate, floor.half)}"
    return text + f" where real ones score in {floor.ends}"
