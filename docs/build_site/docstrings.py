"""Show docstrings as the plain text that they are: escape whatever reStructuredText would read as markup."""

from __future__ import annotations

import re

# Back quotes with the letters after them, and slices.
CODE = re.compile(r"(`[^`]+`(?:_[a-z]+)?|\b[\w.]+\[[^\]\s]*:[^\]\s]*\])")


def escape(line: str) -> str:
    """Turn text in single back quotes into code, and slices too, whose colon napoleon would take for the end of a type;
    escape stars, bars and trailing underscores elsewhere.
    """
    return "".join(f"``{part.strip('`')}``" if number % 2 else re.sub(r"([*|]|_(?=\W|$))", r"\\\1", part)
                   for number, part in enumerate(CODE.split(line)))


def plain(_app, what, _name, _thing, _options, lines: list[str]) -> None:
    """Escape a docstring and keep its line breaks inside formulas."""
    lines[:] = [escape(line) for line in lines if not line.startswith("Alias for field number")]
    if what in ("property", "attribute"):
        lines.insert(0, "")  # otherwise napoleon takes the words before a colon for a type


def setup(app) -> dict[str, bool]:
    app.connect("autodoc-process-docstring", plain, priority=400)  # before napoleon reads the sections
    return {"parallel_read_safe": True, "parallel_write_safe": True}
