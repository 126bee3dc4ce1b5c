"""The settings of a training, for the library, the command line, run.yaml and the checkpoint."""

from __future__ import annotations

import dataclasses
import math
import types
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, Literal, ParamSpec, TypeVar, get_args, get_origin, get_type_hints

import yaml

from ornstein import arguments
from ornstein.arguments import DensityName, Guess, Precision, require, require_size, short_repr

__all__ = ["READING", "Settings"]


P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True)
class _Values:
    """The fields of `Settings`, whose constructor gives `Settings.replace` its signature for type checkers."""

    data: str | list[str] = "digits"
    data_path: str | list[str] | None = None  # of the data, independent of the working directory
    size: int | str | None = None  # of pictures: the side, or width x height such as 48x32; None: that of the data
    fit: arguments.Fit = "cut"  # pictures of another shape are cut to their middle, padded with white, or stretched
    alpha: bool = False  # learn transparency as a fourth channel; else pictures are laid on white
    depth: int = 8  # bits of a grey picture, 8 or 16
    classes: bool | None = None  # None: conditional if the data have labels
    layout: str = "auto"  # axes of one sample of the user's arrays: V, CL, CHW, DHWC ...
    reader: Literal["auto", "cache", "stream"] = "auto"  # decode picture files once, or each time
    mirror: bool = False  # flip half of the pictures horizontally
    minutes: float | None = None  # budget of wall-clock time, or
    images: int | None = None  # budget of samples seen
    seed: int = 0
    noise: int | None = None  # version of the random numbers of a seed; None: the current one
    init_from: str | None = None  # run folder or model file with the initial weights
    network: str = "auto"  # auto, dit, mlp or unet; own.Class for a user's own
    options: dict[str, Any] = field(default_factory=dict)  # of the network's class, except shape and classes
    schedule: arguments.ScheduleName = "cosine"
    schedule_options: dict[str, Any] = field(default_factory=dict)  # of its class, or of Chain.linear
    predicts: arguments.Prediction = "v"
    linear: Literal["auto", "none", Guess] = "auto"  # guess to which the network adds
    weighting: arguments.Weighting = "unit"
    times: arguments.TimesName = "stratified"
    density: Literal["auto", DensityName] = "auto"  # of the training times
    batch: int | None = None  # of all processes together
    micro_batch: int | None = None  # rows of a process in one pass of the network; None: all
    learning_rate: float | None = None  # its peak
    warmup: float = 0.05  # share of the budget over which the learning rate rises
    decay: float = 0.5  # power of the remaining share of the budget with which it decays
    weight_decay: float = 0.01
    average: float = 0.05  # relative width of the averaged weights (Karras et al. 2024)
    snapshots: int = 8  # moments at which two averages are saved, for `ornstein average` to build others; 0: none
    label_dropout: float | None = None  # share of samples trained without their label, for guidance
    precision: Literal["auto", Precision] = "auto"
    compile: bool | None = None  # compile the network before the first step
    processes: int | None = None  # None: one a core where that pays, or as many as torchrun started
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"  # weights replicated in each process, or sharded over them
    shard: int | None = None  # processes that share one copy of the weights; None: all
    threads: int | None = None  # of one process on a CPU, instead of workers; decides the order of sums
    save_seconds: float = 10.0  # between saved states, unless writing one takes more than a fiftieth of that
    keep: int = 2  # number of saved states to keep


def _signature_of(_: Callable[P, object]) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Give a method the parameters of a constructor, for type checkers only."""
    return lambda method: method


@dataclass(frozen=True)
class Settings(_Values):
    """Everything that determines a training; `None` and "auto" are resolved before the first step and recorded.

    Durations are minutes of wall-clock time or pictures (samples) seen, never steps.
    """

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _check_type(item.name, getattr(self, item.name), _TYPES[item.name]))
        if isinstance(self.data, list) and sum(map(len, self.data)) > MAX_NAMES:
            raise ValueError(f"data names {len(self.data):,} files, more than run.yaml can list; write their paths "
                             "into a .txt file, one a line, and name that")
        if self.depth not in (8, 16):
            raise ValueError(f"depth is {short_repr(self.depth)}; it must be 8 or 16")
        if self.size is not None:
            width, height = require_size("size", self.size, maximum=MAX_SIDE)
            object.__setattr__(self, "size", width if width == height else f"{width}x{height}")
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; it must be a finite number")
        for name, (low, high) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise ValueError(f"{name} is {short_repr(value)}; it must be a number from {low:,} to {high:,}")
        for name, maximum in POSITIVE.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= maximum:
                raise ValueError(f"{name} is {short_repr(value)}; it must be greater than 0" + (
                    f", and at most {maximum:,}" if value > 0 else ""))
        for name in ("warmup", "label_dropout"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < 1:
                raise ValueError(f"{name} is {value}; it must lie in [0, 1)")
        if self.minutes is not None and self.images is not None:
            raise ValueError(f"minutes is {self.minutes} and images {self.images}; give one budget, not both")
        if not self.network.startswith("own."):
            require("network", self.network, ("auto", *get_args(arguments.NetworkName)))

    @property
    def batch_size(self) -> int:
        """Samples in a step of all processes together; 128 unless the plan has chosen."""
        return self.batch or 128

    @property
    def peak_rate(self) -> float:
        """The peak learning rate; 2e-3 unless the plan has chosen."""
        return self.learning_rate or 2e-3

    @property
    def unlabelled(self) -> float:
        """The share of samples trained without their label; 0.1 unless the plan has chosen."""
        return 0.1 if self.label_dropout is None else self.label_dropout

    @property
    def reading(self) -> dict[str, Any]:
        """The options of `load_data`."""
        return {name: getattr(self, name) for name in READING}

    @_signature_of(_Values)
    def replace(self, **changes: Any) -> Settings:
        """Return a copy with some settings changed; raises as the constructor, and for unknown names."""
        for name in changes:
            require("setting", name, _TYPES)
        return dataclasses.replace(self, **changes)

    def with_text(self, pairs: list[str]) -> Settings:
        """Return a copy changed by `key=value` pairs of text, whose values are read as YAML.

        `options.key=value` sets one entry of options, and likewise of schedule_options.

        Raises:
            ValueError: a pair without "=", an unknown key, or a value of the wrong type.
        """
        changes: dict[str, Any] = {}
        for pair in pairs:
            key, equals, text = pair.partition("=")
            if not equals:
                raise ValueError(f"setting {pair!r} has no '='; write key=value")
            name, _, inner = key.strip().partition(".")
            if inner and name in ("options", "schedule_options"):
                changes[name] = {**getattr(self, name), **changes.get(name, {}), inner: _parse(key, text)}
            else:
                changes[key.strip()] = _parse(key, text)
        return self.replace(**changes)

    def to_yaml(self) -> str:
        """Return YAML text, one `key: value` a line."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> Settings:
        """Read settings from YAML text; missing keys keep their defaults.

        Raises:
            ValueError: text that is not a YAML mapping, an unknown key, or a value of the wrong type.
        """
        values = _parse("settings", text)
        if not isinstance(values, dict):
            raise ValueError(f"settings are a {type(values).__name__}; they must be lines of key: value")
        return cls().replace(**values)

    def as_dict(self) -> dict[str, Any]:
        """Return the settings as plain values."""
        return dataclasses.asdict(self)

    def differences(self, other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Return the settings that differ from those in `other`: name to (own value, other value)."""
        own = self.as_dict()
        return {name: (own[name], value) for name, value in other.items() if own[name] != value}


# Limits that no training needs to exceed, to catch typing errors early: the maximum of each positive setting,
# and (minimum, maximum) of each other.
POSITIVE = {"minutes": 10**7, "images": 10**15, "batch": 10**9, "micro_batch": 10**9, "learning_rate": 1e38,
            "average": 0.28, "processes": 4096, "shard": 4096, "keep": 1000, "threads": 4096,
            "save_seconds": 10**7, "decay": 100}
RANGES = {"snapshots": (0, 1000), "noise": (1, 1000), "weight_decay": (0, 100), "seed": (0, 2**64 - 1)}
MAX_TEXT = 2**20  # characters of a file of settings
MAX_SIDE = 2**16  # of a sample
MAX_NAMES = 2**18  # characters of the names of files
READING = ("size", "fit", "alpha", "depth", "classes", "layout", "reader")  # settings that `load_data` takes
_TYPES = get_type_hints(Settings)


class _Plain(yaml.SafeLoader):
    """A safe loader that refuses aliases, which a few lines could expand to millions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"the alias *{self.peek_event().anchor} stands for other values; write them out")
        return super().compose_node(parent, index)


def _parse(name: str, text: str) -> Any:
    if len(text) > MAX_TEXT:
        raise ValueError(f"{name} is {len(text):,} characters long; settings take at most {MAX_TEXT:,}")
    try:
        return yaml.load(text, _Plain)  # noqa: S506  (a SafeLoader)
    except RecursionError:
        raise ValueError(f"{name} is YAML that is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:  # e.g. !!int without digits
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}") from None


def _check_type(name: str, value: Any, annotation: Any) -> Any:
    """Return the value if it has the setting's type; integers and text such as 1e-3 become floats."""
    if get_origin(annotation) is Literal:
        return require(name, value, get_args(annotation))
    members = get_args(annotation) if isinstance(annotation, types.UnionType) else [annotation]
    allowed = [get_origin(member) or member for member in members]
    if isinstance(value, bool) and bool not in allowed:
        pass
    elif isinstance(value, tuple(allowed)) and not (isinstance(value, list) and not all(
            isinstance(entry, str) for entry in value or [None])):
        return value
    elif float in allowed and isinstance(value, int | str):
        # YAML 1.1 reads 1e-3, without a point, as text.
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    names = " or ".join("none" if kind is type(None) else kind.__name__ for kind in allowed)
    raise ValueError(f"{name} is {short_repr(value)}; it must be of type {names}")
