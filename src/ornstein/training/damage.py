"""Damage that a resumed training finds in its folder, and its repair."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from ornstein import checkpoint
from ornstein.training.engine import Engine
from ornstein.training.events import Warned
from ornstein.training.learner import Learner
from ornstein.training.plan import MAY_CHANGE
from ornstein.training.run import METRICS, SETTINGS, Run

__all__ = ["repair_model", "rewind_logs"]


def rewind_logs(run: Run, images: int, metadata: Mapping[str, Any]) -> Iterator[str]:
    """Cut the logs of a run off after `images` pictures, where its state was written; yield what is wrong with them."""
    settings, before = run.settings(), metadata.get("settings", {})
    for name, value in settings.as_dict().items() if settings else ():
        old = before.get(name, value)
        if name not in MAY_CHANGE and old != json.loads(json.dumps(value)):
            yield f"{run.path / SETTINGS}: {name} is {value!r}, but was {old!r} at the last checkpoint"
    try:
        if damaged := run.rewind_metrics(images):
            yield f"{run.path / METRICS}: {damaged} damaged line{'s' * (damaged > 1)} dropped"
    except (OSError, ValueError) as error:
        yield f"{run.path / METRICS}: its earlier lines cannot be kept ({error})"
    run.snapshots.remove(after=images)


def repair_model(run: Run, learner: Learner, engine: Engine) -> Iterator[Warned]:
    """Rewrite the model of a finished run if it is damaged or missing; every process must call this."""
    path, average = run.path / checkpoint.MODEL, learner.average_state()
    if error := engine.broadcast_text((checkpoint.find_damage(path) or "") if engine.is_first else ""):
        engine.run_on_first(lambda: checkpoint.save(learner.average, run.path, average))
        yield Warned(f"{error}; it is rewritten from the last checkpoint")
