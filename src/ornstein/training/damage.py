"""What a training that goes on finds damaged in its folder, and what it can put right."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ornstein import checkpoint
from ornstein.training.engine import Engine
from ornstein.training.events import Warned
from ornstein.training.learner import Learner
from ornstein.training.plan import PORTABLE
from ornstein.training.run import METRICS, SETTINGS, Run

__all__ = ["mend_model", "rewind"]


def rewind(run: Run, images: int, note: Mapping[str, Any]) -> Iterator[str]:
    """Take the logs of a run back to `images` pictures, where its state was written, and say what is wrong with them.
    """
    settings, before = run.settings(), note.get("settings", {})
    for name, here in settings.as_dict().items() if settings else ():
        there = before.get(name, here)
        if name not in PORTABLE and there != json.loads(json.dumps(here)):
            yield f"{run.path / SETTINGS}: {name} is {here!r}, and was {there!r} at the last checkpoint"
    try:
        if damaged := run.rewind(images):
            yield f"{run.path / METRICS}: {damaged} damaged line{'s' * (damaged > 1)} dropped"
    except (OSError, ValueError) as error:
        yield f"{run.path / METRICS}: what it held before cannot be kept ({error})"
    run.snapshots.forget(after=images)


def mend_model(run: Run, learner: Learner, engine: Engine) -> Iterator[Warned]:
    """Write the model of a finished run anew, where it is damaged or gone; every process must take part."""
    place, average = run.path / checkpoint.MODEL, learner.averaged()
    if fault := engine.text((checkpoint.find_damage(place) or "") if engine.first else ""):
        engine.once(lambda: checkpoint.save(learner.average, run.path, average))
        yield Warned(f"{fault}; it is written anew from the last checkpoint")
