"""Build notebooks from the chapter's pages and the guide to notebooks: `python docs/build_site/notebooks.py`.

The page is the only source: its code becomes code cells, its printed output their output, and the rest Markdown.
Notebooks are JSON of nbformat 4, written with the standard library alone.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1]
FOLDER = DOCS.parent / "notebooks"
PAGES = {
    "1-encoder": ("chapter/encoder.md", "chapter/posterior.md"),
    "2-decoder": ("chapter/decoder.md",),
    "3-score": ("chapter/score.md", "chapter/equations.md"),
    "4-guidance": ("chapter/guidance.md",),
    "5-training": ("guides/notebook.md",),
}
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```output\n(.*?)```)?", re.DOTALL)
EQUATION = re.compile(r"^\$\$\n(.*?)\n\$\$(?: \(eq-([\w-]+)\))?$", re.MULTILINE | re.DOTALL)
HEAD = """*Generated from {pages}; edit that, not this file. It needs Ornstein: `pip install .` in its
folder. Run the cells from top to bottom.*"""


def tag(label: str) -> str:
    """Return the number or name of an equation: 20.6 for "20-6", "the bound" for "the-bound"."""
    return label.replace("-", "." if label[0].isdigit() else " ")


def equation(match: re.Match[str]) -> str:
    """Return a displayed equation in the form of notebooks: lines in an environment, the number as a tag."""
    text = match[1]
    if r"\\" in text and r"\begin{" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    number = rf" \tag{{{tag(match[2])}}}" if match[2] else ""
    return f"$$\n{text}{number}\n$$"


def notebook_of(page: str) -> str | None:
    """Return the name of the notebook that contains a page, given by its path below docs."""
    return next((name for name, pages in PAGES.items() if page in pages), None)


def target(page: str, link: str) -> str:
    """Return a link of a page relative to the folder of notebooks."""
    if re.match(r"\w+:|#", link):
        return link
    path, _, anchor = link.partition("#")
    below = (DOCS / page).parent.joinpath(path).resolve().relative_to(DOCS.parent.resolve()).as_posix()
    name = notebook_of(below.removeprefix("docs/"))
    return (f"{name}.ipynb" if name else f"../{below}") + (f"#{anchor}" if anchor else "")


def prose(page: str, text: str) -> str:
    """Convert MyST Markdown to the Markdown of notebooks."""
    text = EQUATION.sub(equation, text)
    text = re.sub(r"\{eq\}`eq-([\w-]+)`", lambda match: f"({tag(match[1])})", text)
    text = re.sub(r"\]\(([^)\s]+)\)", lambda match: f"]({target(page, match[1])})", text)
    text = text.replace("<details>\n<summary>Answer</summary>\n", "**Answer.**\n").replace("</details>\n", "")
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def notebook(pages: tuple[str, ...]) -> dict[str, object]:
    """Return the content of a notebook made of one page after another."""
    cells: list[dict[str, object]] = []

    def add(kind: str, source: str, **more: object) -> None:
        cells.append({"cell_type": kind, "id": f"cell-{len(cells):02}", "metadata": {}, **more,
                      "source": lines(source)})

    add("markdown", HEAD.format(pages=" and ".join(f"`docs/{page}`" for page in pages)))
    for page in pages:
        text, position = (DOCS / page).read_text("utf-8"), 0
        for block in [*BLOCK.finditer(text), None]:
            if markdown := prose(page, text[position:block.start() if block else None]):
                add("markdown", markdown)
            if block:
                outputs = [{"name": "stdout", "output_type": "stream", "text": lines(block[2])}] if block[2] else []
                add("code", block[1].rstrip("\n"), execution_count=None, outputs=outputs)
                position = block.end()
    return {"cells": cells, "metadata": {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"}}, "nbformat": 4, "nbformat_minor": 5}


def render(name: str) -> str:
    """Return the text of a notebook's file."""
    return json.dumps(notebook(PAGES[name]), indent=1, ensure_ascii=False) + "\n"


def main(folder: Path = FOLDER) -> None:
    """Write all notebooks."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in PAGES:
        (folder / f"{name}.ipynb").write_text(render(name), "utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:2]))
