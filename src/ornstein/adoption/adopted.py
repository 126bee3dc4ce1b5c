"""A model of another library as a denoiser."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.adoption.convention import Convention
from ornstein.adoption.flow import Flow, FlowMatching, TorchCFM
from ornstein.adoption.karras import EDM, KDiffusion, Preconditioned
from ornstein.adoption.prediction import Prediction
from ornstein.adoption.score_sde import Score, ScoreSDE, SubVP
from ornstein.arguments import find, require_float, require_int, short_repr
from ornstein.data.spec import DataSpec
from ornstein.diffusion.condition import Condition, Conditions
from ornstein.diffusion.denoiser import NetworkDenoiser
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import Level, as_time, spread
from ornstein.diffusion.linear import Gaussian
from ornstein.diffusion.schedule import Schedule
from ornstein.isolation import isolated

__all__ = ["CONVENTIONS", "Adopted", "convention_of"]

# By the name that a user gives: made of the schedule, the clock and the number of classes.
CONVENTIONS: Mapping[str, Callable[[Schedule | None, str, int], Convention]] = {
    "x": lambda _, time, __: Prediction("x", time), "eps": lambda _, time, __: Prediction("eps", time),
    "v": lambda _, time, __: Prediction("v", time), "k-diffusion": lambda *_: KDiffusion(),
    "edm": lambda _, __, classes: EDM(classes), "score_sde": lambda schedule, *_: ScoreSDE(schedule),
    "sub-vp": lambda schedule, *_: SubVP(schedule), "score": lambda *_: Score(),
    "flow": lambda *_: Flow(), "flow_matching": lambda *_: FlowMatching(), "torchcfm": lambda *_: TorchCFM(),
    "edm-inside": lambda *_: Preconditioned(1), "edm-v": lambda *_: Preconditioned(-1),
}
# Those that a number of their own belongs to: the factor of the time, and the deviation of the data.
NUMBERED: Mapping[str, Callable[[float], Convention]] = {
    "flow": Flow, "edm-inside": partial(Preconditioned, 1), "edm-v": partial(Preconditioned, -1)}
CLOCKED = ("x", "eps", "v")
MOST_NUMBER = 1e6


def convention_of(name: str, schedule: Schedule | None, time: str, classes: int,
                  number: float | None = None) -> tuple[Convention, Schedule]:
    """A convention by its name, perhaps with a number of its own, and the schedule, its own usual one where None is
    given, after checking that they fit."""
    make = find("convention", name, CONVENTIONS)
    if time != "t" and name not in CLOCKED:
        raise ValueError(f"time is {short_repr(time)}, but convention {name!r} has a time of its own; leave it out")
    schedule = schedule or make(None, "t", 0).schedule()
    if schedule is None:
        raise ValueError(f"schedule is missing; convention {name!r} is of any, such as orn.Chain.linear() or "
                         "orn.Cosine()")
    if number is not None and (name not in NUMBERED or not 0 < require_float("number", number) <= MOST_NUMBER):
        raise ValueError(f"number is {short_repr(number)}; it is of {', '.join(NUMBERED)}, above 0 and at most "
                         f"{MOST_NUMBER:g}")
    convention = make(schedule, time, classes) if number is None else NUMBERED[name](number)
    convention.check(schedule)
    return convention, schedule


class Adopted(NetworkDenoiser):
    """A denoiser around a network that was trained elsewhere, which sees and says what its own library means.

    Args:
        network: called as the convention says.
        schedule: of the latents.
        shape: of one sample.
        convention: a name of `CONVENTIONS`.
        time: of "x", "eps" and "v": what the network's time is, "t", "index" or "log_snr".
        number: of "flow", by what its time is multiplied; of "edm-inside" and "edm-v", the deviation of the data.
        classes: how many it can be told; 0 for none.
        null: the class that stands for none; -1 where the library's own convention has a way to say none, None where
            the network must always be told a class.
        x_range: (least, most) that x-hat is moved into, or None.
        threshold: (ratio, most) of dynamic thresholding (Saharia et al. 2022), or None: x-hat is moved into +-q and
            divided by q, where q is that quantile of its absolute values, at least 1 and at most `most`.
        data: what is known of its data.
        origin: where it came from, in words.
        trained_on: where its data are, or None.
        data_mean, data_std: of its data, shaped like a sample, where they are known.

    Raises:
        ValueError: as `NetworkDenoiser`; a convention that does not fit the schedule.
    """

    @isolated()
    def __init__(self, network: nn.Module, schedule: Schedule | None, shape: Sequence[int], convention: str, *,
                 time: str = "t", number: float | None = None, classes: int = 0, null: int | None = None,
                 x_range: tuple[float, float] | None = None, threshold: tuple[float, float] | None = None,
                 data: DataSpec | None = None, origin: str = "", trained_on: str | None = None,
                 data_mean: Tensor | None = None, data_std: Tensor | None = None) -> None:
        self.classes = require_int("classes", classes, 0)
        read, schedule = convention_of(convention, schedule, time, self.classes, number)
        # A network that has no weights yet gets them from a file.
        place = next((part.device for part in (*network.parameters(), *network.buffers()) if not part.is_meta), "cpu")
        super().__init__(network, schedule, shape, read.predicts if read.predicts == "eps" else "v",
                         torch.ones((), device=place), torch.zeros((), device=place), x_range=x_range, data=data)
        if data_mean is not None and data_std is not None:  # which the network does not see
            self.data_mean, self.data_std = data_mean.to(self.data_mean), data_std.to(self.data_std)
        self.means, self.convention, self.clock, self.null = read, convention, time, null
        self.number = None if number is None else float(number)
        self.origin, self.trained_on, self.measured = origin, trained_on, data_mean is not None
        if null is not None:
            require_int("null", null, -1)
        self.threshold = None if threshold is None else (require_float("threshold", threshold[0]),
                                                         require_float("threshold", threshold[1]))
        if self.threshold and not (0 < self.threshold[0] <= 1 <= self.threshold[1]):
            raise ValueError(f"threshold is {short_repr(threshold)}; it must be a ratio in (0, 1] and a value of at "
                             "least 1")

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        return self.told(z, t, t, condition)

    def told(self, z: Tensor, t: Tensor | float, clock: Tensor | float, condition: Condition = None) -> Estimate:
        """The estimate of z at t by the network, which is told that it is another time."""
        narrow = self.level(z, t)
        wide = z.to(torch.promote_types(z.dtype, self.data_std.dtype))
        exact, other = self.schedule.level(as_time(t)), as_time(clock)
        # In float64 up to here: a network's time is told as finely as it can be.
        factor, time = self.means.enter(exact, as_time(t), self.schedule)
        said = time if clock is t else self.means.enter(self.schedule.level(other), other, self.schedule)[1]
        x, level = wide * spread(factor, wide), exact.fit(wide)
        answer = self._ask(x, said.to(wide).reshape(-1).expand(z.shape[0]), self._classes(condition, z)).to(wide)
        estimate = self.means.read(answer, x, spread(time, wide), wide, level)
        return Estimate(z, narrow, self._limited(estimate, level).to(z))

    def _classes(self, condition: Condition, z: Tensor) -> Tensor | None:
        """The classes that the network is told, with its own for none."""
        entries = self.read_condition(condition, z.shape[0], z.device)
        if not self.classes:
            return None
        if entries is None:
            entries = torch.full((z.shape[0],), -1, dtype=torch.int64, device=z.device)
        if self.null is None and not torch.compiler.is_exporting() and (entries < 0).any():
            raise ValueError(f"condition is {'missing' if condition is None else 'none (-1) for some rows'}, and this "
                             "model was never trained without a class: give one from 0 to "
                             f"{self.classes - 1} (--label)")
        return entries if self.null is None else torch.where(entries < 0, self.null, entries)

    def _ask(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        like = next((value for value in self.network.parameters() if value.is_floating_point()), x)
        with torch.autocast(x.device.type, enabled=False):  # the caller's
            answer = self.means.ask(self.network, x.to(like), time.to(like), condition)
        if not isinstance(answer, Tensor) or answer.shape != x.shape:
            what = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise ValueError(f"the network answers {tuple(x.shape)} with {what}; convention {self.convention!r} needs "
                             "a tensor of the same shape")
        return answer

    def _limited(self, estimate: Estimate, level: Level) -> Tensor:
        """v, with x-hat clamped or thresholded; what is inside already keeps its bits."""
        if self.training or (self.x_range is None and self.threshold is None):
            return estimate.v
        x = estimate.x
        if self.threshold is not None:
            ratio, most = self.threshold
            bound = spread(x.flatten(1).abs().quantile(ratio, dim=1).clamp(1, most), x)
            limited = x.clamp(-bound, bound) / bound
        else:
            limited = x.clamp(*self.x_range)  # pyrefly: ignore
        share = level.unit.noise
        clean = share == 0
        return estimate.v + ((x - limited) / share.masked_fill(clean, 1)).masked_fill(clean, 0)

    def gaussian(self) -> Gaussian | None:  # pyrefly: ignore
        """The Gaussian with the moments of the data, where these are known."""
        return super().gaussian() if self.measured else None

    @property
    def conditions(self) -> Conditions:
        """Classes, where the network takes any."""
        data = self.data if self.data is not None and self.data.classes else None
        return Conditions("classes", self.classes, data) if self.classes else Conditions("none")

    def card(self) -> dict[str, Any]:
        """What a file must say beside what it says of any model, as plain JSON values."""
        return {"convention": self.convention, "time": self.clock, "number": self.number, "classes": self.classes,
                "null": self.null, "origin": self.origin,
                "threshold": None if self.threshold is None else list(self.threshold), "trained_on": self.trained_on,
                "measured": self.measured}
