"""What "auto" means: settings resolved by a pure function of the data, the budget and the machine."""

from __future__ import annotations

import math
from typing import Any

from ornstein.data import Dataset
from ornstein.machine import has_bf16
from ornstein.networks import suit
from ornstein.settings import Settings
from ornstein.training.run import Run

__all__ = ["MINUTES", "agreed", "resolve"]

RICH = 4  # samples for each value of one, from which their covariance is known well
# How and where a run is computed may change when it goes on; what is computed may not.
PORTABLE = ("data", "processes", "parallel", "shard", "micro_batch", "keep", "threads", "save_seconds")
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
        # Traces and volumes are much alike at every place, which makes their waves all but independent.
        poor = "waves" if data.spec.kind == "array" and len(shape) > 1 else "diagonal"
        linear = "principal" if rows >= RICH * math.prod(shape) else poor
    parallel = "ddp" if settings.parallel == "auto" else settings.parallel
    budget = settings.minutes if settings.images is None else None
    return settings.replace(
        network=name, options={**options, **settings.options}, precision=precision, linear=linear, parallel=parallel,
        size=shape[-1] if len(shape) == 3 and shape[1] == shape[2] else None,
        # False would drop vector conditions when the data are read again.
        classes=None if data.spec.conditions else bool(data.spec.classes),
        layout=data.spec.layout, reader="stream" if data.streamed else "cache",
        minutes=MINUTES if settings.images is None and budget is None else budget,
    )


def agreed(run: Run, wanted: Settings, given: dict[str, Any]) -> Settings | None:
    """The settings of the run that is there, if nothing that is asked for contradicts them; None without a run.

    Args:
        run: the folder.
        wanted: all that is asked for.
        given: what was given by name, which counts even where it equals a default.

    Raises:
        ValueError: a contradiction; the message has both values.
    """
    before, fresh = run.settings(), Settings().as_dict()
    if before is None:
        return None
    asked = {name: value for name, value in wanted.as_dict().items()
             if value != fresh[name] or given.get(name) is not None}
    moved = {name: asked.pop(name) for name in PORTABLE if name in asked}
    asked["options"] = {**before.options, **wanted.options}
    for name, (there, here) in before.differences(asked).items():
        raise ValueError(f"{name} is {here!r}, but the run in {run.path} has {there!r}; leave it out to go on with "
                         "the run, or start another (--overwrite)")
    # What the data are is compared by their digest.
    return before.replace(**{name: value for name, value in moved.items() if name != "data"})
