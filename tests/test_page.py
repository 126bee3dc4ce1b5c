"""The page of an evaluation in a browser: readable on every screen, true to its figures, safe from its contents."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import partial
from itertools import pairwise, product

import matplotlib
import pytest
from PIL import Image

from ornstein.evaluation import charts
from ornstein.evaluation.page import render
from ornstein.evaluation.report import Curve, Interval, Pair, Report
from ornstein.evaluation.report_files import write_report
from ornstein.figures.chart import Line, Mark, intervals, lines, number, waterfall
from reports import alike, bare, report, words

SECTIONS = ["pictures", "next", "all", "distances", "likelihood", "levels", "steps", "memorisation",
            "restoration", "drawing", "card"]
HOSTILE = ["<script>alert(1)</script>", '"><img src=x onerror="alert(1)">', "{{ 7 * 7 }} {% for %}", "x" * 300,
           "Zähler 数字 ‮right to left 🙂", "']]>&amp;<svg onload=alert(1)>"]
# Of every text in a chart its box; two that share more than a hair lie on top of each other.
OVERLAPS = """() => [...document.querySelectorAll('svg.chart')].flatMap(chart => {
  const boxes = [...chart.querySelectorAll('text')].map(text => [text.textContent, text.getBoundingClientRect()]);
  const found = [];
  const outer = chart.getBoundingClientRect();
  boxes.forEach(([one, a], place) => {
    if (a.left < outer.left - 1 || a.right > outer.right + 1) found.push('outside: ' + one);
    boxes.slice(place + 1).forEach(([other, b]) => {
      const wide = Math.min(a.right, b.right) - Math.max(a.left, b.left);
      const high = Math.min(a.bottom, b.bottom) - Math.max(a.top, b.top);
      if (wide > 0.5 && high > a.height * 0.25) found.push(`${chart.ariaLabel}: ${one} | ${other}`);
    });
  });
  return found;
})"""
# Contrast of every text with the colour behind it, as WCAG 2 defines it; the lowest, and of which text.
CONTRAST = """() => {
  const light = colour => { const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(v => v / 255)
    .map(v => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
  const behind = node => { for (let one = node; one; one = one.parentElement) {
    const colour = getComputedStyle(one).backgroundColor;
    if (colour !== 'rgba(0, 0, 0, 0)') return colour; } return 'rgb(255, 255, 255)'; };
  let worst = [99, ''];
  for (const node of document.querySelectorAll('body *')) {
    if (![...node.childNodes].some(child => child.nodeType === 3 && child.textContent.trim())) continue;
    if (node.closest('title, desc') || !node.getBoundingClientRect().width) continue;
    const style = getComputedStyle(node), a = light(node.closest('svg') ? style.fill : style.color);
    const b = light(behind(node)), ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (ratio < worst[0]) worst = [ratio, node.textContent.slice(0, 60)];
  }
  return worst;
}"""


@pytest.fixture(scope="module", autouse=True)
def drawn_once():
    """A chart of the same figures is the same, and drawing it is most of what a page takes."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("intervals", "lines", "waterfall"):
            patch.setattr(charts, name, remembered(getattr(charts, name)))
        yield


def remembered(draw):
    known = {}

    def drawn(*args):
        if (key := repr(args)) not in known:
            known[key] = draw(*args)
        return known[key]

    return drawn


@pytest.fixture(scope="module")
def tab(browser):
    """One for all tests: to open it takes a browser longer than to show a page."""
    return browser.new_page()


@pytest.fixture
def opened(tab, tmp_path):
    """Shows a page of reports, one at a time; whatever it complains of, asks for or pops up is an error at the end."""
    trouble, shown = [], []
    heard = {"console": lambda message: trouble.append(f"console: {message.text}"),
             "pageerror": lambda error: trouble.append(f"error: {error}"),
             "dialog": lambda dialog: (trouble.append(f"dialog: {dialog.message}"), dialog.dismiss()),
             "request": lambda request: request.url == shown[-1] or request.url.startswith("data:image/png")
             or trouble.append(f"request: {request.url[:200]}")}
    for event, listen in heard.items():
        tab.on(event, listen)

    def open_page(reports, width=1280, unfolded=True):
        path = tmp_path / f"{len(shown)}.html"
        path.write_text(render(reports), "utf-8")
        shown.append(path.as_uri())
        tab.set_viewport_size({"width": width, "height": 900})
        tab.emulate_media(media="screen", color_scheme="light")
        tab.goto(shown[-1])
        if unfolded:
            tab.evaluate("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        return tab

    yield open_page
    for event, listen in heard.items():
        tab.remove_listener(event, listen)
    assert not trouble


@pytest.mark.parametrize("two", [False, True], ids=["one", "two"])
def test_the_page_is_readable_on_screens_and_on_paper(opened, two):
    """On paper in its colours even where the screen is dark, and with nothing to scroll."""
    page = opened([report(), report("longer", worse=2.0, seed=1)] if two else [report()])
    for width, scheme in product((1280, 360), ("light", "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        check_readable(page, two, least=10)
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(17, 22, 28)"
    page.set_viewport_size({"width": 672, "height": 900})  # A4
    page.emulate_media(media="print", color_scheme="dark")
    check_readable(page, two, least=8)
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    assert page.evaluate("[...document.querySelectorAll('table')].every(one => one.getBoundingClientRect().right <= "
                         "innerWidth)")


def check_readable(page, two, least):
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert [one.get_attribute("id") for one in page.query_selector_all("main section")] == SECTIONS
    sizes = page.evaluate("[...document.querySelectorAll('svg.chart')].map(one => one.getBoundingClientRect())"
                          ".map(box => [box.width, box.height])")
    assert len(sizes) == 6 + (2 if two else 1) + 2 + 1 + (2 if two else 1)
    assert all(wide > 200 and high > 40 for wide, high in sizes)
    assert page.evaluate(OVERLAPS) == []
    letters = page.evaluate("[...document.querySelectorAll('svg.chart text')].map(one => "
                            "one.getScreenCTM().a * parseFloat(getComputedStyle(one).fontSize))")
    assert min(letters) >= least
    ratio, text = page.evaluate(CONTRAST)
    assert ratio >= 4.5, text


def test_the_page_says_what_it_is_to_a_screen_reader(opened):
    page = opened([report(), report("other", seed=1)])
    levels = [int(one.evaluate("node => node.tagName[1]")) for one in page.query_selector_all("h1, h2, h3")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in pairwise(levels))
    assert page.get_attribute("html", "lang") == "en"
    assert all(one.get_attribute("alt") for one in page.query_selector_all("img"))
    assert all(one.get_attribute("scope") for one in page.query_selector_all("th"))
    assert all(one.get_attribute("aria-label") for one in page.query_selector_all("svg.chart, .scroll"))
    ids = page.evaluate("[...document.querySelectorAll('[id]')].map(one => one.id)")
    assert len(set(ids)) == len(ids) == 3 * len(SECTIONS) - 3  # section, title and, where it is folded, figures
    assert page.evaluate("document.images.length") == 4 + 8 + 2
    assert page.evaluate("[...document.images].every(one => one.naturalWidth > 0)")


def hostile_report(hostile: str) -> Report:
    """A report with a text in every place that has one."""
    one = report(hostile)
    one.measures[0] = replace(one.measures[0], name=hostile, features=hostile)
    one.likelihood[0] = replace(one.likelihood[0], name=hostile, grid=hostile, terms=((hostile, -151.4, 1.0),))
    one.levels[0] = replace(one.levels[0], name=hostile)
    one.notes.append(hostile)
    one.model[hostile] = {hostile: [hostile]}
    one.data |= {"classes": [hostile] * 3, "name": hostile, "kind": hostile}
    one.drawn["sampler"] = hostile
    one.seconds[hostile] = 1.0
    one.created = one.version = hostile
    one.memorisation = replace(one.memorisation, pairs=(Pair(1, 2, 0.1, hostile),))
    return one


@pytest.mark.parametrize("first", [0, 2, 4])
def test_whatever_a_report_holds_is_shown_as_text(opened, first):
    two = HOSTILE[first:first + 2]
    page = opened([hostile_report(hostile) for hostile in two], 390)
    assert all(hostile in page.inner_text(where) for hostile in two for where in ("h1", "#card", "#distances"))
    assert page.evaluate("document.querySelectorAll('script, [onerror], [onload], iframe').length") == 0
    assert page.evaluate("[...document.images].every(one => one.src.startsWith('data:image/png;base64,'))")
    assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert page.evaluate(OVERLAPS) == []


def test_a_page_without_anything_still_has_every_section(opened):
    for reports in ([bare()], [bare(), bare()], [report(), bare()]):
        page = opened(reports, 390)
        wanted = [name for name in SECTIONS if name not in ("steps", "restoration")
                  or any(one.steps for one in reports)]
        assert [one.get_attribute("id") for one in page.query_selector_all("main section")] == wanted
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")
    assert "Nothing was measured." in page.inner_text("header")


def test_parts_that_are_missing_are_left_out(opened):
    one = report()
    one.data["kind"] = "array"
    one.measures = [replace(measure, found=replace(measure.found, limit=None), floor=None) for measure in one.measures]
    one.likelihood = [replace(like, bits=None, bits_error=None, terms=()) for like in one.likelihood]
    one.restorations = []
    one.steps, one.levels = None, [Curve("held out", (-1.0, 0.0, 2.0), (0.5, float("nan"), 0.1), (0.1, 0.1, 0.1))]
    one.pictures = {"samples": Image.new("RGBA", (640, 400))}  # a drawing of traces
    page = opened([one])
    text = page.inner_text("body")
    assert "nats a sample at least" in page.inner_text(".figures")
    assert "real pictures" not in text
    assert "as measured" not in page.inner_text("#distances thead")
    assert page.evaluate("document.querySelectorAll('.small-picture').length") == 0
    assert len(page.query_selector_all("svg.chart")) == 6 + 1


def test_the_figures_are_summed_up_in_one_line(opened):
    lead = opened([words()]).inner_text(".figures")
    assert lead == ("A classifier tells samples from real pictures with AUC 0.60 [0.57, 0.63] where real ones score "
                    "0.49; no evidence of copying; 3.413 ± 0.029 bits a value at most.")
    found = words()
    found.memorisation = replace(found.memorisation, copies=True, share=0.2, p_value=2e-9, exact=0.1)
    page = opened([found])
    assert "It may be copying: these pictures lie closer to single training pictures than new ones would." in (
        page.inner_text(".lead"))
    assert "evidence of copying" in page.inner_text(".figures")
    assert "Evidence is not a verdict" in page.inner_text("#memorisation")


TERMS = re.compile(r"AUC|Fréchet|kernel|bits|nats|likelihood|log SNR|interval|\bp =", re.IGNORECASE)


def test_what_is_read_first_has_no_technical_term(opened):
    """A sentence, samples beside real ones, and the nearest pairs; every figure is folded away, but not on paper."""
    page = opened([report()], unfolded=False)
    first = page.inner_text("header") + page.inner_text("#pictures") + page.inner_text("#next")
    assert "A program can sometimes tell these pictures from real ones." in first
    assert "picks out the real one 60 times out of 100" in first
    assert not TERMS.search(first)
    assert page.evaluate("[...document.querySelectorAll('svg.chart, table')].every(one => !one.checkVisibility())")
    page.emulate_media(media="print")
    assert page.evaluate("[...document.querySelectorAll('svg.chart, table')].every(one => one.checkVisibility())")


def test_a_nearest_pair_is_named_by_its_file_where_it_has_one(opened):
    named = opened([words()]).locator(".pair span").all_inner_texts()
    assert [text.splitlines()[0] for text in named[1::2]] == ["training picture 12", "seven/1.png", "seven/2.png"]


def test_the_figures_on_the_page_are_those_of_the_report(opened, tmp_path):
    """Every figure of report.json is there unrounded, and what is shown is that figure to the last digit shown."""
    one = report()
    write_report(one, tmp_path)
    facts = json.loads((tmp_path / "report.json").read_text("utf-8"))
    page = opened([one])
    shown = {section: page.evaluate(f"[...document.querySelectorAll('#{section} data')]"
                                    ".map(one => [Number(one.value), one.textContent])")
             for section in ("distances", "likelihood", "memorisation", "restoration")}
    held = {section: {value for value, _ in found} for section, found in shown.items()}
    for measure in facts["measures"]:
        assert {measure[name] for name in ("value", "low", "high", "limit", "floor", "floor_low", "floor_high")
                } - {None} <= held["distances"]
    for like in facts["likelihood"]:
        assert {like[name] for name in ("nats", "error", "bits", "bits_error")} <= held["likelihood"]
        assert {value for _, *values in like["terms"] for value in values} <= held["likelihood"]
    copies = facts["memorisation"]
    assert {copies[name] for name in ("share", "expected", "threshold", "p_value", "distance", "typical")
            } <= held["memorisation"]
    found, = facts["restorations"]
    for name in ("half", "most", "crps", "error", "linear_crps", "linear_error"):
        assert {found[name][end] for end in ("value", "low", "high")} <= held["restoration"]
    for value, text in shown["distances"] + shown["likelihood"] + shown["restoration"]:
        mantissa, _, power = text.replace("−", "-").replace(",", "").partition("×10")
        unit = 10.0 ** int(power.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789"))) if power else 1.0
        last = unit * 10.0 ** -len(mantissa.partition(".")[2])
        assert abs(float(mantissa) * unit - value) <= 0.51 * last


def test_two_models_are_ranked_only_where_their_intervals_are_apart(opened):
    page = opened([words("A1"), words("B1", worse=2.0, seed=1)])
    verdicts = dict(zip(page.locator(".measure h3").all_inner_texts(), page.locator(".verdict").all_inner_texts(),
                        strict=True))
    assert verdicts["Told apart by a forest (AUC)"] == "A is better"
    assert verdicts["Recall"] == "No difference shown"
    assert "Of 6 measures A is better on 2 and B on 0; on 4 no difference is shown." in page.inner_text(".ranking")
    assert "Variational bound: A is better." in page.inner_text("#likelihood")
    assert "B on 2" in opened([words(worse=2.0), words()]).inner_text(".ranking")
    alike = opened([words(), words(worse=1.05)])
    assert "better" not in alike.inner_text(".ranking")
    assert set(alike.locator(".verdict").all_inner_texts()) == {"No difference shown"}


def test_models_judged_by_other_data_or_counts_are_not_ranked(opened):
    other = words(worse=3.0)
    other.data["held_out_sha256"] = "of other rows"
    page = opened([words(), other])
    assert set(page.locator(".verdict").all_inner_texts()) == {"Not ranked: other data"}
    assert "Nothing can be ranked." in page.inner_text(".ranking")
    fewer = words(worse=3.0)
    fewer.measures = [replace(measure, generated=100) for measure in fewer.measures]
    found = opened([words(), fewer]).locator(".verdict").all_inner_texts()
    assert found[0] == "A is better"  # the limit does not depend on the count
    assert found[4] == "Not ranked: other counts"


def test_a_difference_from_real_data_is_named_only_where_it_is_shown(opened):
    verdicts = opened([words()]).locator(".verdict").all_inner_texts()
    unseen = "This figure does not show the difference that others show"
    shown = "A difference from real pictures is shown"
    assert verdicts == [unseen, shown, unseen, unseen, shown]


def test_figures_that_show_nothing_are_no_praise(opened):
    """Whatever the number of rows, no sentence says that samples are like real ones or look right."""
    for real, verdict, first, figures in (
            (297, "No difference from real pictures shown",
             "No difference from real pictures could be shown, and 297 pictures would have shown a coarse one.",
             "No figure tells the samples from real pictures, which does not prove that they are alike (AUC 0.49"),
            (30, "Too few pictures to show a difference",
             "There are too few pictures to say (30): only a coarse difference would have shown, and none did.",
             "With so few pictures only coarse differences can be seen; none was, but that does not show the")):
        page = opened([alike(real)])
        assert set(page.locator(".verdict").all_inner_texts()) - {
            "Not compared: too few rows to remove the bias from both"} == {verdict}
        assert page.inner_text(".lead").strip() == first
        assert page.inner_text(".figures").startswith(figures)
        assert "look right" not in page.inner_text("body").replace("does not say that they look right", "")
        assert figures.lower()[:40] in str(alike(real)).lower()


def test_a_difference_that_the_forest_does_not_see_leads_all_the_same(opened):
    one = alike()
    one.measures[0] = replace(one.measures[0], found=Interval(10.0, 10.0, 9.0, 11.0))
    page = opened([one])
    assert page.inner_text(".lead").startswith("As a set, these pictures differ from real ones.")
    assert page.inner_text(".figures").startswith(
        "Samples differ from real pictures: shown by “Fréchet distance”, but not by AUC")
    assert "No difference from real" not in page.inner_text("#distances .measures")


def test_of_samples_unlike_the_data_no_copies_are_no_merit(opened):
    one = words(worse=3.4)  # an area of 0.84
    assert "these could hardly be copies, so this says little" in opened([one]).inner_text("#memorisation")


def test_a_page_shows_one_report_or_up_to_six():
    for count in (0, 7):
        with pytest.raises(ValueError, match=f"{count} reports"):
            render([bare()] * count)


@pytest.mark.parametrize(("value", "error", "text"), [
    (3.41234, 0.0213, "3.412"), (0.603, 0.031, "0.60"), (-110.23, 0.45, "−110.2"), (-0.0001, 0.02, "0.000"),
    (1234.5, 30, "1230"), (123_456, 3_210, "123,000"), (3.14e-5, 2.2e-6, "3.14×10⁻⁵"), (0, None, "0"),
    (0.5, None, "0.5"), (2e7, None, "2×10⁷"), (1e-6, None, "10⁻⁶"), (float("nan"), 1, "not finite")])
def test_a_number_has_the_digits_that_its_error_allows(value, error, text):
    assert number(value, error) == text


def test_an_axis_is_logarithmic_beyond_two_decades():
    assert ">0.001<" in lines([Line("loss", [0, 1, 2, 3], [1e-5, 1e-3, 0.1, 1])], "loss", "x", "y")
    assert ">0.4<" in lines([Line("loss", [0, 1], [0.0, 0.6])], "loss", "x", "y")


def test_a_chart_of_nothing_is_nothing():
    nan = float("nan")
    assert lines([Line("a", [0.0], [nan])], "t", "x", "y") == lines([], "t", "x", "y") == ""
    assert intervals([Mark("a", 0.1, nan, 0.2, "0.1")], "t", 0.0) == waterfall([], "t", "sum") == ""


@pytest.mark.slow
def test_a_chart_depends_on_nothing_but_what_it_shows():
    """Not on settings of matplotlib, nor on whether a name would be a formula, markup, a hidden name or a colour."""
    draw = partial(lines, [Line("_$x_1$ <b>\x1b[0m #000005", [0, 1], [1, 2], [0.1, 0.2])], "title & more", "x", "y")
    chart = draw()
    with matplotlib.rc_context({"font.size": 40, "axes.grid": True, "svg.fonttype": "path"}):
        assert draw() == chart
    assert ">_$x_1$ &lt;b&gt;\\x1b[0…<" in chart
    assert "#000005" in chart
    assert not re.findall('<style|<metadata| id=|href|url|style="[^"]*#', chart)
