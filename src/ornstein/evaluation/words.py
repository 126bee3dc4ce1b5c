"""What a report's figures may be said to mean: nothing that the samples themselves could contradict."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from ornstein.evaluation.ranking import (
    FEW,
    OVERLAP,
    differs,
    estimate,
    floor_of,
    of_likelihoods,
    of_measures,
    same_data,
    shown,
    weak,
)
from ornstein.evaluation.report import Likelihood, Measure, Report
from ornstein.figures.chart import number

__all__ = ["WHAT", "Side", "against_each_other", "against_floor", "better_likelihood", "finding", "half", "is_own",
           "lead", "rank", "unlike"]

UNLIKE = 0.75  # area under the curve, above which samples are so unlike real data that they could hardly be copies
NAMED = 3  # measures that a sentence names
WHAT = {
    "frechet": "How far apart the two sets are in their means and spreads. Zero is no distance at all.",
    "kernel": "How far apart the two sets are in all their moments up to the third. Zero is no distance at all.",
    "precision": "The share of the samples that lie among real data: no farther from one of them than its fifth "
                 "neighbour. Blurred and average samples lie there too, so a high share does not say that they look "
                 "right.",
    "recall": "The share of the real data that lie among samples: how much of the variety they reach. Samples that are "
              "spread too widely reach it too.",
    "density": "How crowded with real data the places of the samples are; about 1 among real data. Average samples lie "
               "where it is most crowded, so more is not better.",
    "coverage": "The share of the real data with a sample in their neighbourhood: how much is not left out.",
    "auc": "How well a classifier learns to tell samples from training data, or, for the floor, unseen data from them: "
           "0.5 is a guess, 1 is never wrong. Below 0.5 samples lie too near to single training rows.",
    "accuracy": "The share of the samples that are recognised as the class that was asked for.",
}
# Figures that are better than those of real data are no praise.
BEYOND = {
    "precision": ": samples that keep to the usual, often at the cost of variety",
    "density": ": samples that keep to the usual, often at the cost of variety",
    "recall": ": samples that are more spread than real data are",
    "coverage": ": samples that are more spread than real data are",
}


@dataclass(frozen=True)
class Side:
    """A report and how the page calls it: no letter where it is alone, else A or B."""

    letter: str
    tone: str
    report: Report

    @property
    def things(self) -> str:
        """What the data are called."""
        return "pictures" if self.report.data.get("kind") == "picture" else "samples"


def against_floor(side: Side, measure: Measure) -> tuple[str, str]:
    """How a measure's verdict is drawn, and what may be said of it: never that samples are like real data."""
    if (floor := floor_of(measure)) is None:
        return "", ""
    different = differs(measure)
    if different:
        return "far", f"a real difference from real {side.things}" + BEYOND.get(
            measure.key, "") * (abs(estimate(measure) - measure.best) < abs(estimate(floor) - measure.best))
    if different is None:
        return "same", "not compared: there are too few rows to take the bias out of both"
    if shown(side.report):
        return "same", "this figure does not see the difference that others show"
    if weak(side.report):
        return "same", f"too few {side.things} to show a difference"
    return "same", f"no difference from real {side.things} shown"


def against_each_other(sides: Sequence[Side], found: Sequence[tuple[Side, Measure]]) -> tuple[str, str]:
    """How the verdict of two is drawn, and its words."""
    if len(found) < 2:
        return "", f"only {found[0][0].letter} has it"
    (_, one), (_, other) = found
    who, words = of_measures(one, other, alike(sides))
    if words == OVERLAP and min(one.real, one.generated, other.real, other.generated) < FEW:
        words = f"{OVERLAP} by so few"
    return who.lower() if who else "" if words.startswith("not ranked") else "same", words


def alike(sides: Sequence[Side]) -> bool:
    """Whether all sides were judged by the same unseen rows."""
    return len(sides) < 2 or same_data(sides[0].report, sides[1].report)


def unlike(report: Report) -> bool:
    """Whether samples are so unlike real data that finding no copies says little."""
    return any(one.key == "auc" and one.low > UNLIKE for one in report.measures)


def finding(side: Side) -> Markup | None:
    """Whether the samples were told from real data, and by what; None where nothing was measured."""
    measures, told = side.report.measures, shown(side.report)
    if not measures:
        return None
    main = next((one for one in measures if one.key == "auc"), measures[0])
    if main in told:
        if main.key == "auc":
            return Markup("samples are told from real {} with AUC {}").format(side.things, _figure(main))
        return Markup("samples differ from real {}: {} {}").format(side.things, main.name, _figure(main))
    by = Markup("{} {}").format("AUC" if main.key == "auc" else main.name, _figure(main))
    if told:
        names = list(dict.fromkeys(one.name for one in told))
        more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
        return Markup("samples differ from real {} by {}{}, though not by {}").format(
            side.things, ", ".join(names[:NAMED]), more, by)
    if not any(differs(one) is False for one in measures):
        return Markup("nothing tells whether samples differ from real {}: {}").format(side.things, by)
    if weak(side.report):
        return Markup("with so few {} only coarse differences can be seen: none was, which does not make the samples "
                      "like real ones ({})").format(side.things, by)
    return Markup("no figure tells the samples from real {}, which does not prove them alike ({})").format(
        side.things, by)


def lead(side: Side) -> Markup:
    """What was found, as one sentence of the figures."""
    parts, report = [], side.report
    if (found := finding(side)) is not None:
        parts.append(found)
    if copies := report.memorisation:
        parts.append(Markup("<b>evidence of copying</b>, to be looked at below") if copies.copies
                     else Markup("no evidence of copying"))
    if own := next((one for one in report.likelihood if is_own(one)), None):
        value, error, unit = ((own.bits, own.bits_error, "bits a value") if own.bits is not None
                              else (own.nats, own.error, "nats a sample"))
        side_of = "" if own.key == "ode" else " at least" if own.bits is None else " at most"
        parts.append(Markup("<b>{}</b> {}{}").format(_plus_minus(value, error), unit, side_of))
    if not parts:
        return Markup("Nothing was measured.")
    text = Markup("; ").join(parts)
    return Markup("{}{}.").format(text[:1].upper(), text[1:]) if not text.startswith("<") else text + "."


def rank(sides: Sequence[Side], verdicts: Sequence[str]) -> str:
    """Who is better at how much, of two, from how the verdicts are drawn."""
    count = {word: verdicts.count(word) for word in ("a", "b", "same")}
    compared = sum(count.values())
    if not compared:
        return "Nothing can be ranked."
    if not count["a"] + count["b"]:
        few = any(weak(side.report) for side in sides)
        return f"No difference is shown on any of {compared} measures." + (
            f" With so few {sides[0].things} only coarse ones can be seen." if few else "")
    return (f"Of {compared} measures A is better on {count['a']} and B on {count['b']}; "
            f"on {count['same']} no difference is shown.")


def better_likelihood(sides: Sequence[Side]) -> Iterator[str]:
    """Of two, what may be said about each likelihood that they both have."""
    keys = dict.fromkeys(found.key for side in sides for found in side.report.likelihood if is_own(found))
    for key in keys if len(sides) == 2 else ():
        one, other = (next((found for found in side.report.likelihood if found.key == key), None) for side in sides)
        if one is not None and other is not None:
            yield f"{one.name}: {of_likelihoods(one, other, alike(sides))[1]}."


def is_own(one: Likelihood) -> bool:
    """Whether a likelihood is the model's, and not that of a Gaussian beside it."""
    return not one.key.startswith("gaussian")


def half(measure: Measure) -> float:
    """Half the width of an interval, by which digits are shown."""
    return (measure.high - measure.low) / 2


def _figure(measure: Measure) -> Markup:
    """A figure with its interval and its floor."""
    low, high = (number(end, half(measure)) for end in (measure.low, measure.high))
    text = Markup("<b>{} [{}, {}]</b>").format(number(estimate(measure), half(measure)), low, high)
    if (floor := floor_of(measure)) is None:
        return text
    if (measure.limit is None) == (floor.limit is None):
        return text + f" where real ones score {number(estimate(floor), half(floor))}"
    return text + f" where real ones score in [{number(floor.low, half(floor))}, {number(floor.high, half(floor))}]"


def _plus_minus(value: float, error: float | None) -> str:
    return number(value, error) + (f" ± {number(error, error)}" if error else "")
