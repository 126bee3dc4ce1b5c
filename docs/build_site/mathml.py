"""Render mathematics as MathML, which browsers draw natively: no script, no font, no network.

An equation labelled `eq-20-6` has the number of the book, (20.6), as its own number and as the text of links to it; one
labelled `eq-the-bound` has its name, (the bound). Bold Greek letters become bold Unicode characters, because docutils
drops a group after `\\boldsymbol`.
"""

from __future__ import annotations

import re
import unicodedata

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

BOOK, NAME = re.compile(r"eq-20-(\d+)$"), re.compile(r"eq-([a-z][a-z-]*)$")
BOLD = re.compile(r"\\boldsymbol\{\\(\w+)\}")
FUNCTION = re.compile(r"\\(?:log|sin|cos)(?=\s+(?:[A-Za-z]|\\(?!left)))")  # TeX puts a thin space after it
NAMES = {"epsilon": "EPSILON SYMBOL"}  # Unicode names other than SMALL and the letter


def mathml(text: str, as_block: bool = False) -> str:
    """Convert TeX to MathML."""
    def bold(match: re.Match[str]) -> str:
        return unicodedata.lookup(f"MATHEMATICAL BOLD ITALIC {NAMES.get(match[1], f'SMALL {match[1].upper()}')}")

    return tex2mathml(FUNCTION.sub(r"\g<0>\\, ", BOLD.sub(bold, text)), as_block=as_block)


def number(app, doctree) -> None:
    """Number the labelled equations of a page as the book does, or by their names."""
    domain = app.env.get_domain("math")
    for node in doctree.findall(nodes.math_block):
        label = node.get("label") or ""
        if match := BOOK.match(label):
            node["number"] = f"20.{match[1]}"
        elif match := NAME.match(label):
            node["number"] = match[1].replace("-", " ")
        if match:
            domain.equations[node["label"]] = (app.env.docname, node["number"])


def inline(self, node) -> None:
    self.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def display(self, node) -> None:
    # Not the class `math`, which themes style for JavaScript renderers.
    self.body.append(self.starttag(node, "div", CLASS="equation"))
    text = node.astext().strip()
    if r"\\" in text and "begin{" not in text:
        text = rf"\begin{{aligned}}{text}\end{{aligned}}"
    self.body.append(f'<div class="formula" tabindex="0">{mathml(text, as_block=True)}</div>')
    if node["number"]:
        self.body.append(f'<span class="eqno">({node["number"]})')
        self.add_permalink_ref(node, "Link to this equation")
        self.body.append("</span>")
    self.body.append("</div>\n")
    raise nodes.SkipNode


def setup(app) -> dict[str, bool]:
    app.add_html_math_renderer("mathml", (inline, None), (display, None))
    app.connect("doctree-read", number)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
