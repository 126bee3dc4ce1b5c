"""What the figures say, without technical terms: the first lines of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ornstein.evaluation.ranking import differing, too_few_rows
from ornstein.evaluation.results import Measure, Memorisation, Restoration

__all__ = ["certainty", "verdict"]

TELLING = (  # from the smallest area under the curve at which a sentence holds
    (0.97, "A program tells these {} from real ones almost every time"),
    (0.85, "A program tells these {} from real ones most of the time"),
    (0.7, "A program can often tell these {} from real ones"),
    (0.6, "A program can sometimes tell these {} from real ones"),
    (0.0, "A program tells these {} from real ones only slightly more often than by guessing"),
)
BELOW_FLOOR = {
    "recall": "they show less variety than real ones", "coverage": "they show less variety than real ones",
    "precision": "too many of them are unlike any real one", "density": "too many of them are unlike any real one",
    "accuracy": "too many of them are not what was asked for"}
ABOVE_FLOOR = {
    "recall": "they are more spread out than real ones", "coverage": "they are more spread out than real ones",
    "precision": "they stay too close to typical ones", "density": "they stay too close to typical ones"}


def verdict(measures: Sequence[Measure], copies: Memorisation | None, things: str,
            restorations: Sequence[Restoration] = (), known: str = "training") -> list[str]:
    """The findings in sentences for anyone, the most important one first."""
    sentences = list(_differences(measures, things))
    if copies is not None and copies.copies:
        sentence = f"It may be copying: these {things} lie closer to single {known} {things} than new ones would"
        sentences.insert(len(sentences) if _telling_forests(measures) else 0, sentence)
    sentences += map(certainty, restorations)
    return [f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences] or ["Nothing was measured."]


def certainty(found: Restoration) -> str:
    """Whether a model is as sure of what a measurement leaves open as it should be."""
    share, low, high = (f"{100 * value:.0f}" for value in (found.most.value, found.most.low, found.most.high))
    return (f"restoring from {found.operator}, the model is {found.sure}: its 90 % ranges hold the truth in {share} % "
            f"of cases ({low} to {high})")


def _telling_forests(measures: Sequence[Measure]) -> list[Measure]:
    """The forests that tell samples from real data, the most certain one first."""
    forests = [measure for measure in measures
               if measure.key in ("auc", "texture") and measure.differs and measure.value > measure.best]
    return sorted(forests, key=lambda measure: -measure.value)


def _differences(measures: Sequence[Measure], things: str) -> Iterator[str]:
    if not measures:
        return
    fewest = min(min(measure.real, measure.generated) for measure in measures)
    forests, reasons = _telling_forests(measures), _reasons(measures)
    if forests:
        auc = forests[0].value
        yield next(text for least, text in TELLING if auc >= least).format(things)
        often = "more than 99" if auc >= 0.995 else f"{100 * auc:.0f}"
        yield (f"shown a real one and one of these, it picks out the real one {often} times out of 100; guessing would "
               "be right 50 times")
        yield from reasons[:1]
    elif differing(measures):
        yield f"as a set, these {things} differ from real ones" + (f": {' and '.join(reasons[:2])}" if reasons else "")
    elif not any(measure.differs is False for measure in measures):
        yield f"nothing here can tell whether these {things} differ from real ones: there are too few of them"
    elif too_few_rows(measures):
        yield f"there are too few {things} to say ({fewest:,}): only a coarse difference would have shown, and none did"
    else:
        yield f"no difference from real {things} could be shown, and {fewest:,} {things} would have shown a coarse one"


def _reasons(measures: Sequence[Measure]) -> list[str]:
    """In what way a set differs, as far as the figures say."""
    reasons = [(BELOW_FLOOR if measure.found.estimate < measure.floor.estimate else ABOVE_FLOOR).get(measure.key)
               for measure in differing(measures) if measure.floor is not None]
    return list(dict.fromkeys(reason for reason in reasons if reason))
