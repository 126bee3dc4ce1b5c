"""Names and numbers that a user gives, checked: short names in explicit tables, whole and other numbers."""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

__all__ = ["ELSEWHERE", "ascending", "either", "find", "is_flag", "made", "printable", "real", "require", "shortened",
           "shown", "sides", "whole", "wholes"]

# What settings choose from, each name written here alone: types, settings and help texts have them from here, without
# torch, and the tables of objects are made with them.
NetworkName = Literal["dit", "mlp", "unet"]
ScheduleName = Literal["chain", "cosine", "linear", "exploding"]
Prediction = Literal["v", "x", "eps"]
Guess = Literal["diagonal", "principal", "waves"]
Weighting = Literal["unit", "eps", "x", "v"]
TimesName = Literal["uniform", "stratified"]
DensityName = Literal["angle", "time", "log_snr", "mixed"]
Precision = Literal["fp32", "bf16"]
Fit = Literal["cut", "pad", "stretch"]

# What other programs call our settings.
ELSEWHERE = {
    "lr": "learning_rate", "wd": "weight_decay", "ema": "average", "ema_decay": "average", "epochs": "images",
    "num_epochs": "images", "max_epochs": "images", "steps": "images", "max_steps": "images", "iterations": "images",
    "batch_size": "batch", "bs": "batch", "resolution": "size", "image_size": "size", "img_size": "size",
    "model": "network", "arch": "network", "amp": "precision", "fp16": "precision", "bf16": "precision",
    "dtype": "precision", "mixed_precision": "precision", "horizontal_flip": "mirror", "flip": "mirror",
    "hflip": "mirror", "workers": "processes", "num_workers": "processes", "gpus": "processes", "time": "minutes",
    "num_classes": "classes", "dropout": "label_dropout", "objective": "predicts", "noise_schedule": "schedule",
}
Value = TypeVar("Value")
MOST = 2**40  # of anything that is counted: more than a memory holds


def require(argument: str, name: str, allowed: Iterable[str]) -> str:
    """Return `name` if it is one of `allowed`; ValueError with the nearest of them and all for any other value."""
    names = sorted(allowed)
    if isinstance(name, str) and name in names:
        return name
    word = shown(name).strip("'")
    near = [ELSEWHERE[word]] if ELSEWHERE.get(word) in names else difflib.get_close_matches(word, names, 1, 0.5)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{argument} {shown(name)} is unknown{hint} (allowed: {', '.join(names)})")


def find(argument: str, name: str, table: Mapping[str, Value]) -> Value:
    """Return the entry of `table` under `name`; raises as `require` does."""
    return table[require(argument, name, table)]


def made(what: str, make: Callable[..., Value], options: Mapping[str, Any]) -> Value:
    """Return what a class or function makes of options; ValueError for one that it does not take."""
    known = inspect.signature(make).parameters
    for option in options:
        require(f"option of {what}", option, known)
    return make(**options)


def either(*names: str) -> str:
    """Return two or more names as a line of a help text: a, b or c."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def whole(argument: str, value: Any, least: int = 1, most: int = MOST) -> int:
    """Return a whole number of Python, numpy or torch; ValueError for others, true, 1.0 and "1" among them."""
    try:
        number = None if is_flag(value) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not least <= number <= most:
        many = most != MOST or (number is not None and number > most)
        allowed = f"from {least} to {most}" if many else f"at least {least}"
        raise ValueError(f"{argument} is {shown(value)}; it must be a whole number, {allowed}")
    return number


def wholes(argument: str, values: Any, least: int = 1, most: int = MOST) -> list[int]:
    """Return a list or tuple of whole numbers as a list; raises as `whole` does."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"{argument} is {shown(values)}; it must be a list of whole numbers")
    return [whole(f"{argument}[{place}]", value, least, most) for place, value in enumerate(values)]


def sides(argument: str, value: Any, least: int = 1, most: int = MOST) -> tuple[int, int]:
    """Return width and height of pictures from a whole number, the side of a square, or from text such as "48x32"."""
    oblong = re.fullmatch(r"(\d{1,9})x(\d{1,9})", value, re.ASCII) if isinstance(value, str) else None
    try:
        width, height = map(int, oblong.groups()) if oblong else (whole(argument, value, least, most),) * 2
        if least <= min(width, height) <= max(width, height) <= most:
            return width, height
    except ValueError:
        pass
    raise ValueError(f"{argument} is {shown(value)}; it must be a whole number {least}..{most}, or width x "
                     "height, such as 48x32")


def real(argument: str, value: Any) -> float:
    """Return `value` as a finite float; ValueError for true, text, several numbers, infinity and nan."""
    try:
        if is_flag(value) or isinstance(value, str | bytes):
            raise TypeError
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{argument} is {shown(value)}; it must be a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{argument} is {shown(value)}; it must be a finite number")
    return number


def ascending(argument: str, value: Any) -> tuple[float, float]:
    """Return two finite numbers, the smaller one first; raises ValueError for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{argument} is {shown(value)}; it must be two numbers")
    least, most = real(argument, value[0]), real(argument, value[1])
    if not least < most:
        raise ValueError(f"{argument} is {shown(value)}; the smaller number must come first")
    return least, most


def is_flag(value: Any) -> bool:
    """Whether `value` is true or false, of Python, numpy or torch, which pass for 1 and 0 otherwise."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def shown(value: Any) -> str:
    """Return `value` as one short printable line for a message, whatever it is."""
    try:
        return printable(_SHORT.repr(value))
    except Exception:  # a value's own repr may raise anything
        return f"a {type(value).__name__}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 80
_SHORT.maxlevel = 4


def printable(text: str) -> str:
    """Return `text` on one line that any terminal and JSON file takes: other characters become escapes."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shortened(text: str, most: int = 200) -> str:
    """Return `text` as `printable` does, its middle left out where it has more than `most` characters."""
    return printable(text if len(text) <= most else f"{text[:most // 2]} ... {text[-most // 2:]}")
