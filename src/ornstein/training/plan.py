"""The meaning of "auto": settings resolved by a pure function of the data, the budget and the machine."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import Any

from ornstein import noise
from ornstein.data import Dataset
from ornstein.machine import can_compile
from ornstein.settings import Settings
from ornstein.training.choices import Choices
from ornstein.training.run import Run

__all__ = ["reasons", "resolve", "resumed_settings", "with_current_noise"]

# How and where a run is computed may change when it is resumed; what is computed may not.
MAY_CHANGE = ("data", "data_path", "processes", "parallel", "shard", "micro_batch", "keep", "threads", "save_seconds",
              "noise")


def resolve(settings: Settings, data: Dataset, device: str) -> Settings:
    """Settings without "auto" or an open budget, as a pure function of the arguments and the device's abilities.

    ValueError for classes, mirroring or compilation that data or machine do not support.
    """
    if settings.classes and not data.spec.classes:
        raise ValueError(f"classes is true, but data {data.spec.name!r} have no labels; leave classes out")
    if settings.mirror and data.spec.kind != "picture":
        raise ValueError(f"mirror is true, but data {data.spec.name!r} are not pictures; leave mirror out")
    chosen = {name: value for name, (value, _) in Choices(settings, data, device).all().items()}
    chosen["options"] = {**chosen["options"], **settings.options}
    shape, picture = data.spec.shape, data.spec.kind == "picture"
    resolved = settings.replace(
        **chosen, parallel="ddp" if settings.parallel == "auto" else settings.parallel,
        size=f"{shape[2]}x{shape[1]}" if len(shape) == 3 and (shape[1] == shape[2] or picture) else None,
        # False would drop vector conditions when the data are read again.
        classes=None if data.spec.conditions else bool(data.spec.classes),
        layout=data.spec.layout, reader="stream" if data.streamed else "cache")
    if resolved.compile and not can_compile(device):
        raise ValueError("compile is true, but this machine has no compiler for it (g++ or clang++ on a CPU, Triton on "
                         "a GPU); install one, or leave compile out")
    if resolved.compile and resolved.parallel == "fsdp":
        raise ValueError("compile is true and parallel 'fsdp'; sharded weights are not compiled, leave one of them out")
    return resolved


def reasons(settings: Settings, data: Dataset, device: str) -> list[str]:
    """What `resolve` chooses for settings that were left open, and why, one line each."""
    return [f"{name} {_text(value)}, {reason}"
            for name, (value, reason) in Choices(settings, data, device).all().items() if reason]


def _text(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def resumed_settings(run: Run, wanted: Settings, given: dict[str, Any]) -> Settings | None:
    """The settings of the run to resume, None without one; ValueError if the wanted ones contradict them.

    Arguments `given` by name count even if they equal a default.
    """
    before, defaults = run.settings(), Settings().as_dict()
    if before is None:
        return None
    requested = {name: value for name, value in wanted.as_dict().items()
                 if value != defaults[name] or given.get(name) is not None}
    changed = {name: requested.pop(name) for name in MAY_CHANGE if name in requested}
    for name in ("options", "schedule_options"):
        requested[name] = {**getattr(before, name), **getattr(wanted, name)}
    for name, (old, new) in before.differences(requested).items():
        if name in ("minutes", "images") and run.is_finished():
            budget = f"{before.images:,} pictures" if before.images else f"{before.minutes:g} minutes"
            value = f"{new:g}" if isinstance(new, float) else new
            raise ValueError(f"{name} is {value}, but the run in {run.path} has used up its {budget}; train its "
                             f"weights further, in another folder: ornstein train --from {shlex.quote(str(run.path))} "
                             f"--{name} {value} --out {shlex.quote(f'{run.path}-longer')}")
        raise ValueError(f"{name} is {new!r}, but the run in {run.path} has {old!r}; leave it out to resume "
                         "the run, or name another folder for another run")
    # The data themselves are compared by their digest.
    return before.replace(**{name: value for name, value in changed.items() if name not in ("data", "noise")})


def with_current_noise(settings: Settings, metadata: Mapping[str, Any], warnings: list[str]) -> Settings:
    """Settings with the current version of the noise; `warnings` get a line if run or recipe had another one."""
    before = metadata.get("noise", 1) if metadata else settings.noise
    if metadata.get("finished") or before == noise.VERSION:
        return settings
    if before is not None:
        warnings.append(f"noise had version {before} and has version {noise.VERSION} from now on: the random numbers "
                        "of this training are not those that it was started with")
    return settings.replace(noise=noise.VERSION)
