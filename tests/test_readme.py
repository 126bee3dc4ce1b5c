"""Every code block of the README, the home page, the gallery and the guides runs, with budgets cut down to seconds."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ornstein import cli
from processes import Apart, ornstein

pytestmark = pytest.mark.usefixtures("few_trees")
ROOT = Path(__file__).parent.parent
FILES = ["README.md", "docs/index.md", "docs/start.md", "docs/gallery.md",
         *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs/guides").glob("*.md"))]
PAGES = {name: (ROOT / name).read_text("utf-8") for name in FILES}
SMALL = r'\g<0> --set "options={widths: [16], depths: [1]}"'
# Budgets and networks that a test can pay; nothing else of a block is changed.
QUICK = [(r"minutes=1\b", "images=256"), (r"--minutes \d+", "--images 256"),
         (r"--images (200000|40000)", "--images 640"), (r"images=2000", "images=256"),
         (r"count=1000, spaces", "count=60, spaces"),
         (r"train moons", "train moons --images 256"),
         (r"(ornstein evaluate .*?)--out", r"\1--count 60 --no-likelihood --features pixels --out"),
         (r"(ornstein compare .*?)--out", r"\1--features pixels --out"),
         (r"(ornstein likelihood .*)", r"\1 --count 8"), (r"--size 32", "--size 16"),
         (r'nfe=200\b', "nfe=40"), (r"(ornstein edit .*?)( +#.*)?\n", r"\1 --nfe 4\n"),
         (r"(ornstein edit .*)--count \d+", r"\1--count 9"),
         (r"(orn\.(?:inpaint|restore|interpolate|vary)\(model, .*)\)( *#.*)?\n", r"\1, nfe=6)\n"),
         (r"nfe=50\b", "nfe=6"), (r"--nfe \d+ --save-steps", "--nfe 5 --save-steps"),
         (r"(ornstein sample .*?)--count (?:100|300|500|1000)\b", r"\1--count 60"),
         (r"--config recipes/(\S+)", rf"--config {ROOT}/recipes/\1 --images 256"),
         (r"ornstein train (digits|photos/|twemoji/|waves\.npz|sensors\.npy)(?= )(?!.*\boptions=)", SMALL),
         (r'orn\.Trainer\(("digits"|"sensors\.npy"|rings), (?=images)',
          r'\g<0>options={"widths": [16], "depths": [1]}, ')]
# Tests of these commands run them; the last four need another program or another machine.
WHOLE = (["ornstein", "check"], ["ornstein", "average", "runs/averaged"])
ELSEWHERE = ("ornstein tune ", "ornstein evaluate runs/digits runs/other", "tensorboard ", "pip ",
             "uv ", "make", "git ")
GUIDED = ("ornstein evaluate runs/digits", "ornstein trace runs/digits")  # of the README, which guides have too
JUDGED = "ornstein evaluate runs/photos"  # by the guide to own pictures, which is slow; others name it too

# The home page has commands of the README; the guide to poor samples trains and judges twice; the playground and the
# gallery draw densities by the flow.
SLOW = ("docs/index.md", "docs/gallery.md", "docs/guides/pictures.md", "docs/guides/playground.md")


def blocks(page: str) -> list[tuple[str, str]]:
    """(language, code) in the order of the page."""
    text = PAGES[page]
    for old, new in QUICK:
        text = re.sub(old, new, text)
    return re.findall(r"```(python|bash)\n(.*?)```", text, re.DOTALL)


@pytest.fixture
def desk(page, tmp_path, monkeypatch):
    """A folder with what a page takes for granted: pictures, and one of them alone."""
    monkeypatch.chdir(tmp_path)
    # Rows that an evaluation restores, draws of each, and draws of a bound.
    for name, few in (("restoration.MIN_ROWS", 10), ("restoration.MAX_ROWS", 10), ("restoration.DRAWS", 19),
                      ("likelihoods.DRAWS", 4)):
        monkeypatch.setattr(f"ornstein.evaluation.{name}", few)
    rng = np.random.default_rng(0)
    sets = {"photos": ("cats", "dogs"),
            "twemoji": ("flags", "food-drink", "people-body", "smileys-emotion", "symbols")}
    here = {name: kinds for name, kinds in sets.items() if f"train {name}/" in PAGES[page]}
    for name, kind in ((name, kind) for name, kinds in here.items() for kind in kinds):
        (tmp_path / name / kind).mkdir(parents=True)
        for number in range(150 if page in SLOW else 40):  # 30 of them held out
            pixels = rng.integers(0, 255, (20, 24, 3) if name == "photos" else (16, 16, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / kind / f"{number}.jpg")
    Image.new("RGB", (64, 64), (200, 80, 20)).save(tmp_path / "mine.png")
    (tmp_path / "bodies.csv").write_text("height,children\n" + "1.7,2\n1.8,0\n1.6,1\n" * 20)
    return tmp_path


@pytest.mark.parametrize("page", [
    pytest.param(name, marks=[pytest.mark.slow] if name in SLOW else []) for name in FILES])
def test_a_page_runs_from_top_to_bottom(page, desk, trained, monkeypatch, capsys):
    """Python in one session, commands one after another; a block that begins with `# name.py` is that file too."""
    found, session, trained_here = blocks(page), {}, []
    wanted = {"runs/digits", "runs/other"} - {
        line.split("--out ")[1].split()[0] for _, block in found for line in block.splitlines()
        if line.startswith("ornstein train") and "--out" in line}
    for place in wanted:
        shutil.copytree(trained, desk / place)
    for language, block in found:
        if language == "python":
            if name := re.match(r"# (\w+\.py)\n", block):
                (desk / name[1]).write_text(block, "utf-8")
            exec(compile(block, page, "exec"), session)  # noqa: S102
            capsys.readouterr()
            continue
        for line in dict.fromkeys(block.splitlines()):
            words = shlex.split(line, comments=True)
            if words in WHOLE or not words or line.startswith(ELSEWHERE) or (
                    line.startswith(JUDGED) and page not in SLOW) or (page == "README.md" and line.startswith(GUIDED)):
                continue
            assert words[0] == "ornstein", line
            if "--processes" in words:  # they handle signals in ways of their own
                done = Apart(desk / "heard", ornstein, *words[1:])
                assert (done.wait(), "warn" in done.said().lower()) == (0, False), line
                continue
            if words in trained_here:
                continue
            # Pages show one run in several ways.
            if "train" in words and "--out" in words and "--resume" not in words:
                shutil.rmtree(words[words.index("--out") + 1], ignore_errors=True)
                trained_here.append(words)
            monkeypatch.setattr(sys, "argv", words)
            with pytest.raises(SystemExit) as stop:
                cli.main()
            assert (stop.value.code or 0, capsys.readouterr().err) == (0, ""), line
            if "--out" in words:
                assert Path(words[words.index("--out") + 1]).exists(), line
    if page == "README.md":
        assert session["threes"].shape == (16, 1, 8, 8)
        assert set(np.unique(session["values"])) <= set(range(17))
        assert session["p"].mean.shape == session["z"].shape


@pytest.mark.parametrize("target", ["demo", "docs", "test", "test-slow", "check"])
def test_the_targets_of_make_exist(target):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_links_and_pictures_of_the_readme_are_there():
    text = PAGES["README.md"]
    for place in re.findall(r"\]\(([^)#:]+)\)", text) + re.findall(r"`((?:docs|benchmarks)/[\w./-]*)`", text):
        assert (ROOT / place).exists(), place
