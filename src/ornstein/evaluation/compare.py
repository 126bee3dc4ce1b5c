"""Reports on disk, and what may be said of two models side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any

from ornstein import files
from ornstein.evaluation.page import render
from ornstein.evaluation.ranking import estimate, floor_of, verdicts
from ornstein.evaluation.report import Likelihood, Measure, Report
from ornstein.evaluation.words import Side, finding
from ornstein.figures.chart import number

__all__ = ["FIGURES", "PAGE", "as_dict", "in_words", "lines", "strange", "write_report"]

PAGE, FIGURES = "index.html", "report.json"


def write_report(reports: Report | Sequence[Report], folder: str | Path) -> None:
    """Write the page (index.html) and the figures (report.json) of one report, or of two that are compared.

    Args:
        reports: one or two.
        folder: made if missing; a report in it is replaced.

    Raises:
        ValueError: a figure that is not finite.
        OSError: the disk refuses.
    """
    reports = [reports] if isinstance(reports, Report) else reports
    text, html, place = json.dumps(as_dict(reports), indent=1, allow_nan=False) + "\n", render(reports), Path(folder)
    with files.filling(place) as folder:
        files.write_text(folder / FIGURES, text)
        files.write_text(folder / PAGE, html)


def strange(path: Path) -> bool:
    """Whether a file in a folder for reports is of no report."""
    if path.name == PAGE:
        return not files.is_ours(path, b'<meta name="generator" content="Ornstein ')
    begins = (b'{\n "format"', b'{\n "reports"')
    return path.name != FIGURES or not (any(files.is_ours(path, mark) for mark in begins) or not path.stat().st_size)


def as_dict(reports: Sequence[Report]) -> dict[str, Any]:
    """One report's figures, or those of both and which is better where their intervals are apart."""
    if len(reports) == 1:
        return reports[0].as_dict()
    better = {name: who for name, who, _ in verdicts(*reports)}
    return {"reports": [report.as_dict() for report in reports], "better": better}


def lines(reports: Sequence[Report]) -> Iterator[str]:
    """The figures as lines of text, a model after the other."""
    for report in reports:
        yield f"{report.name}: {report.drawn['count']:,} samples against {report.data['held_out']:,} unseen ones"
        for features, group in groupby(report.measures, key=lambda one: one.features):
            yield f"  {features or 'values'}"
            for one in group:
                yield f"    {one.name:32}  {_told(one)}{_floor(one)}"
        if report.likelihood:
            yield "  likelihood of unseen data, ± one standard error"
        for one in report.likelihood:
            grid = f" ({one.grid})" if one.grid else ""
            yield f"    {one.name:36}  {in_words(one)}{grid}"
        copies = report.memorisation
        if copies is not None:
            yield (f"  {'E' if copies.copies else 'No e'}vidence of copies: {100 * copies.share:.2f} % of the samples "
                   f"are near a training picture, {100 * copies.expected:.2f} % expected (p = {copies.p_value:.2g})")
        if (found := finding(Side("", "", report))) is not None:
            yield f"  {found.striptags()}"
        for note in report.notes:
            yield f"  {note}"
    if len(reports) == 2:
        a, b = reports
        yield f"A is {a.name}, B is {b.name}"
        for name, _, words in verdicts(a, b):
            yield f"  {name}: {words}"


def in_words(one: Likelihood) -> str:
    """A likelihood with one standard error."""
    bits = "" if one.bits is None else f"{one.bits:.4f} ± {one.bits_error:.4f} bits a value, "
    return f"{bits}{one.nats:.2f} ± {one.error:.2f} nats a sample"


def _told(one: Measure) -> str:
    half = (one.high - one.low) / 2
    return f"{number(estimate(one), half)} [{number(one.low, half)}, {number(one.high, half)}]"


def _floor(one: Measure) -> str:
    """The floor, in the same terms as the figure itself."""
    floor = floor_of(one)
    return "" if floor is None else f"  real data {_told(floor)}"
