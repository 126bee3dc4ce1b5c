"""The studio's page in a browser, on a real server: every tab works, by keyboard too, and no other host is asked."""

from __future__ import annotations

import io
import re
import socket
import threading
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
import uvicorn
from PIL import Image

import ornstein as orn
from ornstein.studio.deadlines import DeadlineProtocol
from ornstein.studio.limits import MAX_HEADER
from ornstein.studio.server import PAGE, create_app
from ornstein.studio.state import Studio

TABS = ["train", "generate", "edit", "forward", "gallery"]
AXE = Path(__file__).parent / "axe" / "axe.min.js"
SEED = 31_415_926  # which no seed by chance contains


class Served:
    """A studio on a free port, in a thread."""

    def __init__(self, runs, folder):
        self.door = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self.door.getsockname()[1]}/"
        self.server = uvicorn.Server(uvicorn.Config(create_app(Studio(runs, folder)), http=DeadlineProtocol, ws="none",
                                                    log_config=None, h11_max_incomplete_event_size=MAX_HEADER,
                                                    timeout_graceful_shutdown=1))
        self.thread = threading.Thread(target=self.server.run, args=([self.door],), daemon=True)
        self.thread.start()

    def close(self):
        self.server.should_exit = True
        self.thread.join(20)
        self.door.close()


@pytest.fixture(scope="module")
def served(trained, tmp_path_factory):
    studio = Served(trained, tmp_path_factory.mktemp("studio"))
    yield studio
    studio.close()


def watched(browser, url):
    """A page, and what goes wrong on it: words on the console, errors, requests to others."""
    page, trouble = browser.new_page(), []
    page.on("console", lambda message: trouble.append(f"console: {message.text}"))
    page.on("pageerror", lambda error: trouble.append(f"error: {error}"))
    page.on("request", lambda request: request.url.startswith(("data:", "blob:")) or urlsplit(request.url).netloc
            == urlsplit(url).netloc or trouble.append(f"request: {request.url}"))
    page.set_default_timeout(20_000)
    return page, trouble


@pytest.fixture(scope="module")
def filled(browser, served):
    """One page for all tests, with pictures drawn on it."""
    page, trouble = watched(browser, served.url)
    page.goto(served.url)
    page.get_by_label("How many", exact=True).fill("3")
    page.get_by_role("slider", name="Network calls").fill("4")
    page.get_by_label("A new seed each time").uncheck()
    page.get_by_role("textbox", name="Seed").fill(str(SEED))
    page.get_by_role("button", name="Draw", exact=True).click()
    page.locator("#panel-generate .cost").wait_for()
    page.evaluate(AXE.read_text("utf-8"))
    yield page, trouble
    page.close()


@pytest.fixture
def page(filled):
    page, trouble = filled
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")
    trouble.clear()
    yield page
    assert not trouble


def fetched(page, served, path):
    with Image.open(io.BytesIO(page.request.get(served.url.rstrip("/") + path).body())) as image:
        return np.array(image)


def shown(page, selector):
    """The addresses of pictures, once they are there."""
    page.locator(selector).first.wait_for()
    return page.evaluate("selector => [...document.querySelectorAll(selector)].map(one => one.getAttribute('src'))",
                         selector)


def test_the_page_comes_with_its_licences_and_asks_no_other_host():
    """All of it, unpacked, is below 300 kB, and everything that it names is in the package."""
    parts = {path.relative_to(PAGE).as_posix() for path in PAGE.rglob("*") if path.is_file()}
    assert {"index.html", "style.css", "icon.svg", "app.js", *(f"{tab}.js" for tab in TABS)} <= parts
    assert {f"vendor/{name}" for name in ("preact.js", "preact.LICENSE", "htm.LICENSE", "uPlot.iife.min.js",
                                          "uPlot.min.css", "uPlot.LICENSE")} <= parts
    assert sum((PAGE / part).stat().st_size for part in parts) < 300_000
    assert (AXE.parent / "LICENSE").is_file()
    index = (PAGE / "index.html").read_text("utf-8")
    named = set(re.findall(r'(?:src|href)="([^"]+)"', index)) - {"/openapi.json", "api/models"}
    for part in parts:
        if part.endswith(".js") and "/" not in part:
            text = (PAGE / part).read_text("utf-8")
            assert "://" not in text
            named |= {name.removeprefix("./") for name in re.findall(r'from "([^"]+)"', text)}
    assert named <= parts
    assert not re.search(r"<style|<script(?![^>]*src)| style=| on\w+=", index)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_every_tab_can_be_read_by_everyone(page, width, scheme):
    """Axe finds nothing serious, and nothing is wider than the screen."""
    page.set_viewport_size({"width": width, "height": 900})
    page.emulate_media(color_scheme=scheme)
    rules = {"resultTypes": ["violations"]} | ({} if scheme == "light" else {"runOnly": ["color-contrast"]})
    for tab in TABS:
        page.locator(f"#tab-{tab}").click()
        page.locator(f"#panel-{tab} h1").wait_for()
        found = page.evaluate("([tab, rules]) => axe.run(`#panel-${tab}, header`, rules)", [tab, rules])["violations"]
        assert not [(tab, one["id"], one["nodes"][0]["html"]) for one in found
                    if one["impact"] in ("serious", "critical")]
        assert page.evaluate("document.scrollingElement.scrollWidth <= innerWidth")


def test_tabs_are_walked_with_the_arrow_keys(page):
    page.locator("#tab-train").click()
    page.keyboard.press("ArrowRight")
    for before, after in pairwise([*TABS[1:], "train"]):
        assert page.evaluate("document.activeElement.id") == f"tab-{before}"
        assert page.locator("[role=tabpanel]:visible").get_attribute("id") == f"panel-{before}"
        assert page.locator("[role=tab][tabindex='0']").count() == 1
        page.keyboard.press("ArrowRight")
        assert page.evaluate("document.activeElement.id") == f"tab-{after}"


def test_pictures_are_those_of_the_seed(page, served, trained):
    """What the page shows is what `orn.sample` draws."""
    page.locator("#tab-generate").click()
    there = [fetched(page, served, path) for path in shown(page, "#panel-generate .tile img")]
    model = orn.load(trained)
    drawn = model.data.decode(orn.sample(model, 3, nfe=4, seed=SEED, condition=[0, 1, 2]))
    assert len(there) == 3
    for picture, values in zip(there, drawn, strict=True):
        assert np.abs(picture[..., 0] - 255 / 16 * np.asarray(values).squeeze()).max() <= 1


def test_one_picture_is_drawn_again_and_the_others_stay(page):
    page.locator("#tab-generate").click()
    before = shown(page, "#panel-generate .tile img")
    page.get_by_role("button", name="Reroll: Picture 2").click()
    page.wait_for_function("""before => {
        const now = document.querySelectorAll('#panel-generate .tile img')[1].getAttribute('src');
        return now !== before && now.endsWith('.png');
    }""", arg=before[1])
    after = shown(page, "#panel-generate .tile img")
    assert (after[0], after[2]) == (before[0], before[2])


def test_what_is_wrong_stands_beside_its_field_and_nothing_is_lost(filled):
    page, trouble = filled
    page.locator("#tab-generate").click()
    page.get_by_label("How many", exact=True).fill("65")
    page.get_by_role("button", name="Draw", exact=True).click()
    field = page.get_by_label("How many", exact=True)
    page.locator("#panel-generate .wrong").wait_for()
    assert field.get_attribute("aria-invalid") == "true"
    assert "64" in page.locator(f"[id='{field.get_attribute('aria-describedby')}']").inner_text()
    assert page.locator("#panel-generate .tile img").count() == 3
    assert [line for line in trouble if "422" not in line] == []
    page.get_by_label("How many", exact=True).fill("3")


def test_the_encoder_follows_the_slider(page, trained):
    """The numbers on the page are those of q(z_t | x), and the line of Python gives the same."""
    page.locator("#tab-forward").click()
    page.get_by_role("button", name="Draw one").click()
    page.get_by_text("The pixel is").wait_for()
    page.get_by_role("slider", name="Time t").fill("0.6")
    page.locator("code", has_text="kernel(x, 0.6); q.mean").wait_for()
    x, mean, variance = (float(one.replace("−", "-")) for one in page.locator(
        ".reading", has_text="The pixel is").locator("b").all_inner_texts())
    level = orn.load(trained).schedule.level(0.6)
    assert mean == pytest.approx(float(level.signal) * x, abs=2e-3)
    assert variance == pytest.approx(float(level.noise) ** 2, rel=2e-3)
    assert page.locator("#panel-forward .number").all_inner_texts() == [
        "(20.8)", "(20.7), (20.8)", "from (20.7)", "(20.6)", "(20.15)–(20.17)"]


def test_a_hole_is_filled_and_the_rest_stays(page, served):
    """The lower half by a button of the mask: every answer has the picture's own upper half."""
    page.locator("#tab-generate").click()
    path, = shown(page, "#panel-generate .tile img")[:1]
    page.get_by_role("button", name="Edit: Picture 1, 0").click()
    page.get_by_role("button", name="Lower half").click()
    page.get_by_label("How many answers").fill("4")
    page.get_by_role("slider", name="Network calls per answer").fill("10")
    page.get_by_role("button", name="Fill", exact=True).click()
    page.get_by_text("white is where they differ most").wait_for()
    answers = [fetched(page, served, one) for one in shown(page, "#panel-edit .tiles img") if "/samples/" in one]
    given = fetched(page, served, path)
    assert len(answers) == 4
    assert all((one[:4] == given[:4]).all() for one in answers)
    assert any((one[4:] != given[4:]).any() for one in answers)
    page.locator("#tab-gallery").click()
    page.get_by_label("Kind", exact=True).select_option("fill")
    page.get_by_role("status").filter(has_text=re.compile("^4 pictures$")).wait_for()
    page.locator(".wall .tile").first.click()
    page.get_by_role("button", name="Edit again").click()
    assert page.get_by_label("How many answers").input_value() == "4"
    page.wait_for_function("""() => {
        const canvas = document.querySelector('.mask canvas'), { width, height } = canvas;
        const pixels = canvas.getContext('2d').getImageData(0, 0, width, height).data;
        return pixels[3] === 0 && pixels[pixels.length - 1] === 255;
    }""")  # the mask is painted as it was
    page.locator("#tab-gallery").click()
    page.get_by_label("Kind", exact=True).select_option("")


def test_a_picture_of_ornstein_fills_in_the_form(page, served, tmp_path):
    page.locator("#tab-generate").click()
    path = shown(page, "#panel-generate .tile img")[0]
    (tmp_path / "mine.png").write_bytes(page.request.get(served.url.rstrip("/") + path).body())
    page.get_by_role("textbox", name="Seed").fill("99")
    page.locator("#tab-gallery").click()
    page.get_by_text("Read the settings inside a picture").click()
    page.locator("#panel-gallery input[type=file]").set_input_files(tmp_path / "mine.png")
    page.get_by_role("button", name="Use these settings").click()
    assert page.get_by_role("textbox", name="Seed").input_value() == str(SEED)
    assert page.get_by_label("How many", exact=True).input_value() == "3"


def test_the_gallery_finds_marks_and_bins(page):
    page.locator("#tab-gallery").click()
    page.get_by_label("Search").fill(f"{SEED} generate")
    page.get_by_role("status").filter(has_text=re.compile("^3 pictures$")).wait_for()
    page.locator(".wall .tile").first.click()
    page.get_by_role("button", name="☆ Favourite").click()
    page.get_by_role("button", name="★ Favourite").wait_for()
    page.get_by_role("button", name="Move to the bin").click()
    page.get_by_role("status").filter(has_text=re.compile("^2 pictures$")).wait_for()
    page.get_by_label("Bin").check()
    page.get_by_role("status").filter(has_text=re.compile("^1 picture$")).wait_for()
    page.locator(".wall .tile").first.click()
    page.get_by_role("button", name="Take out of the bin").click()
    page.get_by_text("Nothing found").wait_for()
    page.get_by_role("button", name="Show all").click()


def test_pictures_that_are_dropped_are_counted_before_anything_is_sent(page, tmp_path):
    for number in range(3):
        Image.new("L", (8, 8), 80 * number).save(tmp_path / f"{number}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    page.locator("#tab-train").click()
    page.locator("#panel-train input[multiple]:not([webkitdirectory])").set_input_files(sorted(tmp_path.iterdir()))
    assert page.locator("#panel-train .card h2").first.inner_text() == "3 files selected"
    assert "1 file ignored (not a picture)" in page.locator("#panel-train").inner_text()
    page.get_by_role("button", name="Choose others").click()


def test_without_a_model_every_tab_says_what_to_do_first(browser, tmp_path):
    studio = Served(None, tmp_path)
    page, trouble = watched(browser, studio.url)
    try:
        page.goto(studio.url)
        page.get_by_text("Drop your pictures here").wait_for()
        for tab in TABS[1:]:
            page.locator(f"#tab-{tab}").click()
            page.locator(f"#panel-{tab}").get_by_role("button", name="Train a model").wait_for()
        assert not trouble
    finally:
        page.close()
        studio.close()


@pytest.mark.slow
def test_a_folder_that_is_dropped_becomes_pictures_without_a_command(browser, tmp_path):
    """All that a person does who has only the address: choose a folder, start, watch, draw."""
    for name, shade in (("dark", 40), ("light", 200)):
        (tmp_path / "shades" / name).mkdir(parents=True)
        for number in range(60):
            values = np.random.default_rng(number).integers(-30, 30, (12, 12)) + shade
            Image.fromarray(values.astype(np.uint8)).save(tmp_path / "shades" / name / f"{number}.png")
    studio = Served(None, tmp_path / "studio")
    page, trouble = watched(browser, studio.url)
    page.set_default_timeout(240_000)
    try:
        page.goto(studio.url)
        page.locator("#panel-train input[webkitdirectory]").set_input_files(tmp_path / "shades")
        page.get_by_label("Minutes").fill("0.5")
        page.get_by_role("button", name="Start training").click()
        page.locator(".training .reasons li").first.wait_for()
        page.locator(".training .status.done").wait_for()
        page.locator(".training .preview-sheet img").wait_for()
        page.get_by_role("button", name="Draw with it", exact=True).first.click()
        page.get_by_role("button", name="Draw", exact=True).click()
        page.locator("#panel-generate .cost").wait_for()
        names = page.locator("#panel-generate .class-name").all_inner_texts()
        means = [fetched(page, studio, path).mean() for path in shown(page, "#panel-generate .tile img")]
        assert names[:2] == ["dark", "light"]
        assert np.mean(means[::2]) < np.mean(means[1::2])
        assert not trouble
    finally:
        page.close()
        studio.close()
