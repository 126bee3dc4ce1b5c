"""The settings of a training: one dataclass for the library, the command line, run.yaml and the checkpoint."""

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
    """The settings alone, whose constructor tells a type checker what `Settings.replace` takes."""

    data: str | list[str] = "digits"
    data_path: str | list[str] | None = None  # where data on this machine lie, whatever folder a command is given in
    size: int | str | None = None  # side of square pictures, or width x height as in 48x32; None: as the data are
    fit: arguments.Fit = "cut"  # pictures of another shape: cut to their middle, padded with white, or stretched
    alpha: bool = False  # whether transparency is learnt, as a fourth channel; else pictures are laid on white
    depth: int = 8  # bits that are kept of a grey picture, 8 or 16
    classes: bool | None = None  # None: conditional where the data have labels
    layout: str = "auto"  # axes of the user's arrays, without the samples' own: V, CL, CHW, DHWC ...
    reader: Literal["auto", "cache", "stream"] = "auto"  # of picture files: decoded once, or each time
    mirror: bool = False  # half of the pictures that are seen are turned left side right
    minutes: float | None = None  # budget of wall clock, or
    images: int | None = None  # budget of pictures seen
    seed: int = 0
    noise: int | None = None  # version of the numbers that a seed gives; None: of this program
    init_from: str | None = None  # folder of a run, or a model's file, whose weights the training starts from
    network: str = "auto"  # auto, dit, mlp or unet; own.Class for one of the user's own
    options: dict[str, Any] = field(default_factory=dict)  # of the network's class, apart from shape and classes
    schedule: arguments.ScheduleName = "cosine"
    schedule_options: dict[str, Any] = field(default_factory=dict)  # of its class, or of Chain.linear
    predicts: arguments.Prediction = "v"
    linear: Literal["auto", "none", Guess] = "auto"  # guess that the network adds to
    weighting: arguments.Weighting = "unit"
    times: arguments.TimesName = "stratified"
    density: Literal["auto", DensityName] = "auto"  # of the training's times
    batch: int | None = None  # of all processes together
    micro_batch: int | None = None  # rows of a process that pass through the network at once; None: all it has
    learning_rate: float | None = None  # at its height
    warmup: float = 0.05  # share of the budget over which the learning rate rises
    decay: float = 0.5  # power of the share of the budget that is left by which it falls
    weight_decay: float = 0.01
    average: float = 0.05  # relative width of the average of the weights (Karras et al. 2024)
    snapshots: int = 8  # of two averages kept along the way, from which `ornstein average` makes any other; 0: none
    label_dropout: float | None = None  # share of samples trained without their label, which guidance needs
    precision: Literal["auto", Precision] = "auto"
    compile: bool | None = None  # the network, with torch.compile, before the first step
    processes: int | None = None  # None: a worker a core where that pays, or as many as torchrun has started
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"  # weights in each process, or split over them
    shard: int | None = None  # processes that one copy of the weights is split over; None: all
    threads: int | None = None  # of one process, on a CPU, in place of workers: their number decides the order of sums
    save_seconds: float = 10.0  # between states, unless writing one takes more than a fiftieth of that
    keep: int = 2  # states to go on from that are kept


def _as_made_by(_: Callable[P, object]) -> Callable[[Callable[..., R]], Callable[Concatenate[Any, P], R]]:
    """Tell type checkers that a method takes what a constructor takes; the method stays as it is."""
    return lambda method: method


@dataclass(frozen=True)
class Settings(_Values):
    """Everything that decides a training; `None` and "auto" are resolved before the first step and written down.

    Times are minutes of wall clock, amounts are pictures (samples) seen, never steps.
    """

    def __post_init__(self) -> None:
        for item in dataclasses.fields(self):
            object.__setattr__(self, item.name, _typed(item.name, getattr(self, item.name), _TYPES[item.name]))
        if isinstance(self.data, list) and sum(map(len, self.data)) > MOST_NAMES:
            raise ValueError(f"data names {len(self.data):,} files, more than run.yaml can list; write their paths "
                             "into a .txt file, one a line, and name that")
        if self.depth not in (8, 16):
            raise ValueError(f"depth is {short_repr(self.depth)}; it must be 8 or 16")
        if self.size is not None:
            width, height = require_size("size", self.size, maximum=MOST_SIDE)
            object.__setattr__(self, "size", width if width == height else f"{width}x{height}")
        for name, value in vars(self).items():
            if isinstance(value, float) and not math.isfinite(value):
                raise ValueError(f"{name} is {value}; it must be a finite number")
        for name, (least, most) in RANGES.items():
            value = getattr(self, name)
            if value is not None and not least <= value <= most:
                raise ValueError(f"{name} is {short_repr(value)}; it must be a number from {least:,} to {most:,}")
        for name, most in ABOVE_NOTHING.items():
            value = getattr(self, name)
            if value is not None and not 0 < value <= most:
                raise ValueError(f"{name} is {short_repr(value)}; it must be greater than 0" + (
                    f", and at most {most:,}" if value > 0 else ""))
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
        """Samples in a step of all processes together; 128 where no plan has chosen."""
        return self.batch or 128

    @property
    def peak_rate(self) -> float:
        """The learning rate at its height; 2e-3 where no plan has chosen."""
        return self.learning_rate or 2e-3

    @property
    def unlabelled(self) -> float:
        """The share of samples trained without their label; 0.1 where no plan has chosen."""
        return 0.1 if self.label_dropout is None else self.label_dropout

    @property
    def reading(self) -> dict[str, Any]:
        """What `load_data` is given beside the source."""
        return {name: getattr(self, name) for name in READING}

    @_as_made_by(_Values)
    def replace(self, **changes: Any) -> Settings:
        """The same settings with some changed; raises as the constructor does, and for unknown names."""
        for name in changes:
            require("setting", name, _TYPES)
        return dataclasses.replace(self, **changes)

    def with_text(self, pairs: list[str]) -> Settings:
        """The same settings with `key=value` pairs of text applied, values read as YAML.

        One entry of options or schedule_options is set by `options.key=value`.

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
        """The settings as YAML text, one `key: value` a line."""
        return yaml.safe_dump(dataclasses.asdict(self), sort_keys=False, allow_unicode=True)

    @classmethod
    def from_yaml(cls, text: str) -> Settings:
        """Settings from YAML text; keys that are missing keep their defaults.

        Raises:
            ValueError: text that is no YAML mapping, an unknown key, or a value of the wrong type.
        """
        values = _parse("settings", text)
        if not isinstance(values, dict):
            raise ValueError(f"settings are a {type(values).__name__}; they must be lines of key: value")
        return cls().replace(**values)

    def as_dict(self) -> dict[str, Any]:
        """The settings as plain values."""
        return dataclasses.asdict(self)

    def differences(self, other: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
        """Which of the values in `other` differ from these settings: name to (here, there)."""
        here = self.as_dict()
        return {name: (here[name], value) for name, value in other.items() if here[name] != value}


# Bounds that no training needs to go beyond, so that a slip of the finger is refused before anything follows from it.
ABOVE_NOTHING = {"minutes": 10**7, "images": 10**15, "batch": 10**9, "micro_batch": 10**9, "learning_rate": 1e38,
                 "average": 0.28, "processes": 4096, "shard": 4096, "keep": 1000, "threads": 4096,
                 "save_seconds": 10**7, "decay": 100}
RANGES = {"snapshots": (0, 1000), "noise": (1, 1000), "weight_decay": (0, 100), "seed": (0, 2**64 - 1)}
MOST_TEXT = 2**20  # characters of a file of settings
MOST_SIDE = 2**16  # of a sample
MOST_NAMES = 2**18  # characters of the names of files
READING = ("size", "fit", "alpha", "depth", "classes", "layout", "reader")  # settings that `load_data` takes
_TYPES = get_type_hints(Settings)


class _Plain(yaml.SafeLoader):
    """Values written out: an alias, which a few lines could multiply to millions of values, is refused."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError(f"the alias *{self.peek_event().anchor} stands for other values; write them out")
        return super().compose_node(parent, index)


def _parse(name: str, text: str) -> Any:
    if len(text) > MOST_TEXT:
        raise ValueError(f"{name} is {len(text):,} characters long; settings take at most {MOST_TEXT:,}")
    try:
        return yaml.load(text, _Plain)  # noqa: S506  (a SafeLoader)
    except RecursionError:
        raise ValueError(f"{name} is not YAML that can be read: it is nested too deeply") from None
    except (yaml.YAMLError, ValueError, TypeError, LookupError, AttributeError) as error:  # as of !!int without digits
        raise ValueError(f"{name} is not YAML: {' '.join(str(error).split())}") from None


def _typed(name: str, value: Any, kind: Any) -> Any:
    """The value if it is of the kind that the setting has; a whole number or text like 1e-3 serves as a float."""
    if get_origin(kind) is Literal:
        return require(name, value, get_args(kind))
    kinds = [get_origin(one) or one for one in (get_args(kind) if isinstance(kind, types.UnionType) else [kind])]
    if isinstance(value, bool) and bool not in kinds:
        pass
    elif isinstance(value, tuple(kinds)) and not (isinstance(value, list) and not all(
            isinstance(one, str) for one in value or [None])):
        return value
    elif float in kinds and isinstance(value, int | str):
        # YAML 1.1 reads 1e-3, without a point, as text.
        try:
            return float(value)
        except (ValueError, OverflowError):
            pass
    allowed = " or ".join("none" if k is type(None) else k.__name__ for k in kinds)
    raise ValueError(f"{name} is {short_repr(value)}; it must be of type {allowed}")
