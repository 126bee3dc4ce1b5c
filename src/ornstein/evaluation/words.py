"""What a report's figures may be said to mean: nothing that the samples themselves could contradict."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ornstein.evaluation.ranking import COARSE, OVERLAP, finding, of_likelihoods, of_measures, shown, weak
from ornstein.evaluation.report import Report
from ornstein.evaluation.results import Measure
from ornstein.figures.chart import number

__all__ = ["LETTERS", "LIKELIHOODS", "WHAT", "Side", "advice", "against_each_other", "against_floor",
           "better_likelihood", "lead", "rank", "unlike", "verdicts"]

LETTERS = "ABCDEF"  # that reports are called by
GAP = 0.1  # of the held-out loss, that the training loss is below it where a model has begun to memorize
LONGER = 3  # times the budget again, from the weights that are there
UNLIKE = 0.75  # area under the curve, above which samples are so unlike real data that they could hardly be copies
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
    "auc": "How well a classifier learns to tell samples from {known} data, or, for the floor, unseen data from them: "
           "0.5 is a guess, 1 is never wrong. Below 0.5 samples lie too near to single {known} rows.",
    "texture": "As the figure above, by roughness alone: how much neighbouring values differ, at several scales. It "
               "sees grain and blur that a classifier of single values misses.",
    "accuracy": "The share of the samples that are recognised as the class that was asked for.",
}
LIKELIHOODS = {
    "bound": "At least how likely unseen data are, by infinitely many steps.",
    "chain": "The same by a chain of so many steps, which is what a sampler walks.",
    "bound-dequantised": "The same of data between the levels, to be compared with a flow.",
    "ode": "How likely unseen data are by the deterministic path from noise to data.",
    "gaussian": "What the simplest model of such data reaches: their mean and covariance.",
    "gaussian-class": "The same with a mean and a covariance for each class.",
}
# Figures that are better than those of real data are no praise.
BEYOND = dict.fromkeys(("precision", "density"), ": samples that keep to the usual, often at the cost of variety") | (
    dict.fromkeys(("recall", "coverage"), ": samples that are more spread than real data are"))


@dataclass(frozen=True)
class Side:
    """A report and how the page calls it: no letter where it is alone, else A, B ..."""

    letter: str
    tone: str
    report: Report


def against_floor(report: Report, measure: Measure) -> tuple[str, str]:
    """How a measure's verdict is drawn, and what may be said of it: never that samples are like real data."""
    things, differs, floor = report.things, measure.differs, measure.floor
    if floor is None:
        return "", ""
    if differs:
        beyond = abs(measure.found.estimate - measure.best) < abs(floor.estimate - measure.best)
        return "far", f"a real difference from real {things}" + BEYOND.get(measure.key, "") * beyond
    if differs is None:
        return "same", "not compared: there are too few rows to take the bias out of both"
    if shown(report.measures):
        return "same", "this figure does not see the difference that others show"
    if weak(report.measures):
        return "same", f"too few {things} to show a difference"
    return "same", f"no difference from real {things} shown"


def against_each_other(measured: Sequence[tuple[Side, Measure]]) -> tuple[str, str]:
    """How the verdict of several is drawn, and its words."""
    if len(measured) < 2:
        return "", f"only {measured[0][0].letter} has it"
    who, words = _ranked([(side.letter, side.report, one) for side, one in measured])
    if words == OVERLAP and min(min(one.real, one.generated) for _, one in measured) < COARSE:
        words = f"{OVERLAP} by so few"
    return (who.lower() if who else "same" if words.startswith(OVERLAP) else "" if words.startswith("not ranked") else
            "some"), words


def _ranked(measured: Sequence[tuple[str, Report, Measure]]) -> tuple[str | None, str]:
    """Which of several sets is better than all others by a figure, None if none is; and which are better than which, as
    far as it is shown."""
    pairs = {(a, b): of_measures(one, other, report.same_data(beside))
             for place, (a, report, one) in enumerate(measured) for b, beside, other in measured[place + 1:]}
    if len(pairs) == 1:
        who, words = next(iter(pairs.values()))
        letter = {"A": measured[0][0], "B": measured[1][0]}.get(who or "")
        return letter, words if letter is None else f"{letter} is better"
    beaten: dict[str, list[str]] = {letter: [] for letter, *_ in measured}
    for (a, b), (who, _) in pairs.items():
        if who:
            beaten[a if who == "A" else b].append(b if who == "A" else a)
    alike: dict[tuple[str, ...], list[str]] = {}
    for letter, others in beaten.items():
        if others:
            alike.setdefault(tuple(others), []).append(letter)
    if not alike:
        refused = [words for _, words in pairs.values() if words != OVERLAP]
        return None, refused[0] if len(refused) == len(pairs) else OVERLAP
    words = "; ".join(f"{_listed(better)} {'is' if len(better) == 1 else 'are'} better than {_listed(others)}"
                      for others, better in sorted(alike.items(), key=lambda one: -len(one[0])))
    return next((letter for letter, others in beaten.items() if len(others) == len(measured) - 1), None), words


def _listed(letters: Sequence[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return " and ".join(filter(None, [", ".join(letters[:-1]), letters[-1]]))


def unlike(report: Report) -> bool:
    """Whether samples are so unlike real data that finding no copies says little."""
    return any(one.key in ("auc", "texture") and one.low > UNLIKE for one in report.measures)


def lead(report: Report) -> Markup:
    """What was found, as one sentence of figures."""
    parts = []
    if (found := finding(report.measures, report.things)) is not None:
        parts.append(found)
    if copies := report.memorisation:
        parts.append(Markup("<b>evidence of copying</b>") if copies.copies
                     else Markup("no evidence of copying"))
    if like := next((one for one in report.likelihood if one.of_model), None):
        value, error, unit = ((like.bits, like.bits_error, "bits a value") if like.bits is not None
                              else (like.nats, like.error, "nats a sample"))
        bound = "" if like.key == "ode" else " at least" if like.bits is None else " at most"
        known = f" ± {number(error, error)}" if error else ""
        parts.append(Markup("<b>{}{}</b> {}{}").format(number(value, error), known, unit, bound))
    if not parts:
        return Markup("Nothing was measured.")
    text = Markup("; ").join(parts)
    return Markup("{}{}.").format(text[:1].upper(), text[1:]) if not text.startswith("<") else text + "."


def rank(sides: Sequence[Side], verdicts: Sequence[str]) -> str:
    """Who is better at how much, from how the verdicts are drawn."""
    count = {word: verdicts.count(word) for word in (*map(str.lower, LETTERS), "same", "some")}
    compared = sum(count.values())
    if not compared:
        return "Nothing can be ranked."
    if compared == count["same"]:
        few = any(weak(side.report.measures) for side in sides)
        return f"No difference is shown on any of {compared} measures." + (
            f" With so few {sides[0].report.things} only coarse ones can be seen." if few else "")
    if len(sides) > 2:
        best = [f"{side.letter} is the best on {count[side.letter.lower()]}" for side in sides
                if count[side.letter.lower()]]
        some = [f"on {count['some']} only some sets are told apart"] if count["some"] else []
        none = [f"on {count['same']} no difference is shown"] if count["same"] else []
        return f"Of {compared} measures {_listed([*best, *some, *none])}."
    a, b, things = count["a"], count["b"], sides[0].report.things
    first = f"A draws better {things}" if not b else f"B draws better {things}" if not a else (
        f"The {things} of A are better in some respects, those of B in others")
    return (f"{first}. Of {compared} measures A is better on {count['a']} and B on {count['b']}; "
            f"on {count['same']} no difference is shown.")


def better_likelihood(a: Report, *others: Report) -> Iterator[tuple[str, str | None, str]]:
    """(name, "A", "B" or None, in words) for each likelihood of a model that another report has too."""
    for one in a.likelihood:
        for b in others if one.of_model else ():
            yield from ((one.name, *of_likelihoods(one, other, a.same_data(b)))
                        for other in b.likelihood if other.key == one.key)


def verdicts(*reports: Report) -> Iterator[tuple[str, str | None, str]]:
    """(name, the letter of the best or None, in words) for each figure that all the reports have."""
    for one in reports[0].measures:
        same = [[other for other in report.measures if (one.key, one.features) == (other.key, other.features)]
                for report in reports]
        if all(same):
            name = f"{one.name} ({one.features})" if one.features else one.name
            yield name, *_ranked([(letter, report, found[0])
                                  for letter, report, found in zip(LETTERS, reports, same, strict=False)])
    yield from better_likelihood(*reports)


def advice(report: Report) -> tuple[str, str] | None:
    """What would help most, and the command for it; None for a model that is not a run's."""
    settings, run = report.model.get("settings"), report.model.get("run")
    if not isinstance(settings, dict) or not run:
        return None
    again = f"ornstein train --config {shlex.quote(f'{run}/run.yaml')}"
    held, gap, things = report.model.get("held_out"), report.model.get("gap"), report.things
    copies = report.memorisation is not None and report.memorisation.copies
    if copies or (held and gap and gap > GAP * held):
        why = (f"more {things} to learn from: it has begun to memorize the {report.data['training']:,} that it has, "
               "and a longer training would make that worse")
        turned = report.data.get("kind") == "picture" and settings.get("mirror") is False
        return ((f"{why}. Without more, flip them, if they may be flipped", f"{again} --set mirror=true --out "
                 f"{shlex.quote(f'{run}-mirrored')}") if turned else
                (f"{why}. Without more, train for less long", f"{again} {_budget(settings, 0.5)} --out "
                 f"{shlex.quote(f'{run}-shorter')}"))
    differs = bool(shown(report.measures))
    if differs and report.drawn.get("guidance") not in (None, 1):
        return ("no guidance: it trades variety for clarity", f"ornstein evaluate {shlex.quote(run)} --out "
                f"{shlex.quote(f'{run}-report-without-guidance')}")
    if differs:
        return (f"a longer training: on new {things} the model does nearly as well as on those that it was trained on, "
                "so there is more to learn", f"ornstein train --from {shlex.quote(run)} "
                f"{_budget(settings, LONGER)} --out {shlex.quote(f'{run}-longer')}")
    if weak(report.measures):
        return (f"more real {things} to compare with, that it was not trained on",
                f"ornstein evaluate {shlex.quote(run)} --data MORE --out {shlex.quote(f'{run}-report')}")
    return ("nothing that this report can see. To sample in fewer network calls",
            f"ornstein tune {shlex.quote(run)} --nfe 4")


def _budget(settings: dict[str, Any], times: float) -> str:
    if settings.get("images"):
        return f"--images {max(1, int(times * settings['images']))}"
    return f"--minutes {times * (settings.get('minutes') or 10):g}"
