"""The page of an evaluation: one HTML file that shows in text, charts and tables how good and how sure a model is."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, StrictUndefined, Template
from PIL.Image import Image

from ornstein.evaluation import wording
from ornstein.evaluation.charts import interval_chart, levels, ranks, steps, terms
from ornstein.evaluation.report import Report
from ornstein.evaluation.results import Likelihood, Measure
from ornstein.evaluation.verdict import certainty
from ornstein.figures.chart import number

__all__ = ["render"]

LISTED = 12  # largest number of list entries shown
SMALL = 256  # pixels; narrower images are enlarged without smoothing
FACTS = {  # labels of facts whose keys do not explain themselves
    "model": {"run": "folder of the run", "held_out": "held-out loss", "gap": "held-out loss minus training loss",
              "predicts": "prediction of the network", "images": "samples seen in training",
              "sha256": "SHA-256 of the file"},
    "data": {"training": "training samples", "held_out": "unseen samples", "held_out_name": "name of the unseen data",
             "held_out_sha256": "SHA-256 of the unseen data", "levels": "levels a value", "shape": "shape of a sample"},
    "drawn": {"count": "samples", "nfe": "network calls a sample (limit)", "steps": "steps of the sampler",
              "guidance": "guidance scale", "seconds": "time for drawing", "source": "read from",
              "also_real": "of these, also in the real set"},
}


@dataclass(frozen=True)
class Row:
    """A measure on the page, with the sides that have it."""

    name: str
    features: str
    description: str
    verdict: tuple[str, str]
    chart: str
    sides: tuple[tuple[wording.Side, Measure], ...]


def render(reports: Sequence[Report]) -> str:
    """The page of one report, or of several side by side: HTML that needs no other file, no network and no script, and
    escapes all text of the reports."""
    if not 1 <= len(reports) <= len(wording.LETTERS):
        raise ValueError(f"{len(reports)} reports; a page shows one, or up to {len(wording.LETTERS)} side by side")
    letters = "" if len(reports) == 1 else wording.LETTERS
    sides = [wording.Side(letters[index:index + 1], wording.LETTERS[index].lower(), report)
             for index, report in enumerate(reports)]
    rows = _rows(sides)
    names = {"number": number, "percent": lambda share: f"{number(100 * share)} %", "fact": _fact, "uri": _uri,
             "duration": _duration, "lead": wording.lead_sentence, "pairs": _pairs, "terms": terms,
             "clearly_unlike_real": wording.clearly_unlike_real, "advice": wording.advice, "ranks": ranks,
             "likelihood_descriptions": wording.LIKELIHOOD_DESCRIPTIONS, "certainty": certainty,
             "small": lambda image: image.width < SMALL}
    return _template().render(
        names, sides=sides, two=len(sides) > 1, rows=rows, foreign=all(side.report.foreign for side in sides),
        same_data=all(sides[0].report.same_data(side.report) for side in sides),
        ranking=wording.ranking_sentence(sides, [row.verdict[0] for row in rows]), shown=_shown(sides),
        likelihood=_likelihood(sides), shared=_shared(sides),
        likelihood_verdicts=[f"{name}: {verdict}." for name, _, verdict in wording.likelihood_verdicts(*reports)],
        levels=levels(sides), steps=steps(sides),
        gaussians=any(not entry.of_model for side in sides for entry in side.report.likelihood),
        facts={name: _facts(sides, name) for name in ("drawn", "data", "model")})


@cache
def _template() -> Template:
    """The compiled template; compiling takes longer than rendering."""
    source = files("ornstein.evaluation").joinpath("page.html").read_text("utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return page.from_string(source)


def _shared(sides: Sequence[wording.Side]) -> list[str]:
    """The notes that several sides have in common."""
    first, *others = (side.report.notes for side in sides)
    return [note for note in first if all(note in notes for notes in others)] if others else []


def _rows(sides: Sequence[wording.Side]) -> list[Row]:
    kinds = dict.fromkeys((measure.key, measure.features) for side in sides for measure in side.report.measures)
    rows = []
    for key, features in kinds:
        group = tuple((side, measure) for side in sides for measure in side.report.measures
                      if (measure.key, measure.features) == (key, features))
        verdict = (wording.verdict_between(group) if len(sides) > 1 else
                   wording.verdict_against_floor(sides[0].report, group[0][1]))
        description = wording.MEASURE_DESCRIPTIONS.get(key, "").replace("{known}", sides[0].report.known)
        rows.append(Row(group[0][1].name, features, description, verdict, interval_chart(group), group))
    return rows


def _shown(sides: Sequence[wording.Side]) -> list[tuple[str, str, Image]]:
    """(caption, alternative text, picture) of samples and of real data, which are shown once if they are the same."""
    pictures = []
    for side in sides:
        if image := side.report.pictures.get("samples"):
            caption = f"Samples of {side.letter}" if side.letter else "Samples"
            origin = "generated" if side.report.foreign else "drawn by the model"
            pictures.append((caption, f"{caption if side.letter else caption.lower()}, {origin}", image))
    real = [side for side in sides if "real" in side.report.pictures]
    if len({side.report.pictures["real"].tobytes() for side in real}) == 1:
        real = real[:1]
    for side in real:
        caption = f"Real {side.report.things}" + (f" for {side.letter}" if len(real) > 1 else "")
        pictures.append((caption, f"{caption}, for comparison", side.report.pictures["real"]))
    return pictures


def _likelihood(sides: Sequence[wording.Side]) -> list[tuple[str, list[tuple[str, Likelihood]]]]:
    """(name, [(letters, likelihood)]) of each kind; one that sides share is listed once."""
    groups: dict[str, list[tuple[str, Likelihood]]] = {}
    for side in sides:
        for entry in side.report.likelihood:
            group = groups.setdefault(entry.key, [])
            if not entry.of_model and group and group[-1][1] == entry:
                group[-1] = (f"{group[-1][0]}, {side.letter}", entry)
            else:
                group.append((side.letter, entry))
    return [(group[0][1].name, group) for group in groups.values()]


def _pairs(report: Report) -> list[tuple[Any, Image | None, Image | None]]:
    """The nearest pairs with their pictures."""
    pairs = report.memorisation.pairs if report.memorisation else ()
    return [(pair, report.pictures.get(f"pair-{index}-sample"), report.pictures.get(f"pair-{index}-training"))
            for index, pair in enumerate(pairs)]


def _facts(sides: Sequence[wording.Side], name: str) -> list[tuple[str, str, list[Any]]]:
    """(key, label, [value for each side]) of each fact."""
    tables = [getattr(side.report, name) for side in sides]
    return [(str(key), FACTS[name].get(key, str(key).replace("_", " ")), [table.get(key) for table in tables])
            for key in dict.fromkeys(key for table in tables for key, value in table.items() if value is not None)]


def _fact(key: str, value: Any) -> str:
    """The value of any fact as text."""
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
        return ", ".join(f"{name} {_fact(name, entry)}" for name, entry in value.items()) or "none"
    if isinstance(value, list | tuple):
        if key == "shape":
            return " × ".join(str(side) for side in value)
        facts = [_fact("", entry) for entry in value]
        more = f" … {facts[-1]} ({len(facts)} in all)" if len(facts) > LISTED else ""
        return ", ".join(facts[:LISTED - 2] if more else facts) + more or "none"
    return str(value)


def _duration(seconds: float) -> str:
    if not math.isfinite(seconds) or seconds < 60:
        return f"{number(seconds, figures=2 if seconds < 10 else 3)} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"


def _uri(image: Image) -> str:
    """A picture as a data URI of a PNG file."""
    out = io.BytesIO()
    (image if image.mode in ("1", "L", "RGB", "RGBA", "P") else image.convert("RGB")).save(out, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
