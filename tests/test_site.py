"""The site as a reader meets it: built without a warning, whole without a network, readable on a desk and in a hand."""

from __future__ import annotations

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from xml.etree import ElementTree

import pytest

import ornstein
from conftest import made_once
from processes import Apart

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "build_site"))


@pytest.fixture(scope="session")
def site(tmp_path_factory) -> Path:
    def make(out: Path) -> None:
        done = Apart(out.with_name("sphinx"), sphinx, "--quiet", "--fail-on-warning", "--keep-going", "-d",
                     out / "doctrees", ROOT / "docs", out / "html")
        assert (done.wait(), done.said()) == (0, "")

    return made_once(tmp_path_factory, "site", make) / "html"


def sphinx(*words) -> None:
    from sphinx.cmd.build import main

    sys.exit(main([*map(str, words)]))


class Page(HTMLParser):
    """Anchors of a page, and what it points to."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        for name, value in attrs:
            if name == "id":
                self.anchors.add(value)
            elif name in ("href", "src") and value:
                self.links.append(value)


def test_links_lead_somewhere_and_nothing_is_taken_from_elsewhere(site):
    """Every link inside the site has its file and its anchor, and styles take nothing from a host."""
    pages = {path: Page(path) for path in site.rglob("*.html")}
    assert len(pages) > 20
    for path, page in pages.items():
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme in ("http", "https", "data"):
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            assert target.is_file(), f"{path.name}: {link}"
            if parts.fragment and target in pages and parts.fragment not in ("", "#"):
                assert unquote(parts.fragment) in pages[target].anchors, f"{path.name}: {link}"
    for style in site.rglob("*.css"):
        assert not re.search(r"url\(['\"]?https?:", style.read_text("utf-8")), style


def test_the_equations_of_section_20_1_have_the_numbers_of_the_book(site):
    """(20.1) to (20.17), each with an anchor of its own, in their order on two pages, and linked from the table."""
    found = [(page, *pair) for page in ("encoder", "posterior") for pair in re.findall(
        r'id="equation-eq-20-(\d+)".*?<span class="eqno">\(20\.(\d+)\)',
        (site / "chapter" / f"{page}.html").read_text("utf-8"), re.DOTALL)]
    assert [(int(anchor), int(number)) for _, anchor, number in found] == [(number, number) for number in range(1, 18)]
    index = (site / "chapter" / "index.html").read_text("utf-8")
    for page, _, number in found:
        assert re.search(rf'href="{page}\.html#equation-eq-20-{number}">\(20\.{number}\)</a>', index), number


@pytest.mark.parametrize("page", ["encoder", "posterior", "decoder", "score", "equations", "guidance"])
def test_no_formula_loses_a_part_on_its_way_to_the_site(site, page):
    """Fractions, roots, hats and bold letters of a page are as many in its MathML, and fractions have two parts."""
    source = re.sub(r"```.*?```", "", (ROOT / "docs" / "chapter" / f"{page}.md").read_text("utf-8"), flags=re.DOTALL)
    built = "".join(re.findall(r"<math.*?</math>", (site / "chapter" / f"{page}.html").read_text("utf-8"), re.DOTALL))
    for written, tag in ((r"\\frac\b", "<mfrac>"), (r"\\sqrt\b", "<msqrt>"), (r"\\(?:hat|bar|dot)\b", "<mover "),
                         (r"\\boldsymbol\{\\epsilon\}", "\N{MATHEMATICAL BOLD ITALIC EPSILON SYMBOL}"),
                         (r"\\boldsymbol\{\\mu\}", "\N{MATHEMATICAL BOLD ITALIC SMALL MU}")):
        assert built.count(tag) == len(re.findall(written, source)), written
    known = re.sub(r"&(?!(?:lt|gt|amp);)\w+;", " ", built)  # HTML names characters that XML does not
    tree = ElementTree.fromstring(f"<page>{known}</page>")  # noqa: S314
    assert {len(fraction) for fraction in tree.iter("{http://www.w3.org/1998/Math/MathML}mfrac")} <= {2}


def test_a_slice_in_a_docstring_is_a_slice_on_the_site(site):
    """And not the words before a colon and those after it."""
    text = re.sub(r"<[^>]+>", "", (site / "reference" / "schedules.html").read_text("utf-8"))
    assert "event shape z.shape[1:]." in text
    for page in (site / "reference").glob("*.html"):
        assert not re.search(r"\[[^\]\n]* (?:–|-) \]", re.sub(r"<[^>]+>", "", page.read_text("utf-8"))), page.name


def test_every_public_name_is_in_the_reference(site):
    names = set(re.findall(r'id="ornstein\.(\w+)"', "".join(
        path.read_text("utf-8") for path in (site / "reference").glob("*.html"))))
    assert set(ornstein.__all__) - {"__version__"} <= names


def test_the_drawing_has_the_floors_that_the_imports_are_held_to(site):
    """The table on the page is the one that test_architecture holds; the drawing has every room, and no false line."""
    import house

    from test_architecture import FLOORS

    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    drawn = house.floors(page)
    there = {floor: {room for room in rooms if (ornstein_file(room)).exists()} for floor, rooms in FLOORS.items()}
    assert {floor: set(rooms) for floor, rooms in drawn.items()} == {
        floor: rooms - {"__main__"} for floor, rooms in there.items()}
    pairs, lines = house.edges([room for rooms in drawn.values() for room in rooms])
    assert ("diffusion.decoder", "diffusion.encoder") in pairs
    assert ("diffusion.encoder", "diffusion.estimate") not in pairs
    assert reach(house.reduce(pairs)) == reach(pairs)
    assert sum(lines.values()) == sum(len(path.read_text("utf-8").splitlines()) for path in house.SOURCE.rglob("*.py"))
    assert (site / "architecture.html").read_text("utf-8").count("<rect ") == len(lines)


def test_the_logo_is_what_the_program_draws(tmp_path):
    """Number for number, but for the rounding of another machine; `make figures` draws it anew."""
    import figures

    figures.logo(tmp_path)
    for path in tmp_path.iterdir():
        kept, drawn = ([float(number) for number in re.findall(r"-?\d+\.\d+", one.read_text("utf-8"))]
                       for one in (ROOT / "docs" / "_static" / path.name, path))
        assert len(kept) == len(drawn) > 1000
        assert max(abs(a - b) for a, b in zip(kept, drawn, strict=True)) < 0.05


def ornstein_file(room: str) -> Path:
    path = ROOT / "src" / "ornstein" / room.replace(".", "/")
    return path if path.is_dir() and (path / "__init__.py").exists() else path.with_suffix(".py")


def reach(pairs: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The pairs between which there is a way, by Warshall."""
    rooms, found = {room for pair in pairs for room in pair}, set(pairs)
    for middle in rooms:
        into, out = ({one for one, other in found if other == middle}, {other for one, other in found if one == middle})
        found |= {(one, other) for one in into for other in out}
    return found


@pytest.mark.parametrize(("width", "pages"), [
    (390, ["index", "gallery", "architecture", "guides/data", "chapter/encoder", "reference/schedules"]),
    *(pytest.param(width, ["**/*"], marks=pytest.mark.slow) for width in (390, 1280))])
def test_every_page_is_whole_in_a_browser(site, browser, width, pages):
    """No complaint, nothing from another host, nothing to scroll sideways, every picture there."""
    trouble: list[str] = []
    context = browser.new_context(viewport={"width": width, "height": 900})
    page = context.new_page()
    page.on("console", lambda message: trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("request", lambda request: request.url.startswith(("file:", "data:")) or trouble.append(request.url))
    for path in sorted(path for name in pages for path in site.glob(f"{name}.html")):
        page.goto(path.as_uri())
        wide = page.evaluate("document.scrollingElement.scrollWidth")
        assert wide <= width, f"{path.relative_to(site)} is {wide} pixels wide"
        assert page.evaluate("[...document.images].every(one => one.complete && one.naturalWidth > 0)"), path
        assert not trouble, path
    context.close()
