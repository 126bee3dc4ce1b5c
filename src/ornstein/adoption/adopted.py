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
from ornstein.diffusion.level import Level, as_time, per_row
from ornstein.diffusion.linear import Gaussian
from ornstein.diffusion.schedule import Schedule
from ornstein.isolation import isolated

__all__ = ["CONVENTIONS", "Adopted", "build_convention"]

# Conventions by name, built from the schedule, the network's time and the number of classes.
CONVENTIONS: Mapping[str, Callable[[Schedule | None, str, int], Convention]] = {
    "x": lambda _, time, __: Prediction("x", time), "eps": lambda _, time, __: Prediction("eps", time),
    "v": lambda _, time, __: Prediction("v", time), "k-diffusion": lambda *_: KDiffusion(),
    "edm": lambda _, __, classes: EDM(classes), "score_sde": lambda schedule, *_: ScoreSDE(schedule),
    "sub-vp": lambda schedule, *_: SubVP(schedule), "score": lambda *_: Score(),
    "flow": lambda *_: Flow(), "flow_matching": lambda *_: FlowMatching(), "torchcfm": lambda *_: TorchCFM(),
    "edm-inside": lambda *_: Preconditioned(1), "edm-v": lambda *_: Preconditioned(-1),
}
# Conventions with a parameter: the factor of the time, or the standard deviation of the data.
PARAMETRISED: Mapping[str, Callable[[float], Convention]] = {
    "flow": Flow, "edm-inside": partial(Preconditioned, 1), "edm-v": partial(Preconditioned, -1)}
TIMED = ("x", "eps", "v")  # conventions whose network time can be chosen
MAX_NUMBER = 1e6


def build_convention(name: str, schedule: Schedule | None, time: str, classes: int,
                     number: float | None = None) -> tuple[Convention, Schedule]:
    """Build a convention by its name and check that it fits the schedule, by default its usual one; returns both."""
    factory = find("convention", name, CONVENTIONS)
    if time != "t" and name not in TIMED:
        raise ValueError(f"time is {short_repr(time)}, but convention {name!r} defines its own time; leave it out")
    schedule = schedule or factory(None, "t", 0).default_schedule()
    if schedule is None:
        raise ValueError(f"schedule is missing; convention {name!r} fits any, such as orn.Chain.linear() or "
                         "orn.Cosine()")
    if number is not None and (name not in PARAMETRISED or not 0 < require_float("number", number) <= MAX_NUMBER):
        raise ValueError(f"number is {short_repr(number)}; it is for {', '.join(PARAMETRISED)}, above 0 and at most "
                         f"{MAX_NUMBER:g}")
    convention = factory(schedule, time, classes) if number is None else PARAMETRISED[name](number)
    convention.check(schedule)
    return convention, schedule


class Adopted(NetworkDenoiser):
    """A denoiser around a network that was trained with another library, called by that library's convention.

    Args:
        network: called by the convention.
        schedule: of the latents.
        shape: of one sample.
        convention: a name of `CONVENTIONS`.
        time: the network's time for "x", "eps" and "v": "t", "index" or "log_snr".
        number: the factor of the time for "flow"; the standard deviation of the data for "edm-inside" and "edm-v".
        classes: number of classes; 0 for none.
        null: the class that stands for none; -1 if the convention has its own way to say none, None if the network
            always needs a class.
        x_range: (minimum, maximum) to which x-hat is clamped, or None.
        threshold: (ratio, maximum) of dynamic thresholding (Saharia et al. 2022), or None: x-hat is clamped to +-q and
            divided by q, where q is that quantile of its absolute values, from 1 to `maximum`.
        data: description of its data.
        origin: description of its source.
        trained_on: path of its data, or None.
        data_mean, data_std: of its data, shaped like a sample, if known.

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
        adapter, schedule = build_convention(convention, schedule, time, self.classes, number)
        # A network on the meta device gets its weights later, from a file.
        device = next((value.device for value in (*network.parameters(), *network.buffers()) if not value.is_meta),
                      "cpu")
        super().__init__(network, schedule, shape, adapter.predicts if adapter.predicts == "eps" else "v",
                         torch.ones((), device=device), torch.zeros((), device=device), x_range=x_range, data=data)
        if data_mean is not None and data_std is not None:  # not used to scale the network's input
            self.data_mean, self.data_std = data_mean.to(self.data_mean), data_std.to(self.data_std)
        self.adapter, self.convention, self.time, self.null = adapter, convention, time, null
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
        return self.forward_at(z, t, t, condition)

    def forward_at(self, z: Tensor, t: Tensor | float, other_time: Tensor | float,
                   condition: Condition = None) -> Estimate:
        """The estimate of z at t by the network when it is given another time."""
        z_level = self.level(z, t)
        wide = z.to(torch.promote_types(z.dtype, self.data_std.dtype))
        exact = self.schedule.level(as_time(t))
        # The network's time is computed in float64.
        factor, time = self.adapter.network_inputs(exact, as_time(t), self.schedule)
        network_time = time
        if other_time is not t:
            other = as_time(other_time)
            network_time = self.adapter.network_inputs(self.schedule.level(other), other, self.schedule)[1]
        x, level = wide * per_row(factor, wide), exact.fit(wide)
        answer = self._call(x, network_time.to(wide).reshape(-1).expand(z.shape[0]),
                            self._classes(condition, z)).to(wide)
        estimate = self.adapter.to_estimate(answer, x, per_row(time, wide), wide, level)
        return Estimate(z, z_level, self._limited_v(estimate, level).to(z))

    def _classes(self, condition: Condition, z: Tensor) -> Tensor | None:
        """The classes for the network, with its own null class for none."""
        classes = self.read_condition(condition, z.shape[0], z.device)
        if not self.classes:
            return None
        if classes is None:
            classes = torch.full((z.shape[0],), -1, dtype=torch.int64, device=z.device)
        if self.null is None and not torch.compiler.is_exporting() and (classes < 0).any():
            raise ValueError(f"condition is {'missing' if condition is None else 'none (-1) for some rows'}, and this "
                             "model was never trained without a class: give one from 0 to "
                             f"{self.classes - 1} (--label)")
        return classes if self.null is None else torch.where(classes < 0, self.null, classes)

    def _call(self, x: Tensor, time: Tensor, condition: Tensor | None) -> Tensor:
        like = next((value for value in self.network.parameters() if value.is_floating_point()), x)
        with torch.autocast(x.device.type, enabled=False):
            answer = self.adapter.call(self.network, x.to(like), time.to(like), condition)
        if not isinstance(answer, Tensor) or answer.shape != x.shape:
            actual = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
            raise ValueError(f"the network answers {tuple(x.shape)} with {actual}; convention {self.convention!r} "
                             "needs a tensor of the same shape")
        return answer

    def _limited_v(self, estimate: Estimate, level: Level) -> Tensor:
        """v with x-hat clamped or thresholded; values inside the limits keep their bits."""
        if self.training or (self.x_range is None and self.threshold is None):
            return estimate.v
        x = estimate.x
        if self.threshold is not None:
            ratio, maximum = self.threshold
            bound = per_row(x.flatten(1).abs().quantile(ratio, dim=1).clamp(1, maximum), x)
            limited = x.clamp(-bound, bound) / bound
        else:
            limited = x.clamp(*self.x_range)  # pyrefly: ignore
        noise = level.unit.noise
        is_clean = noise == 0
        return estimate.v + ((x - limited) / noise.masked_fill(is_clean, 1)).masked_fill(is_clean, 0)

    def gaussian(self) -> Gaussian | None:  # pyrefly: ignore
        """The Gaussian with the moments of the data, if they are known."""
        return super().gaussian() if self.measured else None

    @property
    def conditions(self) -> Conditions:
        """Classes, if the network takes any."""
        data = self.data if self.data is not None and self.data.classes else None
        return Conditions("classes", self.classes, data) if self.classes else Conditions("none")

    def describe(self) -> dict[str, Any]:
        """Describe the options of an adopted model, as plain JSON values."""
        return {"convention": self.convention, "time": self.time, "number": self.number, "classes": self.classes,
                "null": self.null, "origin": self.origin,
                "threshold": None if self.threshold is None else list(self.threshold), "trained_on": self.trained_on,
                "measured": self.measured}
