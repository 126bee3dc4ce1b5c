"""The guides to settings and messages say what the program does: every setting with its default and limits, and
messages in the words in which they are printed."""

from __future__ import annotations

import ast
import dataclasses
import re
from pathlib import Path

import pytest
import yaml

import ornstein as orn

ROOT = Path(__file__).parents[1]
GUIDES = ROOT / "docs" / "guides"
DEFAULTS = orn.Settings().as_dict()
ROWS = {name: (default, allowed) for name, default, allowed in re.findall(
    r"^\| `(\w+)` \| `(.*?)` \| (.*?) \| .+ \|$", (GUIDES / "settings.md").read_text("utf-8"), re.MULTILINE)}


def test_every_setting_is_on_its_page_with_its_default():
    assert set(ROWS) == {item.name for item in dataclasses.fields(orn.Settings)}
    assert {name: yaml.safe_load(default) for name, (default, _) in ROWS.items()} == DEFAULTS


@pytest.mark.parametrize("name", ROWS)
def test_what_the_page_of_settings_allows_is_taken_and_nothing_beyond_it(name):
    allowed = ROWS[name][1]
    if allowed in ("text", "a table"):
        good, bad = (["a"], [3]) if allowed == "text" else ([{}], ["a"])
    elif names := re.findall(r"`([\w-]+)`", allowed):
        good = [yaml.safe_load(one) for one in names]
        bad = ["evil", 3]
    else:
        least, most = (float(number.replace(",", "")) for number in re.findall(
            r"\d[\d,]*(?:\.\d+)?(?:e\d+)?", allowed))
        if "not including" in allowed:
            good, bad = [least, 0.999 * most], [least - 1e-3, most]
        elif "above" in allowed:
            good, bad = [1e-6, most], [least, 1.01 * most]
        else:
            good, bad = [least, most], [least - 1, 1.01 * most + 1]
        if "whole" in allowed:
            good, bad = [2**64 - 1 if one == 2**64 else int(one) for one in good], [*map(int, bad), 0.5]
    for value in good:
        assert getattr(orn.Settings(**{name: value}), name) == value
    for value in bad:
        with pytest.raises(ValueError, match=name):
            orn.Settings(**{name: value})


def messages() -> list[str]:
    """Every text of the source as it may be printed, with an ellipsis for what is put in."""
    found = []
    for path in (ROOT / "src" / "ornstein").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.JoinedStr):
                found.append("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def test_messages_are_quoted_as_they_are_printed():
    """Each in one text of the source, an ellipsis on the page for what the program puts in."""
    quoted = re.findall(r"^\*\*`(.+)`\*\*$", (GUIDES / "troubleshooting.md").read_text("utf-8"), re.MULTILINE)
    assert len(quoted) > 20
    texts = messages()
    for message in quoted:
        like = re.compile(".*".join(map(re.escape, message.split("..."))))
        assert any(like.search(text) for text in texts), message
