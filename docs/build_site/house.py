"""Draw the architecture: floors from `architecture.md`, rooms as boxes, and imports between rooms as lines.

The directive `{house}` inserts an inline SVG, so that it has the page's colours, light and dark. Imports that a path
through other rooms implies are left out: the drawing is the transitive reduction.
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
    """Return the rooms of each floor, as dotted names below `ornstein`, from a page's table; "" is the package."""
    rooms: dict[int, list[str]] = {}
    for number, cell in re.findall(r"^\| (\d+) \| (.*?) \|", page, re.MULTILINE):
        rooms.setdefault(int(number), []).extend(
            name.removesuffix("__init__.py").removesuffix(".py").strip("/").replace("/", ".")
            for name in re.findall(r"`([^`]+)`", cell))
    return rooms


def imports(path: Path) -> set[str]:
    """Return the modules of Ornstein that a file imports, as dotted names below `ornstein`."""
    modules = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            modules |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return {name.removeprefix("ornstein").strip(".") for name in modules if name.split(".")[0] == "ornstein"}


def edges(rooms: list[str]) -> tuple[set[tuple[str, str]], dict[str, int]]:
    """Return the pairs (importing room, imported room), and the lines of code in each room."""
    def room_of(module: str) -> str:
        return max((room for room in rooms if room and (module == room or module.startswith(f"{room}."))),
                   key=len, default="")

    pairs, lines = set(), dict.fromkeys(rooms, 0)
    for path in sorted(SOURCE.rglob("*.py")):
        importer = room_of(".".join(path.relative_to(SOURCE).with_suffix("").parts).removesuffix(".__init__"))
        lines[importer] += len(path.read_text("utf-8").splitlines())
        pairs |= {(importer, room) for name in imports(path) if (room := room_of(name)) not in ("", importer)}
    return pairs, lines


def reduce(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """Return the transitive reduction of an acyclic graph."""
    imported_by: dict[str, set[str]] = {}
    for importer, room in pairs:
        imported_by.setdefault(importer, set()).add(room)

    @cache
    def reach(room: str) -> frozenset[str]:
        return frozenset(imported_by.get(room, ())).union(*map(reach, imported_by.get(room, ())))

    return {(importer, room) for importer, room in pairs
            if not any(room in reach(other) for other in imported_by[importer] - {room})}


def draw(page: str) -> str:
    """Return the SVG of a page's table."""
    table = floors(page)
    rooms = [room for floor in table.values() for room in floor]
    pairs, lines = edges(rooms)
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
    for importer, imported in sorted(reduce(pairs)):
        (x, y, width), (end_x, end_y, end_width) = boxes[importer], boxes[imported]
        x, y, end_x = x + width / 2, y + HIGH, end_x + end_width / 2
        parts.append(f'<path d="M{x:.1f} {y:.1f} C{x:.1f} {y + 30:.1f} {end_x:.1f} {end_y - 30:.1f} '
                     f'{end_x:.1f} {end_y:.1f}"/>')
    for room, (x, y, size) in boxes.items():
        name = html.escape(room.rpartition(".")[2] or "ornstein")
        imported = ", ".join(sorted(other or "ornstein" for importer, other in pairs if importer == room)) or "no room"
        parts.append(f'<g><title>{html.escape(room or "ornstein")} imports {imported}; {lines[room]:,} lines</title>'
                     f'<rect x="{x:.1f}" y="{y}" width="{size:.1f}" height="{HIGH}" rx="4"/>'
                     f'<text x="{x + size / 2:.1f}" y="{y + 15}">{name}</text>'
                     f'<text class="lines" x="{x + size / 2:.1f}" y="{y + 28}">{lines[room]:,}</text></g>')
    return "".join([*parts, "</svg></div>"])


class House(Directive):
    """The directive `{house}`, without arguments."""

    def run(self) -> list[nodes.Node]:
        return [nodes.raw("", draw((DOCS / "architecture.md").read_text("utf-8")), format="html")]


def setup(app) -> dict[str, bool]:
    app.add_directive("house", House)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
