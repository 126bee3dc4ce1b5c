"""Names and numbers that a user gives, checked: short names in explicit tables, whole and other numbers."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

__all__ = ["find", "printable", "require", "shortened", "whole"]

Value = TypeVar("Value")


def require(argument: str, name: str, allowed: Iterable[str]) -> str:
    """Return `name` if it is one of `allowed`.

    Args:
        argument: what the name is for, as the user calls it ("sampler", "network").
        name: the name given.
        allowed: the names that exist.

    Raises:
        ValueError: the name is not there; the message has the nearest one and all that are allowed.
    """
    names = sorted(allowed)
    if name in names:
        return name
    near = difflib.get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{argument} {name!r} is unknown{hint} (allowed: {', '.join(names)})")


def find(argument: str, name: str, table: Mapping[str, Value]) -> Value:
    """Return the entry of `table` under `name`; raises as `require` does."""
    return table[require(argument, name, table)]


def whole(argument: str, value: Any, least: int = 1) -> int:
    """Return `value` as a whole number.

    Raises:
        ValueError: it is none, or less than `least`.
    """
    if isinstance(value, bool | str) or not hasattr(value, "__int__") or value != value // 1 or not value >= least:
        raise ValueError(f"{argument} is {value!r}; it must be a whole number, at least {least}")
    return int(value)


def printable(text: str) -> str:
    """Return `text` on one line that any terminal and JSON file takes: other characters become escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(text: str, most: int = 200) -> str:
    """Return `text` as `printable` does, its middle left out where it has more than `most` characters."""
    return printable(text if len(text) <= most else f"{text[:most // 2]} ... {text[-most // 2:]}")
