"""What the figures say without a technical term, and what would help most: the first lines of a report."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from ornstein.evaluation.ranking import shown, weak
from ornstein.evaluation.results import Measure, Memorisation

if TYPE_CHECKING:
    from ornstein.evaluation.report import Report

__all__ = ["advice", "verdict"]

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
GAP = 0.1  # of the held-out loss, that the training loss is below it where a model has begun to memorize
LONGER = 4  # times the budget that is suggested


def verdict(measures: Sequence[Measure], copies: Memorisation | None, things: str) -> list[str]:
    """What was found, in sentences for anyone, the most important one first."""
    found = list(_found(measures, things))
    if copies is not None and copies.copies:
        said = f"It may be copying: these {things} lie closer to single training {things} than new ones would"
        found.insert(0 if not any(one.differs for one in _told(measures)) else len(found), said)
    return [f"{sentence[:1].upper()}{sentence[1:]}." for sentence in found] or ["Nothing was measured."]


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
        times = round(100 * told[0].value)
        yield (f"shown a real one and one of these, it picks the right one {'every time' if times == 100 else ''}"
               f"{'' if times == 100 else f'{times} times out of 100'}, where guessing is right 50 times")
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
    found = [(LESS if one.found.estimate < one.floor.estimate else MORE).get(one.key)
             for one in shown(measures) if one.floor is not None]
    return list(dict.fromkeys(reason for reason in found if reason))


def advice(report: Report) -> tuple[str, str] | None:
    """What would help most, and the command for it; None for a model that is not a run's."""
    settings, run = report.model.get("settings"), report.model.get("run")
    if not isinstance(settings, dict) or not run:
        return None
    again = f"ornstein train --config {shlex.quote(f'{run}/run.yaml')}"
    held, gap, things = report.model.get("held_out"), report.model.get("gap"), report.things
    copies = report.memorisation is not None and report.memorisation.copies
    if copies or (held and gap and gap > GAP * held):
        why = (f"more {things} to learn from: it has begun to memorize the {report.data['training']:,} that it has, and "
               "a longer training would make that worse")
        turned = report.data.get("kind") == "picture" and settings.get("mirror") is False
        return ((f"{why}. Without more, flip them, if they may be flipped", f"{again} --set mirror=true --out "
                 f"{shlex.quote(f'{run}-mirrored')}") if turned else
                (f"{why}. Without more, train for less long", f"{again} {_budget(settings, 0.5)} --out "
                 f"{shlex.quote(f'{run}-shorter')}"))
    told = bool(shown(report.measures))
    if told and report.drawn.get("guidance") not in (None, 1):
        return ("no guidance: it trades variety for clarity", f"ornstein evaluate {shlex.quote(run)} --out "
                f"{shlex.quote(f'{run}-report-without-guidance')}")
    if told:
        return ("a longer training: on new " + things + " the model does nearly as well as on those that it was trained "
                "on, so there is more to learn", f"{again} {_budget(settings, LONGER)} --out "
                f"{shlex.quote(f'{run}-longer')}")
    if weak(report.measures):
        return (f"more real {things} to compare with, that it was not trained on",
                f"ornstein evaluate {shlex.quote(run)} --data MORE --out {shlex.quote(f'{run}-report')}")
    return ("fewer network calls for the same quality, now that this is good",
            f"ornstein tune {shlex.quote(run)} --nfe 8")


def _budget(settings: dict[str, Any], times: float) -> str:
    if settings.get("images"):
        return f"--images {max(1, int(times * settings['images']))}"
    return f"--minutes {times * (settings.get('minutes') or 10):g}"
