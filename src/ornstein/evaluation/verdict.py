"""What the figures say without a technical term: the first lines of a report."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from ornstein.evaluation.ranking import shown, weak
from ornstein.evaluation.results import Measure, Memorisation, Restoration

__all__ = ["certainty", "verdict"]

TOLD = (  # area under the curve from which on it is said
    (0.97, "A program tells these {} from real ones almost every time"),
    (0.85, "A program tells these {} from real ones most of the time"),
    (0.7, "A program can often tell these {} from real ones"),
    (0.6, "A program can sometimes tell these {} from real ones"),
    (0.0, "A program tells these {} from real ones only slightly more often than by guessing"),
)
LESS = {"recall": "they show less variety than real ones", "coverage": "they show less variety than real ones",
        "precision": "too many of them are unlike any real one", "density": "too many of them are unlike any real one",
        "accuracy": "too many of them are not what was asked for"}
MORE = {"recall": "they are more spread out than real ones", "coverage": "they are more spread out than real ones",
        "precision": "they keep too close to what is usual", "density": "they keep too close to what is usual"}


def verdict(measures: Sequence[Measure], copies: Memorisation | None, things: str,
            restorations: Sequence[Restoration] = (), known: str = "training") -> list[str]:
    """What was found, in sentences for anyone, the most important one first."""
    sentences = list(_found(measures, things))
    if copies is not None and copies.copies:
        said = f"It may be copying: these {things} lie closer to single {known} {things} than new ones would"
        sentences.insert(0 if not any(one.differs for one in _told(measures)) else len(sentences), said)
    sentences += map(certainty, restorations)
    return [f"{sentence[:1].upper()}{sentence[1:]}." for sentence in sentences] or ["Nothing was measured."]


def certainty(found: Restoration) -> str:
    """Whether a model is as sure of what a measurement leaves open as it should be."""
    share, low, high = (f"{100 * end:.0f}" for end in (found.most.value, found.most.low, found.most.high))
    return (f"restoring from {found.operator}, the model is {found.sure}: its 90 % ranges hold the truth in {share} % "
            f"of cases ({low} to {high})")


def _told(measures: Sequence[Measure]) -> list[Measure]:
    """The forests that tell samples from real data, the surest one first."""
    forests = [one for one in measures if one.key in ("auc", "texture") and one.differs and one.value > one.best]
    return sorted(forests, key=lambda one: -one.value)


def _found(measures: Sequence[Measure], things: str) -> Iterator[str]:
    if not measures:
        return
    few = min(min(one.real, one.generated) for one in measures)
    told, reasons = _told(measures), _reasons(measures)
    if told:
        yield next(words for least, words in TOLD if told[0].value >= least).format(things)
        often = "more than 99" if told[0].value >= 0.995 else f"{100 * told[0].value:.0f}"
        yield (f"shown a real one and one of these, it picks out the real one {often} times out of 100; guessing would "
               "be right 50 times")
        yield from reasons[:1]
    elif shown(measures):
        yield f"as a set, these {things} differ from real ones" + (f": {' and '.join(reasons[:2])}" if reasons else "")
    elif not any(one.differs is False for one in measures):
        yield f"nothing here can tell whether these {things} differ from real ones: there are too few of them"
    elif weak(measures):
        yield f"there are too few {things} to say ({few:,}): only a coarse difference would have shown, and none did"
    else:
        yield f"no difference from real {things} could be shown, and {few:,} {things} would have shown a coarse one"


def _reasons(measures: Sequence[Measure]) -> list[str]:
    """In what way a set differs, as far as the figures say."""
    reasons = [(LESS if one.found.estimate < one.floor.estimate else MORE).get(one.key)
             for one in shown(measures) if one.floor is not None]
    return list(dict.fromkeys(reason for reason in reasons if reason))
