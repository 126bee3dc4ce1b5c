"""A user's type checker knows every public name: it reports wrong uses, and lets right ones be."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

USES = Path(__file__).with_name("typed_uses.py")
SOURCE = Path(__file__).parents[1] / "src"
STRICT = "[mypy]\nstrict = true\nfollow_imports = silent\n"
MYPY = ["mypy", "--config-file", "mypy.ini"]
PYREFLY = ["pyrefly", "check", "--output-format=min-text", "--config", "pyrefly.toml"]


@pytest.mark.parametrize(("command", "settings"), [
    pytest.param(MYPY, STRICT, marks=pytest.mark.slow),
    (PYREFLY, f"python-interpreter-path = '{sys.executable}'\nsearch-path = ['{SOURCE}']\n")],
    ids=["mypy", "pyrefly"])
def test_a_type_checker_reports_every_wrong_use_and_no_right_one(command, settings, tmp_path):
    (tmp_path / command[-1]).write_text(settings)
    done = subprocess.run([sys.executable, "-m", *command, USES], capture_output=True, text=True, cwd=tmp_path,
                          env={**os.environ, "MYPYPATH": str(SOURCE)})
    reported = {int(line) for line in re.findall(rf"{USES.name}:(\d+):", done.stdout)}
    lines = USES.read_text("utf-8").splitlines()
    assert reported == {number for number, line in enumerate(lines, 1) if line.endswith("# wrong")}, done.stdout
