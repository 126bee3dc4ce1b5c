"""The page of an evaluation: one HTML file that says in words, charts and tables how good a model is, and how sure."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined
from PIL.Image import Image

from ornstein.evaluation.ranking import estimate, floor_of
from ornstein.evaluation.report import Curve, Likelihood, Measure, Report
from ornstein.evaluation.words import (
    WHAT,
    Side,
    against_each_other,
    against_floor,
    alike,
    better_likelihood,
    half,
    is_own,
    lead,
    rank,
    unlike,
)
from ornstein.figures.chart import Line, Mark, intervals, lines, number, waterfall

__all__ = ["render"]

SMALL = 256  # pixels; what is narrower is enlarged without smoothing
COSTS = ("prior", "diffusion")  # terms that the bound subtracts
FACTS = {  # what facts are called where their short names do not say it
    "model": {"held_out": "held-out loss", "gap": "held-out loss above the training loss",
              "predicts": "the network predicts", "images": "samples seen in training",
              "sha256": "SHA-256 of the file"},
    "data": {"training": "training samples", "held_out": "unseen samples", "held_out_name": "name of the unseen data",
             "held_out_sha256": "SHA-256 of the unseen data", "levels": "levels a value", "shape": "shape of a sample"},
    "drawn": {"count": "samples", "nfe": "network calls a sample, at most", "steps": "steps of the sampler",
              "guidance": "scale of the guidance", "seconds": "time for the drawing"},
}
DASHES = {"training": "5 4", "lowest possible": "1.5 4"}
AXIS = "log SNR (noise on the left, data on the right)"


@dataclass(frozen=True)
class Row:
    """A measure on the page: of each side, None where a side lacks it."""

    name: str
    features: str
    what: str
    verdict: tuple[str, str]
    chart: str
    sides: tuple[tuple[Side, Measure], ...]


def render(reports: Sequence[Report]) -> str:
    """The page of one report, or of two side by side: HTML that needs no other file, no network and no script, and
    shows whatever the reports hold as text."""
    if len(reports) not in (1, 2):
        raise ValueError(f"{len(reports)} reports; a page shows one, or two side by side")
    letters = ("",) if len(reports) == 1 else ("A", "B")
    sides = [Side(letter, tone, report) for letter, tone, report in zip(letters, "ab", reports, strict=False)]
    rows = _rows(sides)
    source = files("ornstein.evaluation").joinpath("page.html").read_text("utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    words = {"number": number, "half": half, "percent": _percent, "fact": _fact, "duration": _duration, "uri": _uri,
             "floor_of": floor_of, "estimate": estimate, "lead": lead, "pairs": _pairs, "terms": _terms, "own": is_own,
             "unlike": unlike, "small": lambda image: image.width < SMALL}
    return page.from_string(source).render(
        words,
        sides=sides, two=len(sides) == 2, rows=rows, same_data=alike(sides),
        ranking=rank(sides, [row.verdict[0] for row in rows]), shown=_shown(sides), likelihood=_likelihood(sides),
        better_likelihood=list(better_likelihood(sides)), levels=_levels(sides), steps=_steps(sides),
        gaussians=any(not is_own(one) for side in sides for one in side.report.likelihood),
        facts={name: _facts(sides, name) for name in ("drawn", "data", "model")})


def _rows(sides: Sequence[Side]) -> list[Row]:
    kinds = dict.fromkeys((one.key, one.features) for side in sides for one in side.report.measures)
    rows = []
    for key, features in kinds:
        found = tuple((side, one) for side in sides for one in side.report.measures
                      if (one.key, one.features) == (key, features))
        verdict = against_floor(*found[0]) if len(sides) == 1 else against_each_other(sides, found)
        rows.append(Row(found[0][1].name, features, WHAT.get(key, ""), verdict, _interval_chart(found), found))
    return rows


def _interval_chart(found: Sequence[tuple[Side, Measure]]) -> str:
    marks = [Mark(side.letter or "samples", estimate(one), one.low, one.high, number(estimate(one), half(one)),
                  side.tone) for side, one in found]
    floors: dict[tuple[float, float, float], list[str]] = {}
    for side, one in found:
        if floor := floor_of(one):
            floors.setdefault((estimate(floor), floor.low, floor.high), []).append(side.letter)
    for (value, low, high), letters in floors.items():
        reach = (high - low) / 2
        inside = low <= value <= high  # not so where the interval is of the limit, and the value is not
        text = number(value, reach) if inside else f"{number(low, reach)} to {number(high, reach)}"
        name = "real" if len(floors) == 1 else f"real for {letters[0]}"
        marks.append(Mark(name, value if inside else None, low, high, text, "quiet"))
    one = found[0][1]
    return intervals(marks, f"{one.name}: estimates with 95 % intervals", one.best)


def _shown(sides: Sequence[Side]) -> list[tuple[str, str, Image]]:
    """(caption, alternative text, picture): samples and, once where they agree, real data."""
    found = []
    for side in sides:
        if image := side.report.pictures.get("samples"):
            of = f"Samples of {side.letter}" if side.letter else "Samples"
            found.append((of, f"{of.lower() if not side.letter else of}, drawn by the model", image))
    real = [side for side in sides if "real" in side.report.pictures]
    if len(real) == 2 and real[0].report.pictures["real"].tobytes() == real[1].report.pictures["real"].tobytes():
        real = real[:1]
    for side in real:
        of = f"Real {side.things}" + (f" for {side.letter}" if len(real) > 1 else "")
        found.append((of, f"{of}, for comparison", side.report.pictures["real"]))
    return found


def _likelihood(sides: Sequence[Side]) -> list[tuple[str, list[tuple[str, Likelihood]]]]:
    """(name, [(letter, figures)]) of each kind; a figure that both have is shown once."""
    groups: dict[str, list[tuple[str, Likelihood]]] = {}
    for side in sides:
        for one in side.report.likelihood:
            group = groups.setdefault(one.key, [])
            if not is_own(one) and group and group[-1][1] == one:
                group[-1] = ("A, B", one)
            else:
                group.append((side.letter, one))
    return [(group[0][1].name, group) for group in groups.values()]


def _terms(one: Likelihood, tone: str) -> str:
    """The waterfall of a likelihood; terms that are costs go down."""
    if not one.terms:
        return ""
    terms = [(name, -value if name in COSTS else value, error) for name, value, error in one.terms]
    rest = one.nats - sum(value for _, value, _ in terms)
    if abs(rest) > 1e-4 * abs(one.nats):  # from a density to the probability of a level
        terms.append(("size of a bin", rest, 0.0))
    return waterfall(terms, f"{one.name}: what it is made of, in nats a sample", "log p at least", tone or "a")


def _levels(sides: Sequence[Side]) -> list[str]:
    """The losses, and the training loss against the held-out one."""
    curves: list[Line] = []
    for side in sides:
        for curve in side.report.levels:
            drawn = _line(curve, f"{side.letter} {curve.name}".strip(), side.tone, DASHES.get(curve.name, ""))
            if curve.name == "lowest possible":  # it belongs to the data, and two models may share it
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
    """The training loss against the held-out one, in per cent of it: on a logarithmic axis they would look alike."""
    held = next((curve for curve in side.report.levels if curve.name == "held out"), None)
    gaps = []
    for curve in side.report.levels if held else ():
        if held is None or curve.name != "training" or curve.log_snr != held.log_snr or min(held.value) <= 0:
            continue
        ratio = [one / other for one, other in zip(curve.value, held.value, strict=True)]
        error = [100 * math.hypot(one, share * other) / unit for one, share, other, unit in zip(
            curve.error or [0.0] * len(ratio), ratio, held.error or [0.0] * len(ratio), held.value, strict=True)]
        gaps.append(replace(_line(Curve(curve.name, curve.log_snr, tuple(100 * (one - 1) for one in ratio),
                                        tuple(error)), f"{side.letter} {curve.name}".strip(), side.tone),
                            dash=DASHES.get(curve.name, "")))
    return gaps


def _steps(sides: Sequence[Side]) -> str:
    curves = [_line(side.report.steps, side.letter or side.report.steps.name, side.tone)
              for side in sides if side.report.steps]
    return lines(curves, "Terms of the bound by log SNR", AXIS, "nats a step")


def _line(curve: Curve, name: str, tone: str, dash: str = "") -> Line:
    order = sorted(range(len(curve.log_snr)), key=lambda place: curve.log_snr[place])
    x, y, error = ([values[place] for place in order] for values in (
        curve.log_snr, curve.value, curve.error or (0.0,) * len(order)))
    return Line(name, x, y, error, tone, dash)


def _pairs(report: Report, most: int = 12) -> list[tuple[Any, Image | None, Image | None]]:
    """The nearest pairs with their pictures."""
    found = report.memorisation.pairs if report.memorisation else ()
    return [(pair, report.pictures.get(f"pair-{place}-sample"), report.pictures.get(f"pair-{place}-training"))
            for place, pair in enumerate(found[:most])]


def _facts(sides: Sequence[Side], name: str) -> list[tuple[str, str, list[Any]]]:
    """(fact, what it is called, [its value for each side])."""
    tables = [getattr(side.report, name) for side in sides]
    return [(str(key), FACTS[name].get(key, str(key).replace("_", " ")), [table.get(key) for table in tables])
            for key in dict.fromkeys(key for table in tables for key, value in table.items() if value is not None)]


def _fact(key: str, value: Any) -> str:
    """A fact of any kind in words."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if key == "seconds" and isinstance(value, int | float):
        return _duration(value)
    if isinstance(value, int):
        return f"{value:,}" if abs(value) >= 10_000 and key != "seed" else str(value)
    if isinstance(value, float):
        return number(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {_fact(name, one)}" for name, one in value.items()) or "none"
    if isinstance(value, list | tuple):
        if key == "shape":
            return " × ".join(str(one) for one in value)
        return _listed([_fact("", one) for one in value])
    return str(value)


def _listed(words: Sequence[str], most: int = 12) -> str:
    more = f" … {words[-1]} ({len(words)} in all)" if len(words) > most else ""
    return ", ".join(words[:most - 2] if more else words) + more or "none"


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds) or seconds < 60:
        return f"{number(seconds, figures=2 if seconds < 10 else 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _percent(share: float) -> str:
    return f"{number(100 * share)} %"


def _uri(image: Image) -> str:
    """A picture as the PNG that the page carries."""
    out = io.BytesIO()
    (image if image.mode in ("1", "L", "RGB", "RGBA", "P") else image.convert("RGB")).save(out, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
