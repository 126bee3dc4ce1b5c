"""The charts of a report's page."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from ornstein.evaluation.results import Curve, Interval, Likelihood, Measure, Restoration
from ornstein.evaluation.wording import Side
from ornstein.figures.chart import Line, Mark, intervals, lines, number, waterfall

__all__ = ["interval_chart", "levels", "ranks", "steps", "terms"]

COSTS = ("prior", "diffusion")  # terms that are subtracted in the bound
DASHES = {"training": "--", "lowest possible": ":"}
AXIS = "log SNR (noise on the left, data on the right)"


def interval_chart(measured: Sequence[tuple[Side, Measure]]) -> str:
    """The figures of each side and their floors, one lane each; a shared floor is drawn once."""
    def mark(name: str, value: Interval, tone: str) -> Mark:
        return Mark(name, value.estimate, value.low, value.high, number(value.estimate, value.half), tone)

    floors: dict[Interval, list[str]] = {}
    for side, measure in measured:
        if measure.floor is not None:
            floors.setdefault(measure.floor, []).append(side.letter)
    marks = [mark(side.letter or "samples", measure.found, side.tone) for side, measure in measured]
    marks += [mark("real" if len(floors) == 1 else f"real for {letters[0]}", floor, "quiet")
              for floor, letters in floors.items()]
    measure = measured[0][1]
    return intervals(marks, f"{measure.name}: estimates with 95 % intervals", measure.best)


def terms(likelihood: Likelihood, tone: str) -> str:
    """The waterfall of a likelihood's terms; costs go down."""
    if not likelihood.terms:
        return ""
    parts = [(name, -value if name in COSTS else value, error) for name, value, error in likelihood.terms]
    rest = likelihood.nats - sum(value for _, value, _ in parts)
    if abs(rest) > 1e-4 * abs(likelihood.nats):  # from a density to the probability of a level
        parts.append(("size of a bin", rest, 0.0))
    return waterfall(parts, f"{likelihood.name}: what it is made of, in nats a sample", "log p at least", tone or "a")


def levels(sides: Sequence[Side]) -> list[str]:
    """The losses by noise level, and the training loss relative to the held-out one."""
    curves: list[Line] = []
    for side in sides:
        for curve in side.report.levels:
            drawn = _line(curve, f"{side.letter} {curve.name}".strip(), side.tone, DASHES.get(curve.name, ""))
            if curve.name == "lowest possible":  # it belongs to the data, so two models may share it
                drawn = replace(drawn, name=curve.name, tone="quiet")
                if any(other.tone == "quiet" and list(other.y) == list(drawn.y) for other in curves):
                    continue
                if any(other.name == drawn.name for other in curves):
                    drawn = replace(drawn, name=f"{side.letter} {curve.name}")
            curves.append(drawn)
    gaps = [gap for side in sides for gap in _gaps(side)]
    return [lines(curves, "Denoising loss by log SNR", AXIS, "loss: nats a value and unit of log SNR"),
            lines(gaps and [*gaps, Line("held out", gaps[0].x, [0.0] * len(gaps[0].x), tone="quiet")],
                  "Training loss against the held-out loss by log SNR", AXIS, "above or below the held-out loss, %")]


def _gaps(side: Side) -> list[Line]:
    """The training loss relative to the held-out one, in per cent: on a logarithmic axis they would look alike."""
    held = next((curve for curve in side.report.levels if curve.name == "held out"), None)
    gaps = []
    for curve in side.report.levels if held else ():
        if held is None or curve.name != "training" or curve.log_snr != held.log_snr or min(held.value) <= 0:
            continue
        ratio = [loss / held_loss for loss, held_loss in zip(curve.value, held.value, strict=True)]
        error = [100 * math.hypot(error, share * held_error) / held_loss for error, share, held_error, held_loss in zip(
            curve.error or [0.0] * len(ratio), ratio, held.error or [0.0] * len(ratio), held.value, strict=True)]
        gap = Curve(curve.name, curve.log_snr, tuple(100 * (share - 1) for share in ratio), tuple(error))
        gaps.append(_line(gap, f"{side.letter} {curve.name}".strip(), side.tone, DASHES.get(curve.name, "")))
    return gaps


def steps(sides: Sequence[Side]) -> str:
    """The terms of the bound by log SNR."""
    curves = [_line(side.report.steps, side.letter or side.report.steps.name, side.tone)
              for side in sides if side.report.steps]
    return lines(curves, "Terms of the bound by log SNR", AXIS, "nats a step")


def ranks(restored: Restoration, tone: str) -> str:
    """The histogram of the truth's ranks among the draws, as a step line, beside the uniform one."""
    count = len(restored.ranks)
    ends = [end for index in range(count) for end in (index / count, (index + 1) / count)]
    heights, errors = ([value for value in values for _ in range(2)]
                       for values in (restored.ranks, restored.ranks_error))
    return lines([Line("found", ends, heights, errors, tone or "a"),
                  Line("as it should be", (0, 1), (1, 1), tone="quiet", dash="--")],
                 f"Ranks of the truth among the draws, restored from {restored.operator}",
                 "share of the draws below the truth", "frequency, relative to a uniform one")


def _line(curve: Curve, name: str, tone: str, dash: str = "") -> Line:
    order = sorted(range(len(curve.log_snr)), key=lambda index: curve.log_snr[index])
    x, y, error = ([values[index] for index in order] for values in (
        curve.log_snr, curve.value, curve.error or (0.0,) * len(order)))
    return Line(name, x, y, error, tone, dash)
