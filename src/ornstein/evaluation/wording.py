"""The wording of a report: what its figures mean, claiming nothing that the samples could contradict."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from ornstein.evaluation.ranking import (
    ENOUGH_ROWS,
    NO_DIFFERENCE,
    compare_likelihoods,
    compare_measures,
    differing,
    finding,
    too_few_rows,
)
from ornstein.evaluation.report import Report
from ornstein.evaluation.results import Measure
from ornstein.figures.chart import number

__all__ = [
    "LETTERS",
    "LIKELIHOOD_DESCRIPTIONS",
    "MEASURE_DESCRIPTIONS",
    "Side",
    "advice",
    "clearly_unlike_real",
    "lead_sentence",
    "likelihood_verdicts",
    "ranking_sentence",
    "verdict_against_floor",
    "verdict_between",
    "verdicts",
]

LETTERS = "ABCDEF"  # names of reports that are compared
GAP = 0.1  # share of the held-out loss by which the training loss is lower once a model has begun to memorize
LONGER = 3  # factor on the budget of a longer training
UNLIKE = 0.75  # AUC above which samples are too unlike real data to be copies
MEASURE_DESCRIPTIONS = {
    "frechet": "How far apart the two sets are in their means and spreads. Zero is no distance at all.",
    "kernel": "How far apart the two sets are in all their moments up to the third. Zero is no distance at all.",
    "precision": "The share of the samples that lie among real data: no farther from one of them than its fifth "
                 "neighbour. Blurred and average samples lie there too, so a high share does not say that they look "
                 "right.",
    "recall": "The share of the real data that lie among samples: how much of the variety they reach. Samples that are "
              "spread too widely reach it too.",
    "density": "How densely real data surround the samples; about 1 for real data. Average samples lie where real data "
               "are densest, so more is not better.",
    "coverage": "The share of the real data with a sample in their neighbourhood: how much of the data is covered.",
    "auc": "How well a classifier learns to tell samples from {known} data or, for the floor, unseen data from them: "
           "0.5 is guessing, 1 is never wrong. Below 0.5 samples lie too near to single {known} rows.",
    "texture": "Like the figure above, but by roughness alone: how much neighbouring values differ, at several scales. "
               "It sees grain and blur that a classifier of single values misses.",
    "accuracy": "The share of the samples that are recognised as the class that was asked for.",
}
LIKELIHOOD_DESCRIPTIONS = {
    "bound": "A lower bound on how likely unseen data are, with infinitely many steps.",
    "chain": "The same for a chain with a finite number of steps, as a sampler takes them.",
    "bound-dequantised": "The same for data between the levels, to compare with a flow.",
    "ode": "How likely unseen data are by the deterministic path from noise to data.",
    "gaussian": "What the simplest model of such data reaches: their mean and covariance.",
    "gaussian-class": "The same with a mean and a covariance for each class.",
}
# To be better than real data by these figures is no praise.
BEYOND = {
    "precision": ": samples stay close to typical ones, often at the cost of variety",
    "density": ": samples stay close to typical ones, often at the cost of variety",
    "recall": ": samples are more spread out than real data",
    "coverage": ": samples are more spread out than real data",
}


@dataclass(frozen=True)
class Side:
    """A report and its letter on the page, A, B ..., or none if it is the only one."""

    letter: str
    tone: str
    report: Report


def verdict_against_floor(report: Report, measure: Measure) -> tuple[str, str]:
    """The style and the text of a measure's verdict, which never says that samples are like real data."""
    things, differs, floor = report.things, measure.differs, measure.floor
    if floor is None:
        return "", ""
    if differs:
        beyond = abs(measure.found.estimate - measure.best) < abs(floor.estimate - measure.best)
        return "far", f"a difference from real {things} is shown" + (BEYOND.get(measure.key, "") if beyond else "")
    if differs is None:
        return "same", "not compared: too few rows to remove the bias from both"
    if differing(report.measures):
        return "same", "this figure does not show the difference that others show"
    if too_few_rows(report.measures):
        return "same", f"too few {things} to show a difference"
    return "same", f"no difference from real {things} shown"


def verdict_between(measured: Sequence[tuple[Side, Measure]]) -> tuple[str, str]:
    """The style and the text of the verdict on the same measure of several sides."""
    if len(measured) < 2:
        return "", f"measured for {measured[0][0].letter} only"
    best, text = _ranking([(side.letter, side.report, measure) for side, measure in measured])
    if text == NO_DIFFERENCE and min(min(measure.real, measure.generated) for _, measure in measured) < ENOUGH_ROWS:
        text = f"{NO_DIFFERENCE}, with so few rows"
    if best:
        return best.lower(), text
    if text.startswith(NO_DIFFERENCE):
        return "same", text
    return "" if text.startswith("not ranked") else "some", text


def _ranking(measured: Sequence[tuple[str, Report, Measure]]) -> tuple[str | None, str]:
    """The letter of the set that is better than all others by a measure, or None, and which sets are better than which
    as far as it is shown."""
    pairs = {(a, b): compare_measures(measure_a, measure_b, report_a.same_data(report_b))
             for index, (a, report_a, measure_a) in enumerate(measured) for b, report_b, measure_b in
             measured[index + 1:]}
    if len(pairs) == 1:
        winner, text = next(iter(pairs.values()))
        letter = {"A": measured[0][0], "B": measured[1][0]}.get(winner or "")
        return letter, text if letter is None else f"{letter} is better"
    beaten: dict[str, list[str]] = {letter: [] for letter, *_ in measured}
    for (a, b), (winner, _) in pairs.items():
        if winner:
            beaten[a if winner == "A" else b].append(b if winner == "A" else a)
    winners: dict[tuple[str, ...], list[str]] = {}
    for letter, others in beaten.items():
        if others:
            winners.setdefault(tuple(others), []).append(letter)
    if not winners:
        refusals = [text for _, text in pairs.values() if text != NO_DIFFERENCE]
        return None, refusals[0] if len(refusals) == len(pairs) else NO_DIFFERENCE
    text = "; ".join(f"{_listed(better)} {'is' if len(better) == 1 else 'are'} better than {_listed(others)}"
                     for others, better in sorted(winners.items(), key=lambda item: -len(item[0])))
    return next((letter for letter, others in beaten.items() if len(others) == len(measured) - 1), None), text


def _listed(names: Sequence[str]) -> str:
    """ "A", "A and B", "A, B and C"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def clearly_unlike_real(report: Report) -> bool:
    """Whether samples are so unlike real data that finding no copies says little."""
    return any(measure.key in ("auc", "texture") and measure.low > UNLIKE for measure in report.measures)


def lead_sentence(report: Report) -> Markup:
    """The main figures in one sentence."""
    clauses = []
    if (found := finding(report.measures, report.things)) is not None:
        clauses.append(found)
    if copies := report.memorisation:
        clauses.append(Markup("<b>evidence of copying</b>") if copies.copies else Markup("no evidence of copying"))
    if likelihood := next((entry for entry in report.likelihood if entry.of_model), None):
        value, error, unit = ((likelihood.bits, likelihood.bits_error, "bits a value") if likelihood.bits is not None
                              else (likelihood.nats, likelihood.error, "nats a sample"))
        bound = "" if likelihood.key == "ode" else " at least" if likelihood.bits is None else " at most"
        spread = f" ± {number(error, error)}" if error else ""
        clauses.append(Markup("<b>{}{}</b> {}{}").format(number(value, error), spread, unit, bound))
    if not clauses:
        return Markup("Nothing was measured.")
    text = Markup("; ").join(clauses)
    return Markup("{}{}.").format(text[:1].upper(), text[1:]) if not text.startswith("<") else text + "."


def ranking_sentence(sides: Sequence[Side], styles: Sequence[str]) -> str:
    """Which side is better on how many measures, from the styles of their verdicts."""
    count = {style: styles.count(style) for style in (*map(str.lower, LETTERS), "same", "some")}
    compared = sum(count.values())
    if not compared:
        return "Nothing can be ranked."
    if compared == count["same"]:
        few = any(too_few_rows(side.report.measures) for side in sides)
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


def likelihood_verdicts(a: Report, *others: Report) -> Iterator[tuple[str, str | None, str]]:
    """(name, letter of the better or None, text) for each likelihood of a model that another report has too."""
    for likelihood in a.likelihood:
        for letter, b in zip(LETTERS[1:], others if likelihood.of_model else (), strict=False):
            yield from ((likelihood.name, *compare_likelihoods(likelihood, other, a.same_data(b), ("A", letter)))
                        for other in b.likelihood if other.key == likelihood.key)


def verdicts(*reports: Report) -> Iterator[tuple[str, str | None, str]]:
    """(name, letter of the best or None, text) for each figure that all the reports have."""
    for measure in reports[0].measures:
        matches = [[other for other in report.measures
                    if (other.key, other.features) == (measure.key, measure.features)] for report in reports]
        if all(matches):
            name = f"{measure.name} ({measure.features})" if measure.features else measure.name
            yield name, *_ranking([(letter, report, match[0])
                                   for letter, report, match in zip(LETTERS, reports, matches, strict=False)])
    yield from likelihood_verdicts(*reports)


def advice(report: Report) -> tuple[str, str] | None:
    """What would help most, and the command for it; None for a model that does not come from a run."""
    settings, run = report.model.get("settings"), report.model.get("run")
    if not isinstance(settings, dict) or not run:
        return None
    retrain = f"ornstein train --config {shlex.quote(f'{run}/run.yaml')}"
    held_out, gap, things = report.model.get("held_out"), report.model.get("gap"), report.things
    copies = report.memorisation is not None and report.memorisation.copies
    if copies or (held_out and gap and gap > GAP * held_out):
        why = (f"more {things} to learn from: it has begun to memorize the {report.data['training']:,} that it has, "
               "and a longer training would make that worse")
        if report.data.get("kind") == "picture" and settings.get("mirror") is False:
            return (f"{why}. If there are no more, mirror them, unless left and right matter",
                    f"{retrain} --set mirror=true --out {shlex.quote(f'{run}-mirrored')}")
        return (f"{why}. If there are no more, train for a shorter time",
                f"{retrain} {_budget(settings, 0.5)} --out {shlex.quote(f'{run}-shorter')}")
    differs = bool(differing(report.measures))
    if differs and report.drawn.get("guidance") not in (None, 1):
        return ("no guidance: it trades variety for clarity", f"ornstein evaluate {shlex.quote(run)} --out "
                f"{shlex.quote(f'{run}-report-without-guidance')}")
    if differs:
        return (f"a longer training: on new {things} the model does nearly as well as on those that it was trained on, "
                "so there is more to learn", f"ornstein train --from {shlex.quote(run)} "
                f"{_budget(settings, LONGER)} --out {shlex.quote(f'{run}-longer')}")
    if too_few_rows(report.measures):
        return (f"more real {things} that it was not trained on, to compare with",
                f"ornstein evaluate {shlex.quote(run)} --data MORE --out {shlex.quote(f'{run}-report')}")
    return ("nothing that this report can see. To sample in fewer network calls",
            f"ornstein tune {shlex.quote(run)} --nfe 4")


def _budget(settings: dict[str, Any], factor: float) -> str:
    if settings.get("images"):
        return f"--images {max(1, int(factor * settings['images']))}"
    return f"--minutes {factor * (settings.get('minutes') or 10):g}"
