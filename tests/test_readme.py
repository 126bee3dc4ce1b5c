"""Every code block of the README and of docs runs, with budgets cut down to seconds."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ornstein import cli

ROOT = Path(__file__).parent.parent
FILES = ("README.md", "docs/guides/data.md", "docs/guides/evaluation.md", "docs/guides/scale.md", "docs/guides/training.md")
PAGES = "".join((ROOT / name).read_text("utf-8") for name in FILES)
# Budgets that a test can pay; nothing else of a block is changed.
QUICK = [(r"minutes=1\b", "images=640"), (r"--minutes \d+", "--images 640"), (r"--images 200000", "--images 640"),
         (r"(ornstein evaluate .*?)--out", r"\1--count 60 --no-likelihood --features pixels --out"),
         (r"(ornstein likelihood .*)", r"\1 --count 8")]


def blocks(language: str) -> list[str]:
    found = re.findall(rf"```{language}\n(.*?)```", PAGES, re.DOTALL)
    for old, new in QUICK:
        found = [re.sub(old, new, block) for block in found]
    return found


def test_the_python_blocks_run_in_one_session(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    session: dict[str, object] = {}
    for block in blocks("python"):
        exec(compile(block, "README.md", "exec"), session)  # noqa: S102
    assert session["threes"].shape == (16, 1, 8, 8)
    assert set(np.unique(session["values"])) <= set(range(17))
    assert session["p"].mean.shape == session["z"].shape


def test_the_commands_run_one_after_another(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for kind in ("cats", "dogs"):
        (tmp_path / "photos" / kind).mkdir(parents=True)
        for number in range(6):
            pixels = rng.integers(0, 255, (40, 48, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / kind / f"{number}.jpg")
    Image.new("RGB", (64, 64), (200, 80, 20)).save(tmp_path / "mine.png")
    lines = [line for block in blocks("bash") for line in block.splitlines() if line.startswith("ornstein ")]
    assert len(lines) >= 8
    for words in map(list, dict.fromkeys(tuple(shlex.split(line, comments=True)) for line in lines)):
        line = shlex.join(words)
        if words[1] == "check":
            continue  # test_cli runs it, and it is the slowest of all
        if "--processes" in words:  # they handle signals in ways of their own
            done = subprocess.run([sys.executable, "-m", *words], capture_output=True, text=True, timeout=120)
            assert (done.returncode, done.stderr) == (0, ""), line
            continue
        monkeypatch.setattr(sys, "argv", words)
        with pytest.raises(SystemExit) as stop:
            cli.main()
        assert (stop.value.code or 0, capsys.readouterr().err) == (0, ""), line
    for made in ("digits.png", "sevens/00000.png", "chain.png", "runs/photos/model.safetensors", "mine-and-back.png"):
        assert (tmp_path / made).exists(), made


@pytest.mark.parametrize("target", ["demo", "test", "test-slow", "check"])
def test_the_targets_of_make_exist(target):
    subprocess.run(["make", "--dry-run", target], cwd=ROOT, check=True, capture_output=True)


def test_links_and_pictures_of_the_readme_are_there():
    for place in re.findall(r"\]\(([^)#:]+)\)", PAGES) + re.findall(r"`((?:docs|benchmarks)/[\w./-]*)`", PAGES):
        assert (ROOT / place).exists(), place
