"""What "auto" means: settings resolved by a pure function of the data, the budget and the machine."""

from __future__ import annotations

import math

from ornstein.data import Dataset
from ornstein.machine import has_bf16
from ornstein.networks import suit
from ornstein.settings import Settings

__all__ = ["MINUTES", "resolve"]

RICH = 4  # samples for each value of one, from which their covariance is known well
MINUTES = 10.0  # of training when the user names no budget


def resolve(settings: Settings, data: Dataset, device: str) -> Settings:
    """Settings without "auto" and without an open budget.

    Args:
        settings: what the user asked for.
        data: gives the shape, and through `size` and `classes` what was loaded.
        device: "cpu" or "cuda".

    Returns:
        Settings that a run can be repeated from.

    Raises:
        ValueError: classes are wanted and the data have none.
    """
    name, options = suit(data.spec.shape, settings.network)
    precision = settings.precision
    if precision == "auto":
        precision = "bf16" if has_bf16(device) else "fp32"
    if settings.classes and not data.spec.classes:
        raise ValueError(f"classes are asked for, but data {data.spec.name!r} have no labels; leave classes out")
    shape = data.spec.shape
    linear = settings.linear
    if linear == "auto":
        # A covariance from fewer samples than it has rows is mostly noise; the variances alone are not.
        rows = int((~data.held).sum())
        linear = "principal" if rows >= RICH * math.prod(shape) else "diagonal"
    budget = settings.minutes if settings.images is None else None
    return settings.replace(
        network=name, options={**options, **settings.options}, precision=precision, linear=linear,
        size=shape[-1] if len(shape) == 3 and shape[1] == shape[2] else None, classes=bool(data.spec.classes),
        minutes=MINUTES if settings.images is None and budget is None else budget,
    )
