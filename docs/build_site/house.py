"""The house drawn from its imports: floors from `architecture.md`, rooms as boxes, and who leans on whom as lines.

`{house}` in a page becomes an SVG in its text, so that it has the page's colours, light and dark. Only lines that no
way through other rooms stands for are drawn: the smallest graph with the same reach.
"""

from __future__ import annotations

import ast
import html
import re
from functools import cache
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

DOCS = Path(__file__).parents[1]
SOURCE = DOCS.parent / "src" / "ornstein"
WIDE, LETTER, HIGH, FLOOR = 730, 7.4, 34, 62


def floors(page: str) -> dict[int, list[str]]:
    """Floor to its rooms, as dotted names below `ornstein`, from the table of a page; "" is the package itself."""
    found: dict[int, list[str]] = {}
    for number, cell in re.findall(r"^\| (\d+) \| (.*?) \|", page, re.MULTILINE):
        found.setdefault(int(number), []).extend(
            name.removesuffix("__init__.py").removesuffix(".py").strip("/").replace("/", ".")
            for name in re.findall(r"`([^`]+)`", cell))
    return found


def imports(path: Path) -> set[str]:
    """Modules of ours that a file imports, as dotted names below `ornstein`."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("ornstein").strip(".") for name in found if name.split(".")[0] == "ornstein"}


def edges(rooms: list[str]) -> tuple[set[tuple[str, str]], dict[str, int]]:
    """(who, on whom) for all rooms, and the lines of code in each."""
    def room_of(module: str) -> str:
        return max((room for room in rooms if room and (module == room or module.startswith(f"{room}."))),
                   key=len, default="")

    found, lines = set(), dict.fromkeys(rooms, 0)
    for path in sorted(SOURCE.rglob("*.py")):
        here = room_of(".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"))
        lines[here] += len(path.read_text("utf-8").splitlines())
        found |= {(here, there) for name in imports(path) if (there := room_of(name)) not in ("", here)}
    return found, lines


def reduce(found: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Without the pairs that a longer way stands for; the graph has no circles."""
    below: dict[str, set[str]] = {}
    for who, whom in found:
        below.setdefault(who, set()).add(whom)

    @cache
    def reach(room: str) -> frozenset[str]:
        return frozenset(below.get(room, ())).union(*(reach(one) for one in below.get(room, ())))

    return {(who, whom) for who, whom in found if not any(whom in reach(other) for other in below[who] - {whom})}


def draw(page: str) -> str:
    """The SVG."""
    table = floors(page)
    rooms = [room for floor in table.values() for room in floor]
    found, lines = edges(rooms)
    top = max(table)
    boxes: dict[str, tuple[float, float, float]] = {}
    for floor, names in table.items():
        sizes = [max(56.0, 18 + LETTER * len(room.rpartition(".")[2] or "ornstein")) for room in names]
        space = (WIDE - 40 - sum(sizes)) / (len(names) + 1)
        left = 40.0
        for room, size in zip(names, sizes, strict=True):
            left += space
            boxes[room] = (left, 10 + (top - floor) * (HIGH + FLOOR), size)
            left += size
    high = 10 + (top - min(table)) * (HIGH + FLOOR) + HIGH + 10
    parts = [f'<div class="house" tabindex="0"><svg viewBox="0 0 {WIDE} {high}" width="{WIDE}" height="{high}" '
             'role="img" aria-label="Rooms by floor, and which room imports which">']
    parts += [f'<text class="floor" x="4" y="{10 + (top - floor) * (HIGH + FLOOR) + 21}">{floor}</text>'
              for floor in table]
    for who, whom in sorted(reduce(found)):
        x, y, size = boxes[who]
        to, below, other = boxes[whom]
        a, b, c, d = x + size / 2, y + HIGH, to + other / 2, below
        parts.append(f'<path d="M{a:.1f} {b:.1f} C{a:.1f} {b + 30:.1f} {c:.1f} {d - 30:.1f} {c:.1f} {d:.1f}"/>')
    for room, (x, y, size) in boxes.items():
        name = html.escape(room.rpartition(".")[2] or "ornstein")
        leans = ", ".join(sorted(whom or "ornstein" for who, whom in found if who == room)) or "nothing of ours"
        parts.append(f'<g><title>{html.escape(room or "ornstein")} imports {leans}; {lines[room]:,} lines</title>'
                     f'<rect x="{x:.1f}" y="{y}" width="{size:.1f}" height="{HIGH}" rx="4"/>'
                     f'<text x="{x + size / 2:.1f}" y="{y + 15}">{name}</text>'
                     f'<text class="lines" x="{x + size / 2:.1f}" y="{y + 28}">{lines[room]:,}</text></g>')
    return "".join([*parts, "</svg></div>"])


class House(Directive):
    """The drawing, without arguments."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", draw((DOCS / "architecture.md").read_text("utf-8")), format="html")]


def setup(app) -> dict[str, bool]:
    app.add_directive("house", House)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
