"""The page of an evaluation: one HTML file that says in words, charts and tables how good a model is, and how sure."""

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

from ornstein.evaluation import words
from ornstein.evaluation.charts import interval_chart, levels, ranks, steps, terms
from ornstein.evaluation.report import Report
from ornstein.evaluation.results import Likelihood, Measure
from ornstein.evaluation.verdict import certainty
from ornstein.figures.chart import number

__all__ = ["render"]

LISTED = 12  # entries of a list, at most
SMALL = 256  # pixels; what is narrower is enlarged without smoothing
FACTS = {  # what facts are called where their short names do not say it
    "model": {"run": "folder of the run", "held_out": "held-out loss", "gap": "held-out loss less the training loss",
              "predicts": "the network predicts", "images": "samples seen in training",
              "sha256": "SHA-256 of the file"},
    "data": {"training": "training samples", "held_out": "unseen samples", "held_out_name": "name of the unseen data",
             "held_out_sha256": "SHA-256 of the unseen data", "levels": "levels a value", "shape": "shape of a sample"},
    "drawn": {"count": "samples", "nfe": "network calls a sample, at most", "steps": "steps of the sampler",
              "guidance": "scale of the guidance", "seconds": "time for the drawing", "source": "read from",
              "also_real": "of them also real ones"},
}


@dataclass(frozen=True)
class Row:
    """A measure on the page: of each side, None where a side lacks it."""

    name: str
    features: str
    what: str
    verdict: tuple[str, str]
    chart: str
    sides: tuple[tuple[words.Side, Measure], ...]


def render(reports: Sequence[Report]) -> str:
    """The page of one report, or of several side by side: HTML that needs no other file, no network and no script, and
    shows whatever the reports hold as text."""
    if not 1 <= len(reports) <= len(words.LETTERS):
        raise ValueError(f"{len(reports)} reports; a page shows one, or up to {len(words.LETTERS)} side by side")
    letters = "" if len(reports) == 1 else words.LETTERS
    sides = [words.Side(letters[place:place + 1], words.LETTERS[place].lower(), report)
             for place, report in enumerate(reports)]
    rows = _rows(sides)
    names = {"number": number, "percent": lambda share: f"{number(100 * share)} %", "fact": _fact, "uri": _uri,
             "duration": _duration, "lead": words.lead, "pairs": _pairs, "terms": terms, "unlike": words.unlike,
             "advice": words.advice, "likelihoods": words.LIKELIHOODS, "ranks": ranks, "certainty": certainty,
             "small": lambda image: image.width < SMALL}
    return _template().render(
        names, sides=sides, two=len(sides) > 1, rows=rows, foreign=all(side.report.foreign for side in sides),
        same_data=all(sides[0].report.same_data(side.report) for side in sides),
        ranking=words.rank(sides, [row.verdict[0] for row in rows]), shown=_shown(sides), likelihood=_likelihood(sides),
        shared=_shared(sides),
        better_likelihood=[f"{name}: {verdict}." for name, _, verdict in words.better_likelihood(*reports)],
        levels=levels(sides), steps=steps(sides),
        gaussians=any(not one.of_model for side in sides for one in side.report.likelihood),
        facts={name: _facts(sides, name) for name in ("drawn", "data", "model")})


@cache
def _template() -> Template:
    """The page without its facts, which takes longer to compile than to fill."""
    source = files("ornstein.evaluation").joinpath("page.html").read_text("utf-8")
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=StrictUndefined)
    return page.from_string(source)


def _shared(sides: Sequence[words.Side]) -> list[str]:
    """The notes that belong to every one of several sides."""
    first, *others = (side.report.notes for side in sides)
    return [note for note in first if all(note in notes for notes in others)] if others else []


def _rows(sides: Sequence[words.Side]) -> list[Row]:
    kinds = dict.fromkeys((one.key, one.features) for side in sides for one in side.report.measures)
    rows = []
    for key, features in kinds:
        group = tuple((side, one) for side in sides for one in side.report.measures
                      if (one.key, one.features) == (key, features))
        verdict = (words.against_each_other(group) if len(sides) > 1 else
                   words.against_floor(sides[0].report, group[0][1]))
        what = words.WHAT.get(key, "").replace("{known}", sides[0].report.known)
        rows.append(Row(group[0][1].name, features, what, verdict, interval_chart(group), group))
    return rows


def _shown(sides: Sequence[words.Side]) -> list[tuple[str, str, Image]]:
    """(caption, alternative text, picture): samples and, once where they agree, real data."""
    pictures = []
    for side in sides:
        if image := side.report.pictures.get("samples"):
            of = f"Samples of {side.letter}" if side.letter else "Samples"
            by = "generated" if side.report.foreign else "drawn by the model"
            pictures.append((of, f"{of.lower() if not side.letter else of}, {by}", image))
    real = [side for side in sides if "real" in side.report.pictures]
    if len({side.report.pictures["real"].tobytes() for side in real}) == 1:
        real = real[:1]
    for side in real:
        of = f"Real {side.report.things}" + (f" for {side.letter}" if len(real) > 1 else "")
        pictures.append((of, f"{of}, for comparison", side.report.pictures["real"]))
    return pictures


def _likelihood(sides: Sequence[words.Side]) -> list[tuple[str, list[tuple[str, Likelihood]]]]:
    """(name, [(letter, figures)]) of each kind; a figure that both have is shown once."""
    groups: dict[str, list[tuple[str, Likelihood]]] = {}
    for side in sides:
        for one in side.report.likelihood:
            group = groups.setdefault(one.key, [])
            if not one.of_model and group and group[-1][1] == one:
                group[-1] = ("A, B", one)
            else:
                group.append((side.letter, one))
    return [(group[0][1].name, group) for group in groups.values()]


def _pairs(report: Report, most: int = 12) -> list[tuple[Any, Image | None, Image | None]]:
    """The nearest pairs with their pictures."""
    pairs = report.memorisation.pairs if report.memorisation else ()
    return [(pair, report.pictures.get(f"pair-{place}-sample"), report.pictures.get(f"pair-{place}-training"))
            for place, pair in enumerate(pairs[:most])]


def _facts(sides: Sequence[words.Side], name: str) -> list[tuple[str, str, list[Any]]]:
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
        facts = [_fact("", one) for one in value]
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
    """A picture as the PNG that the page carries."""
    out = io.BytesIO()
    (image if image.mode in ("1", "L", "RGB", "RGBA", "P") else image.convert("RGB")).save(out, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(out.getvalue()).decode('ascii')}"
