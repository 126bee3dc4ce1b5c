"""Reports on disk, and what may be said of several side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ornstein import files
from ornstein.evaluation.page import render
from ornstein.evaluation.report import Report
from ornstein.evaluation.words import LETTERS, advice, verdicts

__all__ = ["FIGURES", "PAGE", "as_dict", "lines", "strange", "write_report"]

PAGE, FIGURES = "index.html", "report.json"


def write_report(reports: Report | Sequence[Report], folder: str | Path) -> None:
    """Write the page (index.html) and the figures (report.json) of one report, or of several that are compared.

    Args:
        reports: one, with its `others`, or up to six.
        folder: made if missing; a report in it is replaced.

    Raises:
        ValueError: a figure that is not finite.
        OSError: the disk refuses.
    """
    reports = [reports, *reports.others] if isinstance(reports, Report) else reports
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
    """One report's figures, or those of all and which is better where their intervals are apart."""
    if len(reports) == 1:
        return reports[0].as_dict()
    found = list(verdicts(*reports))
    return {"reports": [report.as_dict() for report in reports], "better": {name: who for name, who, _ in found},
            "ranking": {name: words for name, _, words in found}}


def lines(reports: Sequence[Report]) -> Iterator[str]:
    """The figures as lines of text, a model after the other."""
    for report in reports:
        yield from report.lines()
        if len(reports) == 1 and (helps := advice(report)):
            yield "  what would help most: {}: {}".format(*helps)
    if len(reports) > 1:
        yield ", ".join(f"{letter} is {report.name}" for letter, report in zip(LETTERS, reports, strict=False))
        for name, _, words in verdicts(*reports):
            yield f"  {name}: {words}"
