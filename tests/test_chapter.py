"""The chapter's pages: they run, print what they say, draw what they show, and name tests that are there."""

from __future__ import annotations

import ast
import contextlib
import functools
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ornstein as orn
from ornstein.figures import trace
from ornstein.figures.subject import Subject

ROOT = Path(__file__).parents[1]
CHAPTER = ROOT / "docs" / "chapter"
PAGES = {path.stem: path.read_text("utf-8") for path in sorted(CHAPTER.glob("*.md"))}
SECTIONS = [name for name in PAGES if name != "index"]
sys.path.insert(0, str(ROOT / "docs" / "build_site"))

import figures  # noqa: E402
import notebooks  # noqa: E402

# A block of code, and under it what it prints.
BLOCK = re.compile(r"```python\n(.*?)```(?:\n\n```output\n(.*?)```)?", re.DOTALL)
LABEL = re.compile(r"^\$\$ \((eq-[\w-]+)\)$", re.MULTILINE)
NAMED = re.compile(r"`(tests/test_\w+\.py)::(test_\w+)`")


@functools.cache
def functions(path: str) -> set[str]:
    """Functions of a test file."""
    return {node.name for node in ast.walk(ast.parse((ROOT / path).read_text("utf-8")))
            if isinstance(node, ast.FunctionDef)}


def beside(page: str) -> dict[str, str]:
    """Labels of a page's equations, each with what stands between it and the next one or the next exercises."""
    text = PAGES[page]
    found = list(LABEL.finditer(text))
    ends = [*(one.start() for one in found[1:]), len(text)]
    return {one[1]: re.split(r"\n## Exercises", text[one.end():end])[0] for one, end in zip(found, ends, strict=True)}


@pytest.mark.parametrize("page", SECTIONS)
def test_a_page_runs_and_prints_what_it_says(page, monkeypatch):
    """One session from top to bottom; what a block prints is what stands under it, to the last digit."""
    monkeypatch.setattr("ornstein.diffusion.samplers.loop.ROWS", 512)  # samples do not depend on it, the time does
    session: dict[str, object] = {}
    blocks = BLOCK.findall(PAGES[page])
    assert len(blocks) == PAGES[page].count("```python")
    for code, wanted in blocks:
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, page, "exec"), session)  # noqa: S102
        assert printed.getvalue() == wanted, code


def test_the_commands_of_the_chapter_draw(trained, tmp_path, command):
    """Every line of a shell, one after another, on a small model and a picture of the user's own."""
    shutil.copytree(trained, tmp_path / "runs" / "digits")
    Image.new("RGB", (64, 64), (200, 80, 20)).save(tmp_path / "mine.png")
    lines = [shlex.split(line, comments=True) for page in PAGES.values()
             for block in re.findall(r"```bash\n(.*?)```", page, re.DOTALL) for line in block.splitlines()]
    assert lines
    for words in filter(None, lines):
        code, _, errors = command(*words[1:])
        assert (words[0], code, errors) == ("ornstein", 0, ""), words
        assert (tmp_path / words[words.index("--out") + 1]).exists(), words


@pytest.mark.parametrize("number", range(1, 18))
def test_an_equation_of_20_1_has_a_label_a_call_and_a_test(number):
    """Once in the chapter, on a page of its section; beside it code that calls the library, and a test."""
    label, home = f"eq-20-{number}", "encoder" if number <= 10 else "posterior"
    assert [page for page in PAGES for found in LABEL.findall(PAGES[page]) if found == label] == [home]
    text = beside(home)[label]
    assert any(re.search(r"\b(orn|encoder|chain|values|data|level)\.\w+\(", code) for code, _ in BLOCK.findall(text))
    assert NAMED.search(text)
    assert f"{{eq}}`{label}`" in PAGES["index"]


@pytest.mark.parametrize("page", SECTIONS)
def test_every_equation_with_a_label_has_a_call_and_a_test_beside_it(page):
    for label, text in beside(page).items():
        assert "```python" in text, label
        assert NAMED.search(text), label


@pytest.mark.parametrize("page", PAGES)
def test_the_tests_that_a_page_names_are_there(page):
    for path, name in NAMED.findall(PAGES[page]):
        assert name in functions(path), f"{path}::{name}"
    assert PAGES[page].count("::test_") == len(NAMED.findall(PAGES[page]))  # none in another form that nobody reads


@pytest.mark.parametrize("page", SECTIONS)
def test_every_exercise_has_an_answer_that_code_checks(page):
    """After a heading of exercises: questions numbered along the page, each followed by a closed answer with code."""
    parts = re.findall(r"^## Exercises.*?\n(.*?)(?=^## |\Z)", PAGES[page], re.MULTILINE | re.DOTALL)
    questions = [int(number) for part in parts for number in re.findall(r"^\*\*(\d+)\. ", part, re.MULTILINE)]
    assert questions
    assert questions == list(range(1, len(questions) + 1))
    answers = re.findall(r"^<details>\n<summary>Answer</summary>\n\n(.*?)^</details>$", PAGES[page],
                         re.MULTILINE | re.DOTALL)
    assert len(answers) == len(questions)
    for answer in answers:
        assert any("assert" in code or wanted for code, wanted in BLOCK.findall(answer))


def test_the_pictures_are_those_that_the_pages_show():
    shown = {name for page in PAGES.values() for name in re.findall(r"\]\(pictures/([\w.-]+)\)", page)}
    assert shown == {path.name for path in (CHAPTER / "pictures").iterdir()}
    assert shown == {f"{name}.png" for name in figures.PICTURES}


@pytest.mark.slow
@pytest.mark.usefixtures("laid_out")
def test_the_pictures_are_what_the_program_draws(tmp_path, monkeypatch):
    """Drawn anew, each is the stored one but for the rounding of another machine: less than a grey level on average.

    Where a figure was changed on purpose, `make figures` brings them up to date.
    """
    monkeypatch.setattr("ornstein.diffusion.samplers.loop.ROWS", 512)
    figures.main(tmp_path)
    for path in (CHAPTER / "pictures").iterdir():
        kept, drawn = (np.asarray(Image.open(one).convert("L"), float) for one in (path, tmp_path / path.name))
        assert kept.shape == drawn.shape, path.name
        assert np.abs(kept - drawn).mean() < 1, path.name


@pytest.mark.parametrize("target", ["figures", "notebooks"])
def test_one_command_makes_them_anew(target):
    done = subprocess.run(["make", "--dry-run", "--no-print-directory", target], cwd=ROOT, check=True,
                          capture_output=True, text=True)
    assert done.stdout.splitlines()[-1].endswith(f"/python docs/build_site/{target}.py")


def test_the_figure_of_guidance_needs_a_class():
    """Three Gaussians without a condition have no class to be guided to, and vectors of five values no look."""
    with pytest.raises(ValueError, match="no classes"):
        trace.FIGURES["guidance"](replace(figures.three(), condition=None))
    law = orn.ExactMixture(torch.ones(2), torch.zeros(2, 5), torch.ones(2), orn.Cosine())
    with pytest.raises(ValueError, match="vectors of 5 values"):
        trace.FIGURES["guidance"](Subject(law, law.draw(1), "five values", condition=0))


def test_the_help_of_trace_names_every_figure(command):
    code, words, _ = command("trace", "--help")
    assert code == 0
    assert set(trace.FIGURES) <= set(re.findall(r"\w+", words))


@pytest.mark.parametrize("name", notebooks.PAGES)
def test_a_notebook_is_its_pages(name):
    """The stored file is what is made of the pages, its code cells are their code and its outputs what they print.

    The pages of the chapter run above and the guide in test_readme, so all code of the notebooks runs.
    """
    pages = [(ROOT / "docs" / page).read_text("utf-8") for page in notebooks.PAGES[name]]
    stored = (ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8")
    assert stored == notebooks.render(name)
    content = json.loads(stored)
    cells = [cell for cell in content["cells"] if cell["cell_type"] == "code"]
    blocks = BLOCK.findall("".join(pages))
    assert ["".join(cell["source"]) + "\n" for cell in cells] == [code for code, _ in blocks]
    assert ["".join("".join(one["text"]) for one in cell["outputs"]) for cell in cells] == [said for _, said in blocks]


@pytest.mark.parametrize("name", notebooks.PAGES)
def test_a_notebook_can_be_opened(name):
    """The keys that nbformat 4.5 asks for; cells with ids of their own; nothing that only the site can read."""
    content = json.loads((ROOT / "notebooks" / f"{name}.ipynb").read_text("utf-8"))
    assert (content["nbformat"], content["nbformat_minor"]) == (4, 5)
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    ids = [cell["id"] for cell in content["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in content["cells"]:
        code = {"execution_count", "outputs"} if cell["cell_type"] == "code" else set()
        assert set(cell) == {"cell_type", "id", "metadata", "source"} | code
        text = "".join(cell["source"])
        if not code:
            assert not re.search(r"\{eq\}|\{toctree\}|</?details>|```(python|output)|^\$\$ \(", text, re.MULTILINE)
            for place in re.findall(r"\]\(([^)#:\s]+)", text):
                assert (ROOT / "notebooks" / place).exists(), place


def test_notebooks_number_equations_as_the_site_does():
    page = "By {eq}`eq-20-6` and {eq}`eq-the-bound`:\n\n$$\na \\\\\nb\n$$ (eq-20-7)"
    assert notebooks.prose("chapter/encoder.md", page) == (
        "By (20.6) and (the bound):\n\n"
        "$$\n\\begin{aligned}a \\\\\nb\\end{aligned} \\tag{20.7}\n$$")
