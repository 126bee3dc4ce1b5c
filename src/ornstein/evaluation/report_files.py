"""Reports on disk and as text, one alone or several side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ornstein import files
from ornstein.evaluation.page import render
from ornstein.evaluation.report import Report
from ornstein.evaluation.wording import LETTERS, advice, verdicts

__all__ = ["FIGURES", "PAGE", "as_dict", "is_foreign", "lines", "write_report"]

PAGE, FIGURES = "index.html", "report.json"


def write_report(reports: Report | Sequence[Report], folder: str | Path) -> None:
    """Write the page (index.html) and the figures (report.json) of one report, or of several that are compared.

    Args:
        reports: one, with its `others`, or up to six.
        folder: created if missing; a report in it is replaced.

    Raises:
        ValueError: a figure that is not finite.
        OSError: the files cannot be written.
    """
    reports = [reports, *reports.others] if isinstance(reports, Report) else reports
    text, html = json.dumps(as_dict(reports), indent=1, allow_nan=False) + "\n", render(reports)
    with files.filling(Path(folder)) as target:
        files.write_text(target / FIGURES, text)
        files.write_text(target / PAGE, html)


def is_foreign(path: Path) -> bool:
    """Whether a file in a report's folder does not belong to a report."""
    if path.name == PAGE:
        return not files.is_ours(path, b'<meta name="generator" content="Ornstein ')
    marks = (b'{\n "format"', b'{\n "reports"')
    return path.name != FIGURES or not (any(files.is_ours(path, mark) for mark in marks) or not path.stat().st_size)


def as_dict(reports: Sequence[Report]) -> dict[str, Any]:
    """The figures of one report, or those of all and which of them is better where a difference is shown."""
    if len(reports) == 1:
        return reports[0].as_dict()
    found = list(verdicts(*reports))
    return {"reports": [report.as_dict() for report in reports], "better": {name: best for name, best, _ in found},
            "ranking": {name: text for name, _, text in found}}


def lines(reports: Sequence[Report]) -> Iterator[str]:
    """The figures as lines of text, one report after the other."""
    for report in reports:
        yield from report.lines()
        if len(reports) == 1 and (helpful := advice(report)):
            yield "  what would help most: {}: {}".format(*helpful)
    if len(reports) > 1:
        yield ", ".join(f"{letter} is {report.name}" for letter, report in zip(LETTERS, reports, strict=False))
        for name, _, text in verdicts(*reports):
            yield f"  {name}: {text}"
