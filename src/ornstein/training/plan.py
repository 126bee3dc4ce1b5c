"""The meaning of "auto": settings resolved by a pure function of the data, the budget and the machine."""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping
from typing import Any

from ornstein import noise
from ornstein.data import Dataset
from ornstein.diffusion.linear import MAX_SIDE
from ornstein.machine import can_compile, has_bf16
from ornstein.networks import choose_network
from ornstein.settings import Settings
from ornstein.training.run import Run
from ornstein.workers import worker_count

__all__ = ["MINUTES", "reasons", "resolve", "resumed_settings", "with_current_noise"]

SAMPLES_PER_VALUE = 4  # from which the covariance is known well
# How and where a run is computed may change when it is resumed; what is computed may not.
MAY_CHANGE = ("data", "data_path", "processes", "parallel", "shard", "micro_batch", "keep", "threads", "save_seconds",
              "noise")
MIN_ROWS = 16  # of a batch that keep a worker busy
SMALL_SIDE = 16  # of a picture, up to which its pixels are few enough for a covariance
COMPILE_MINUTES = 4.0  # from which half a minute of compilation pays off: it saves a quarter to a third of a step
LARGE_MINUTES = 4.0  # from which a network twice as large is better
MINUTES, POINT_MINUTES = 10.0, 1 / 3  # of training if the user names no budget; of points in the plane


def resolve(settings: Settings, data: Dataset, device: str) -> Settings:
    """Settings without "auto" or an open budget, as a pure function of the arguments and the device's abilities.

    ValueError for classes, mirroring or compilation that data or machine do not support.
    """
    if settings.classes and not data.spec.classes:
        raise ValueError(f"classes is true, but data {data.spec.name!r} have no labels; leave classes out")
    if settings.mirror and data.spec.kind != "picture":
        raise ValueError(f"mirror is true, but data {data.spec.name!r} are not pictures; leave mirror out")
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
        raise ValueError("compile is true and parallel 'fsdp'; sharded weights are not compiled, leave one of them out")
    return resolved


def reasons(settings: Settings, data: Dataset, device: str) -> list[str]:
    """What `resolve` chooses for settings that were left open, and why, one line each."""
    return [f"{name} {_text(value)}, {reason}"
            for name, (value, reason) in _choices(settings, data, device).items() if reason]


def _choices(settings: Settings, data: Dataset, device: str) -> dict[str, tuple[Any, str]]:
    """The value of every setting that may be left open, with a reason where it was."""
    shape, count = data.spec.shape, int((~data.held).sum())
    points = shape == (2,)  # in the plane, whose training takes seconds
    default = POINT_MINUTES if points else MINUTES
    minutes = settings.minutes or (default if settings.images is None else None)
    large = len(shape) == 3 and min(shape[1:]) > SMALL_SIDE
    size = 2 if device == "cuda" else int((minutes or 0) >= LARGE_MINUTES)
    name, options = choose_network(shape, settings.network, size)
    kind = f"samples of {' x '.join(map(str, shape))}"
    choices: dict[str, tuple[Any, str]] = {
        "network": (name, f"which suits {kind}" if settings.network == "auto" else ""), "options": (options, ""),
        "minutes": (minutes, "because no budget was given" if settings.minutes is None and minutes else "")}
    fast_bf16 = has_bf16(device)
    choices["label_dropout"] = (settings.unlabelled, "") if settings.label_dropout is not None or not points else (
        0.5, "because figures of points show all classes at once")
    choices["precision"] = (settings.precision, "") if settings.precision != "auto" else (
        ("fp32", "because points are learnt better with 32-bit numbers") if points else
        ("bf16", f"because this {device} is faster with 16-bit numbers") if fast_bf16 else
        ("fp32", f"because this {device} cannot multiply 16-bit numbers"))
    # A covariance from fewer samples than it has rows is mostly noise; variances alone are not.
    known = count >= SAMPLES_PER_VALUE * math.prod(shape)
    # Traces, volumes and larger pictures have nearly stationary statistics: their cosine waves are almost independent.
    stationary = (large or (data.spec.kind == "array" and len(shape) > 1)) and max(shape[1:], default=0) <= MAX_SIDE
    choices["linear"] = (settings.linear, "") if settings.linear != "auto" else (
        ("principal", f"a Gaussian guess that the network corrects: {count:,} samples determine the covariance of "
                      f"{math.prod(shape)} values") if known and not large else
        ("waves", "a guess in cosine waves that the network corrects: samples are statistically alike everywhere")
        if stationary else
        ("diagonal", f"a guess for each value alone, which the network corrects: {count:,} samples are too few for "
                     "a covariance"))
    picture = len(shape) == 3 and data.spec.kind == "picture"
    if name == "unet" and choices["linear"][0] == ("waves" if large else "principal") and (large or picture):
        # A network that sees the guess does not have to learn first what is added to its output.
        choices["options"] = {**options, "hints": True}, ""
    choices["density"] = (settings.density, "") if settings.density != "auto" else (
        ("mixed", "a third of the training at the low noise levels that decide the grain of pictures")
        if picture and data.spec.bins else
        ("angle", "all noise levels alike"))
    choices["batch"] = (settings.batch, "") if settings.batch else (
        (64, "for more steps in the same time") if large and device == "cpu" else
        (256, "because a GPU is idle with less") if device == "cuda" else
        (256, "because points cost next to nothing") if points else
        (128, "because samples this small make short steps"))
    choices["learning_rate"] = (settings.learning_rate, "") if settings.learning_rate else (
        1e-3 if large and size == 2 else 4e-3 if picture and not large else 2e-3, "")
    shareable = device == "cpu" and len(shape) > 1 and settings.threads is None
    workers = _workers(choices["batch"][0]) if shareable else 1
    choices["processes"] = (settings.processes, "") if settings.processes else (
        workers, "one for each core" if workers > 1 else "")
    choices["threads"] = (settings.threads, "") if settings.threads or len(shape) > 1 or device == "cuda" else (
        1, "because vectors are too small to share the work")
    unsharded = settings.parallel != "fsdp"
    pays_off = large and unsharded and can_compile(device) and (minutes or 0) >= COMPILE_MINUTES
    choices["compile"] = (settings.compile, "") if settings.compile is not None else (
        (True, f"because it takes half a minute and saves more than that in {minutes:g}") if pays_off else
        (False, "because the half minute that it takes would not pay off" if large and unsharded and minutes else ""))
    return choices


def _workers(batch: int) -> int:
    """The largest number of workers that have a core each, share a batch evenly and have enough to do."""
    return max(count for count in range(1, worker_count() + 1)
               if count == 1 or (batch % count == 0 and batch >= MIN_ROWS * count))


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
