"""Modules that are traced to graphs: they check nothing, and compute times outside of the graph."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.data import DataSpec
from ornstein.diffusion.condition import no_condition, standardised
from ornstein.diffusion.damping import Damped
from ornstein.diffusion.denoiser import Denoiser, NetworkDenoiser
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.grid import Moment, walk_moments
from ornstein.diffusion.level import Level
from ornstein.diffusion.samplers.loop import run_walk
from ornstein.diffusion.samplers.rule import Rule
from ornstein.diffusion.schedule import Schedule
from ornstein.exporting.decode import Decode

__all__ = ["CALL", "FAMILIES", "DenoiserGraph", "SamplerGraph", "VelocityGraph", "family", "guided_denoiser"]

CALL = "ornstein::velocity"

# Schedules whose signal and noise follow from the log SNR alone: the constant of each, and its power.
FAMILIES = {"signal^2 + noise^2 = 1": 2.0, "signal + noise = 1": 1.0, "signal = 1": 0.0}


def family(schedule: Schedule) -> str:
    """The family of a schedule; ValueError if it has none."""
    signal, noise = schedule.level(torch.linspace(0, 1, 65, dtype=torch.float64, device="cpu"))
    for name, constant in zip(FAMILIES, (signal**2 + noise**2, signal + noise, signal), strict=True):
        if torch.allclose(constant, torch.ones_like(constant), rtol=0, atol=1e-9):
            return name
    raise ValueError(f"schedule is a {type(schedule).__name__}, whose signal and noise do not follow from the log SNR "
                     f"alone ({', or '.join(FAMILIES)}); give nfe for a graph of the whole sampler, or set "
                     "model.schedule = ornstein.Cosine(), as the network never sees the time")


class DenoiserGraph(nn.Module):
    """x, eps and v of latents (B, *shape) at log SNR (B,), for a condition (B,) or (B, K)."""

    def __init__(self, model: NetworkDenoiser) -> None:
        super().__init__()
        self.model, self.power = model, FAMILIES[family(model.schedule)]

    def forward(self, z: Tensor, log_snr: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        # Computed with exp, as the sigmoid of some runtimes is imprecise at the ends.
        exponent = log_snr.reshape(-1, *[1] * (z.ndim - 1))
        if self.power:
            level = Level(*((1 + torch.exp(sign * self.power / 2 * exponent)) ** (-1 / self.power) for sign in (-1, 1)))
        else:
            level = Level(torch.ones_like(exponent), torch.exp(-exponent / 2))
        estimate = Estimate(z, level, _velocity(self.model, z, level, log_snr, condition))
        return estimate.x, estimate.eps, estimate.v


class VelocityGraph(nn.Module):
    """v of latents (B, *shape) at one level, given as scalars, with guidance and damping."""

    def __init__(self, model: NetworkDenoiser, guidance: float, damping: float) -> None:
        super().__init__()
        self.denoiser = _damped(_GuidedAtLevel(model, guidance), damping)

    def forward(self, z: Tensor, signal: Tensor, noise: Tensor, log_snr: Tensor,
                condition: Tensor | None = None) -> Tensor:
        time: Any = Level(*(entry.reshape([1] * z.ndim) for entry in (signal, noise))), log_snr
        return self.denoiser(z, time, condition).v


class _GuidedAtLevel(Denoiser):
    """A model with guidance that takes (level, log SNR) as its time, and checks nothing."""

    def __init__(self, model: NetworkDenoiser, guidance: float) -> None:
        super().__init__(model.schedule, model.shape)
        self.model, self.guidance = model, guidance
        if guidance == 1:  # used by `Damped`, and absent from a `Guided`
            self.data_mean = model.data_mean

    def forward(self, z: Tensor, t: Any, condition: Any = None) -> Estimate:
        level, log_snr = t
        if self.guidance == 1:
            return Estimate(z, level, _velocity(self.model, z, level, log_snr.expand(z.shape[0]), condition))
        return Estimate(z, level, _guided_v(z, condition, self.guidance, lambda both, conditions: _velocity(
            self.model, both, level, log_snr.expand(both.shape[0]), conditions)))


def _velocity(model: NetworkDenoiser, z: Tensor, level: Level, log_snr: Tensor, condition: Tensor | None) -> Tensor:
    scaled = standardised(condition, model.condition_mean, model.condition_std, model.data_std)
    return model.velocity(z, level, log_snr.clamp(*model.log_snr_range), scaled)


class _GuidedAtTime(Denoiser):
    """Any denoiser with guidance, called by its own `forward` at times that carry their level."""

    def __init__(self, model: Denoiser, guidance: float) -> None:
        super().__init__(model.schedule, model.shape)
        self.model, self.guidance = model, guidance
        if guidance == 1 and isinstance(model, NetworkDenoiser):
            self.data_mean = model.data_mean

    def forward(self, z: Tensor, t: Tensor | float, condition: Any = None) -> Estimate:
        if self.guidance == 1:
            return self.model(z, t, condition)
        return Estimate(z, self.level(z, t), _guided_v(z, condition, self.guidance, lambda both, conditions: self.model(
            both, t, conditions).v))


def guided_denoiser(model: Denoiser, guidance: float, damping: float) -> Denoiser:
    """Any denoiser with guidance and damping, in a form that can be traced."""
    return _damped(_GuidedAtTime(model, guidance), damping)


def _guided_v(z: Tensor, condition: Tensor, guidance: float, velocity: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """v with guidance, from one call of twice the rows."""
    v = velocity(torch.cat([z, z]), torch.cat([condition, no_condition(condition)]))
    conditional, unconditional = v.unflatten(0, (2, -1)).unbind()  # `chunk` would fix the number of rows
    return unconditional + guidance * (conditional - unconditional)


def _damped(denoiser: Denoiser, damping: float) -> Denoiser:
    return Damped(denoiser, damping) if damping else denoiser


class SamplerGraph(nn.Module):
    """Samples, in the data's own values if these are known, from latents (B, *shape) at t = 1.

    Each call of the network is one operation, `CALL`, with the inputs of `VelocityGraph`; a given `denoiser` is traced
    into the graph instead.
    """

    def __init__(self, schedule: Schedule, data: DataSpec | None, rule: Rule, times: Tensor,
                 denoiser: Denoiser | None = None) -> None:
        super().__init__()
        self.rule, self.schedule, self.denoiser = rule, _PrecomputedSchedule(schedule), denoiser
        self.walk = self.schedule.add(times)
        self.decode = nn.Identity() if data is None else Decode(data)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        caller: Any = _TracedCalls(self.schedule, condition, self.denoiser)
        *_, (_, latent, _) = run_walk(self.rule, self.walk, z, caller, _no_noise)
        return self.decode(latent)


class _TracedCalls:
    """Stands for the denoiser in the graph of a sampler, with the interface that `run_walk` uses."""

    def __init__(self, schedule: _PrecomputedSchedule, condition: Tensor | None, traced: Denoiser | None) -> None:
        self.schedule, self.condition, self.traced = schedule, () if condition is None else (condition,), traced
        self.denoiser = self  # rules use its schedule

    def __call__(self, z: Tensor, clock: Tensor) -> Estimate:
        moment = self.schedule.moment(clock)
        if self.traced is not None:
            return self.traced(z, moment.clock, *self.condition)
        signal, noise, log_snr = (torch.tensor(value, dtype=z.dtype, device=z.device)
                                  for value in (moment.signal, moment.noise, 2 * moment.log_ratio))
        v = torch.onnx.ops.symbolic(CALL, (z, signal, noise, log_snr, *self.condition), dtype=z.dtype, shape=z.shape,
                                    version=1)
        return _EstimateAtMoment(z, Level(signal, noise), v, moment)


@dataclass(frozen=True)
class _EstimateAtMoment(Estimate):
    """An estimate whose level is a constant of the graph."""

    moment: Moment

    @property
    def x(self) -> Tensor:
        return self.moment.signal / self.moment.radius**2 * self.z - self.moment.noise / self.moment.radius * self.v

    @property
    def eps(self) -> Tensor:
        return self.moment.noise / self.moment.radius**2 * self.z + self.moment.signal / self.moment.radius * self.v


class _PrecomputedSchedule:
    """A schedule whose times are computed once, outside of the graph; `time` and `time_at` return these moments."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._by_clock = dict[int, Moment]()
        self._by_argument = dict[tuple[str, float], Moment]()

    def add(self, times: Tensor) -> list[Moment]:
        walk = walk_moments(self.schedule, times, torch.empty(0, dtype=torch.float32, device="cpu"))
        self._by_clock |= {id(moment.clock): moment for moment in walk}
        return walk

    def moment(self, clock: Tensor) -> Moment:
        return self._by_clock[id(clock)]

    def time(self, log_snr: float) -> Moment:
        return self._cached("time", log_snr)

    def time_at(self, angle: float) -> Moment:
        return self._cached("time_at", angle)

    def _cached(self, method: str, argument: float) -> Moment:
        if (method, argument) not in self._by_argument:
            self._by_argument[method, argument], = self.add(getattr(self.schedule, method)(argument).reshape(1))
        return self._by_argument[method, argument]


def _no_noise(step: int, like: Tensor) -> Any:
    """The noise of rules that draw none."""
