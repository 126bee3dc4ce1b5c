"""Checks of arguments: names that must be in a table, and numbers that must be in a range."""

from __future__ import annotations

import difflib
import inspect
import math
import operator
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal, TypeVar

__all__ = ["SYNONYMS", "alternatives", "construct", "find", "is_flag", "printable", "require", "require_float",
           "require_int", "require_interval", "require_ints", "require_size", "short_repr", "shorten"]

# The choices of each setting, defined once and without torch, for settings, help texts, type checkers and the tables
# of objects.
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
SYNONYMS = {
    "lr": "learning_rate", "wd": "weight_decay", "ema": "average", "ema_decay": "average", "epochs": "images",
    "num_epochs": "images", "max_epochs": "images", "steps": "images", "max_steps": "images", "iterations": "images",
    "batch_size": "batch", "bs": "batch", "resolution": "size", "image_size": "size", "img_size": "size",
    "model": "network", "arch": "network", "amp": "precision", "fp16": "precision", "bf16": "precision",
    "dtype": "precision", "mixed_precision": "precision", "horizontal_flip": "mirror", "flip": "mirror",
    "hflip": "mirror", "workers": "processes", "num_workers": "processes", "gpus": "processes", "time": "minutes",
    "num_classes": "classes", "dropout": "label_dropout", "objective": "predicts", "noise_schedule": "schedule",
}
Value = TypeVar("Value")
MAX_COUNT = 2**40  # more of anything than fits in memory


def require(argument: str, name: str, allowed: Iterable[str]) -> str:
    """Return `name` if it is one of `allowed`; else raise ValueError with all of them and the closest match."""
    names = sorted(allowed)
    if isinstance(name, str) and name in names:
        return name
    word = short_repr(name).strip("'")
    matches = [SYNONYMS[word]] if SYNONYMS.get(word) in names else difflib.get_close_matches(word, names, 1, 0.5)
    hint = f"; did you mean {matches[0]!r}?" if matches else ""
    raise ValueError(f"{argument} {short_repr(name)} is unknown{hint} (allowed: {', '.join(names)})")


def find(argument: str, name: str, table: Mapping[str, Value]) -> Value:
    """Return the entry of `table` under `name`; raise as `require` does."""
    return table[require(argument, name, table)]


def construct(argument: str, factory: Callable[..., Value], options: Mapping[str, Any]) -> Value:
    """Call a class or function with options; raise ValueError for an option that it does not take."""
    parameters = inspect.signature(factory).parameters
    for option in options:
        require(f"option of {argument}", option, parameters)
    return factory(**options)


def alternatives(*names: str) -> str:
    """Join two or more names for a help text: a, b or c."""
    return f"{', '.join(names[:-1])} or {names[-1]}"


def require_int(argument: str, value: Any, minimum: int = 1, maximum: int = MAX_COUNT) -> int:
    """Return an integer of Python, NumPy or torch as an int; raise ValueError for others, also for True, 1.0 and "1".
    """
    try:
        number = None if is_flag(value) else operator.index(value)
    except TypeError:
        number = None
    if number is None or not minimum <= number <= maximum:
        is_bounded = maximum != MAX_COUNT or (number is not None and number > maximum)
        allowed = f"from {minimum} to {maximum}" if is_bounded else f"at least {minimum}"
        raise ValueError(f"{argument} is {short_repr(value)}; it must be a whole number, {allowed}")
    return number


def require_ints(argument: str, values: Any, minimum: int = 1, maximum: int = MAX_COUNT) -> list[int]:
    """Return a list or tuple of integers as a list; raise as `require_int` does."""
    if not isinstance(values, list | tuple):
        raise ValueError(f"{argument} is {short_repr(values)}; it must be a list of whole numbers")
    return [require_int(f"{argument}[{index}]", value, minimum, maximum) for index, value in enumerate(values)]


def require_size(argument: str, value: Any, minimum: int = 1, maximum: int = MAX_COUNT) -> tuple[int, int]:
    """Return (width, height) from an integer, the side of a square, or from text such as "48x32"."""
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})", value, re.ASCII) if isinstance(value, str) else None
    try:
        width, height = map(int, match.groups()) if match else (require_int(argument, value, minimum, maximum),) * 2
        if minimum <= min(width, height) <= max(width, height) <= maximum:
            return width, height
    except ValueError:
        pass
    raise ValueError(f"{argument} is {short_repr(value)}; it must be a whole number {minimum}..{maximum}, or width x "
                     "height, such as 48x32")


def require_float(argument: str, value: Any) -> float:
    """Return `value` as a finite float; raise ValueError for booleans, text, several numbers, infinity and NaN."""
    try:
        if is_flag(value) or isinstance(value, str | bytes):
            raise TypeError
        number = float(value)
    except OverflowError:
        number = math.inf
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{argument} is {short_repr(value)}; it must be a number") from None
    if not math.isfinite(number):
        raise ValueError(f"{argument} is {short_repr(value)}; it must be a finite number")
    return number


def require_interval(argument: str, value: Any) -> tuple[float, float]:
    """Return two finite floats in ascending order; raise ValueError for anything else."""
    if not isinstance(value, list | tuple) or len(value) != 2:
        raise ValueError(f"{argument} is {short_repr(value)}; it must be two numbers")
    low, high = require_float(argument, value[0]), require_float(argument, value[1])
    if not low < high:
        raise ValueError(f"{argument} is {short_repr(value)}; the smaller number must come first")
    return low, high


def is_flag(value: Any) -> bool:
    """Whether `value` is a boolean of Python, NumPy or torch, which would otherwise pass for 0 or 1."""
    return isinstance(value, bool) or str(getattr(value, "dtype", "")).endswith("bool")


def short_repr(value: Any) -> str:
    """Return a short printable repr of any value, on one line, for a message."""
    try:
        return printable(_REPR.repr(value))
    except Exception:  # a value's own repr may raise anything
        return f"a {type(value).__name__}"


_REPR = reprlib.Repr()
_REPR.maxstring = _REPR.maxother = _REPR.maxlong = 80
_REPR.maxlevel = 4


def printable(text: str) -> str:
    """Return `text` with unprintable characters, line breaks included, escaped."""
    return text if text.isprintable() else "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def shorten(text: str, limit: int = 200) -> str:
    """Return `text` as `printable` does, with its middle left out beyond `limit` characters."""
    return printable(text if len(text) <= limit else f"{text[:limit // 2]} ... {text[-limit // 2:]}")
