"""What "auto" means: settings resolved by a pure function of the data, the budget and the machine."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from ornstein import noise
from ornstein.data import Dataset
from ornstein.diffusion.linear import MOST_SIDE
from ornstein.machine import can_compile, has_bf16
from ornstein.networks import suit
from ornstein.settings import Settings
from ornstein.training.run import Run
from ornstein.workers import worker_count

__all__ = ["MINUTES", "agreed", "drawn_now", "reasons", "resolve"]

RICH = 4  # samples for each value of one, from which their covariance is known well
# How and where a run is computed may change when it goes on; what is computed may not.
PORTABLE = ("data", "data_path", "processes", "parallel", "shard", "micro_batch", "keep", "threads", "save_seconds",
            "noise")
FEW = 16  # rows of a batch that keep a worker busy
SMALL = 16  # side of a picture up to which its pixels are few enough for a covariance
PAYS = 4.0  # minutes from which half a minute of compilation is won back: it saves a quarter to a third of a step
LONG = 4.0  # minutes from which a network twice as large is ahead
MINUTES, SHORT = 10.0, 1 / 3  # of training when the user names no budget; of points of the plane


def resolve(settings: Settings, data: Dataset, device: str) -> Settings:
    """Settings without "auto" or an open budget, a pure function of the arguments and of what the device can do.

    ValueError for classes, mirrored pictures or a compilation that data or machine do not allow.
    """
    if settings.classes and not data.spec.classes:
        raise ValueError(f"classes are asked for, but data {data.spec.name!r} have no labels; leave classes out")
    if settings.mirror and data.spec.kind != "picture":
        raise ValueError(f"mirror is true, but data {data.spec.name!r} are no pictures; leave mirror out")
    chosen = {name: value for name, (value, _) in _choices(settings, data, device).items()}
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
        raise ValueError("compile is true and parallel 'fsdp'; split weights run as they are, leave one of the two out")
    return resolved


def reasons(settings: Settings, data: Dataset, device: str) -> list[str]:
    """What `resolve` chose for a user who left it open, and why, one line each."""
    return [f"{name} {_shown(value)}, {why}" for name, (value, why) in _choices(settings, data, device).items() if why]


def _choices(settings: Settings, data: Dataset, device: str) -> dict[str, tuple[Any, str]]:
    """Value of every setting that may be left open, with a reason where it was."""
    shape, rows = data.spec.shape, int((~data.held).sum())
    points = shape == (2,)  # of the plane: looked at as a whole, after seconds
    usual = SHORT if points else MINUTES
    minutes = settings.minutes or (usual if settings.images is None else None)
    large = len(shape) == 3 and min(shape[1:]) > SMALL
    work = 2 if device == "cuda" else int((minutes or 0) >= LONG)
    name, options = suit(shape, settings.network, work)
    kind = f"samples of {' x '.join(map(str, shape))}"
    choices: dict[str, tuple[Any, str]] = {
        "network": (name, f"which suits {kind}" if settings.network == "auto" else ""), "options": (options, ""),
        "minutes": (minutes, "because no budget was given" if settings.minutes is None and minutes else "")}
    fast = has_bf16(device)
    choices["label_dropout"] = (settings.unlabelled, "") if settings.label_dropout is not None or not points else (
        0.5, "because figures of points show all classes at once")
    choices["precision"] = (settings.precision, "") if settings.precision != "auto" else (
        ("fp32", "because points are learnt better with all 32 bits") if points else
        ("bf16", f"numbers of 16 bits, in which this {device} is faster") if fast else
        ("fp32", f"because this {device} cannot multiply numbers of 16 bits"))
    # A covariance from fewer samples than it has rows is mostly noise; the variances alone are not.
    known = rows >= RICH * math.prod(shape)
    # Traces, volumes and larger pictures are much alike at every place, which makes their waves all but independent.
    alike = (large or (data.spec.kind == "array" and len(shape) > 1)) and max(shape[1:], default=0) <= MOST_SIDE
    choices["linear"] = (settings.linear, "") if settings.linear != "auto" else (
        ("principal", f"a Gaussian guess that the network corrects: {rows:,} samples tell the covariance of "
                      f"{math.prod(shape)} values") if known and not large else
        ("waves", "a guess in cosine waves that the network corrects: samples are alike at every place") if alike else
        ("diagonal", f"a guess for each value alone, which the network corrects: {rows:,} samples are too few for "
                     "their covariance"))
    drawn = len(shape) == 3 and data.spec.kind == "picture"
    if name == "unet" and choices["linear"][0] == ("waves" if large else "principal") and (large or drawn):
        # A network that sees the guess need not learn first what is added to its answer.
        choices["options"] = {**options, "hints": True}, ""
    choices["density"] = (settings.density, "") if settings.density != "auto" else (
        ("mixed", "a third of the training at the little noise that decides the grain of pictures")
        if drawn and data.spec.bins else
        ("angle", "all strengths of noise alike"))
    choices["batch"] = (settings.batch, "") if settings.batch else (
        (64, "for more steps in the same time") if large and device == "cpu" else
        (256, "because a GPU is idle with less") if device == "cuda" else
        (256, "because points cost next to nothing") if points else
        (128, "because samples this small make short steps"))
    choices["learning_rate"] = (settings.learning_rate, "") if settings.learning_rate else (
        1e-3 if large and work == 2 else 4e-3 if drawn and not large else 2e-3, "")
    shareable = device == "cpu" and len(shape) > 1 and settings.threads is None
    workers = _workers(choices["batch"][0]) if shareable else 1
    choices["processes"] = (settings.processes, "") if settings.processes else (
        workers, "one for each core" if workers > 1 else "")
    choices["threads"] = (settings.threads, "") if settings.threads or len(shape) > 1 or device == "cuda" else (
        1, "because vectors are too small to share the work")
    whole = settings.parallel != "fsdp"
    pays = large and whole and can_compile(device) and (minutes or 0) >= PAYS
    choices["compile"] = (settings.compile, "") if settings.compile is not None else (
        (True, f"because it takes half a minute and saves more than that in {minutes:g}") if pays else
        (False, "because the half minute that it takes would not be won back" if large and whole and minutes else ""))
    return choices


def _workers(batch: int) -> int:
    """The most workers that this machine has cores for, that share a batch evenly and have enough to do."""
    return max(count for count in range(1, worker_count() + 1)
               if count == 1 or (batch % count == 0 and batch >= FEW * count))


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value).lower() if isinstance(value, bool) else str(value)


def agreed(run: Run, wanted: Settings, given: dict[str, Any]) -> Settings | None:
    """The settings of the run that is there, None without one; ValueError where what is asked for contradicts them.

    What was `given` by name counts even where it equals a default.
    """
    before, fresh = run.settings(), Settings().as_dict()
    if before is None:
        return None
    asked = {name: value for name, value in wanted.as_dict().items()
             if value != fresh[name] or given.get(name) is not None}
    moved = {name: asked.pop(name) for name in PORTABLE if name in asked}
    for name in ("options", "schedule_options"):
        asked[name] = {**getattr(before, name), **getattr(wanted, name)}
    for name, (there, here) in before.differences(asked).items():
        if name in ("minutes", "images") and run.finished():
            budget = f"{before.images:,} pictures" if before.images else f"{before.minutes:g} minutes"
            wish = f"{here:g}" if isinstance(here, float) else here
            raise ValueError(f"{name} is {wish}, but the run in {run.path} has used up its {budget}; train its weights "
                             f"further, in another folder: ornstein train --from {shlex.quote(str(run.path))} --{name} "
                             f"{wish} --out {shlex.quote(f'{run.path}-longer')}")
        raise ValueError(f"{name} is {here!r}, but the run in {run.path} has {there!r}; leave it out to go on with "
                         "the run, or name another folder for another run")
    # What the data are is compared by their digest.
    return before.replace(**{name: value for name, value in moved.items() if name not in ("data", "noise")})


def drawn_now(settings: Settings, note: Mapping[str, Any], faults: list[str]) -> Settings:
    """Settings with the version of the noise from here on; `faults` get a line where run or recipe had another before.
    """
    before = note.get("noise", 1) if note else settings.noise
    if note.get("finished") or before == noise.VERSION:
        return settings
    if before is not None:
        faults.append(f"noise was of version {before} until now and is of version {noise.VERSION} from here on: the "
                      "random numbers of this training are not those that it was begun with")
    return settings.replace(noise=noise.VERSION)
