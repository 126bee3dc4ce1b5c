"""Docstrings of the house are plain text: what reStructuredText would read as marks is kept as it was written."""

from __future__ import annotations

import re

# Back quotes with the letters after them, and slices.
CODE = re.compile(r"(`[^`]+`(?:_[a-z]+)?|\b[\w.]+\[[^\]\s]*:[^\]\s]*\])")


def escape(line: str) -> str:
    """Single back quotes become code, and so do slices, whose colon napoleon would take for the end of a type; stars,
    bars and closing underscores outside of them are what they are.
    """
    return "".join(f"``{part.strip('`')}``" if number % 2 else re.sub(r"([*|]|_(?=\W|$))", r"\\\1", part)
                   for number, part in enumerate(CODE.split(line)))


def plain(_app, what, _name, _thing, _options, lines: list[str]) -> None:
    """Escape a docstring and keep its line breaks inside formulas."""
    lines[:] = [escape(line) for line in lines if not line.startswith("Alias for field number")]
    if what in ("property", "attribute"):
        lines.insert(0, "")  # else napoleon takes the words before a colon for a type


def setup(app) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon reads the sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}
