"""What is exported, as modules whose operations make the graph: no checks, and no arithmetic of times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ornstein.data import DataSpec
from ornstein.diffusion.condition import nothing, standardised
from ornstein.diffusion.damping import Damped
from ornstein.diffusion.denoiser import Denoiser, NetworkDenoiser
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.grid import Moment, moments
from ornstein.diffusion.level import Level
from ornstein.diffusion.samplers.loop import follow
from ornstein.diffusion.samplers.rule import Rule
from ornstein.diffusion.schedule import Schedule
from ornstein.exporting.decode import Decode

__all__ = ["CALL", "FAMILIES", "Denoising", "Drawing", "Velocity", "family", "whole"]

CALL = "ornstein::velocity"

# Latents in which the log SNR alone tells signal and noise, by what does not change in time.
FAMILIES = {"signal^2 + noise^2 = 1": 2.0, "signal + noise = 1": 1.0, "signal = 1": 0.0}


def family(schedule: Schedule) -> str:
    """The one of `FAMILIES` that a schedule belongs to; ValueError where it is none of them."""
    signal, noise = schedule.level(torch.linspace(0, 1, 65, dtype=torch.float64, device="cpu"))
    for name, total in zip(FAMILIES, (signal**2 + noise**2, signal + noise, signal), strict=True):
        if torch.allclose(total, torch.ones_like(total), rtol=0, atol=1e-9):
            return name
    raise ValueError(f"schedule is a {type(schedule).__name__}, whose signal and noise do not follow from the log SNR "
                     f"alone ({', or '.join(FAMILIES)}); give nfe for a graph of the whole sampler, or set "
                     "model.schedule = ornstein.Cosine(), for the network never sees the time")


class Denoising(nn.Module):
    """x, eps and v of latents (B, *shape) at log SNR (B,), for a condition (B,) or (B, K)."""

    def __init__(self, model: NetworkDenoiser) -> None:
        super().__init__()
        self.model, self.power = model, FAMILIES[family(model.schedule)]

    def forward(self, z: Tensor, log_snr: Tensor, condition: Tensor | None = None) -> tuple[Tensor, ...]:
        # By exp, which is precise at both ends; the sigmoid of some runtimes is not.
        wide = log_snr.reshape(-1, *[1] * (z.ndim - 1))
        if self.power:
            level = Level(*((1 + torch.exp(sign * self.power / 2 * wide)) ** (-1 / self.power) for sign in (-1, 1)))
        else:
            level = Level(torch.ones_like(wide), torch.exp(-wide / 2))
        estimate = Estimate(z, level, _velocity(self.model, z, level, log_snr, condition))
        return estimate.x, estimate.eps, estimate.v


class Velocity(nn.Module):
    """v of latents (B, *shape) of one signal, noise and log SNR, all (), with guidance and damping."""

    def __init__(self, model: NetworkDenoiser, guidance: float, damping: float) -> None:
        super().__init__()
        self.denoiser = _damped(_Guided(model, guidance), damping)

    def forward(self, z: Tensor, signal: Tensor, noise: Tensor, log_snr: Tensor,
                condition: Tensor | None = None) -> Tensor:
        at: Any = Level(*(entry.reshape([1] * z.ndim) for entry in (signal, noise))), log_snr
        return self.denoiser(z, at, condition).v


class _Guided(Denoiser):
    """A model with guidance that is asked at a level and its log SNR, and checks nothing."""

    def __init__(self, model: NetworkDenoiser, guidance: float) -> None:
        super().__init__(model.schedule, model.shape)
        self.model, self.guidance = model, guidance
        if guidance == 1:  # `Damped` looks for it, and finds none in a `Guided`
            self.data_mean = model.data_mean

    def forward(self, z: Tensor, t: Any, condition: Any = None) -> Estimate:
        level, log_snr = t
        if self.guidance == 1:
            return Estimate(z, level, _velocity(self.model, z, level, log_snr.expand(z.shape[0]), condition))
        return Estimate(z, level, _pushed(z, condition, self.guidance, lambda both, told: _velocity(
            self.model, both, level, log_snr.expand(both.shape[0]), told)))


def _velocity(model: NetworkDenoiser, z: Tensor, level: Level, log_snr: Tensor, condition: Tensor | None) -> Tensor:
    seen = standardised(condition, model.condition_mean, model.condition_std, model.data_std)
    return model.velocity(z, level, log_snr.clamp(*model.log_snr_range), seen)


class _Whole(Denoiser):
    """Any denoiser with guidance, asked as it is at times that know their level."""

    def __init__(self, model: Denoiser, guidance: float) -> None:
        super().__init__(model.schedule, model.shape)
        self.model, self.guidance = model, guidance
        if guidance == 1 and isinstance(model, NetworkDenoiser):
            self.data_mean = model.data_mean

    def forward(self, z: Tensor, t: Tensor | float, condition: Any = None) -> Estimate:
        if self.guidance == 1:
            return self.model(z, t, condition)
        return Estimate(z, self.level(z, t), _pushed(z, condition, self.guidance, lambda both, told: self.model(
            both, t, told).v))


def whole(model: Denoiser, guidance: float, damping: float) -> Denoiser:
    """A denoiser whose `forward` is its own, as a graph has it: with guidance and damping."""
    return _damped(_Whole(model, guidance), damping)


def _pushed(z: Tensor, condition: Tensor, guidance: float, ask: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """v with guidance, from one call of twice the rows."""
    v = ask(torch.cat([z, z]), torch.cat([condition, nothing(condition)]))
    with_it, without = v.unflatten(0, (2, -1)).unbind()  # `chunk` would fix the number of rows
    return without + guidance * (with_it - without)


def _damped(denoiser: Denoiser, damping: float) -> Denoiser:
    return Damped(denoiser, damping) if damping else denoiser


class Drawing(nn.Module):
    """Samples in the data's own values, where they are known, from latents (B, *shape) at t = 1.

    Each call of the network is one operation, `CALL`, whose inputs are those of `Velocity`; those of a denoiser that is
    given are all that it does.
    """

    def __init__(self, schedule: Schedule, data: DataSpec | None, rule: Rule, times: Tensor,
                 denoiser: Denoiser | None = None) -> None:
        super().__init__()
        self.rule, self.schedule, self.denoiser = rule, _Moments(schedule), denoiser
        self.walk = self.schedule.keep(times)
        self.decode = nn.Identity() if data is None else Decode(data)

    def forward(self, z: Tensor, condition: Tensor | None = None) -> Tensor:
        asked: Any = _Asked(self.schedule, condition, self.denoiser)
        *_, (_, latent, _) = follow(self.rule, self.walk, z, asked, _no_noise)
        return self.decode(latent)


class _Asked:
    """What stands for the denoiser in the graph of a sampler, as `follow` calls it."""

    def __init__(self, schedule: _Moments, condition: Tensor | None, own: Denoiser | None) -> None:
        self.schedule, self.told, self.own = schedule, () if condition is None else (condition,), own
        self.denoiser = self  # whose schedule rules ask

    def __call__(self, z: Tensor, clock: Tensor) -> Estimate:
        if self.own is not None:
            return self.own(z, self.schedule.of(clock).clock, *self.told)
        at = self.schedule.of(clock)
        signal, noise, log_snr = (torch.tensor(value, dtype=z.dtype, device=z.device)
                                  for value in (at.signal, at.noise, 2 * at.log_ratio))
        v = torch.onnx.ops.symbolic(CALL, (z, signal, noise, log_snr, *self.told), dtype=z.dtype, shape=z.shape,
                                    version=1)
        return _Known(z, Level(signal, noise), v, at)


@dataclass(frozen=True)
class _Known(Estimate):
    """An estimate whose level is known before the graph is made."""

    at: Moment

    @property
    def x(self) -> Tensor:
        return self.at.signal / self.at.radius**2 * self.z - self.at.noise / self.at.radius * self.v

    @property
    def eps(self) -> Tensor:
        return self.at.noise / self.at.radius**2 * self.z + self.at.signal / self.at.radius * self.v


class _Moments:
    """A schedule whose times are calculated once, outside the graph: `time` and `time_at` give moments of then."""

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule
        self._by_clock = dict[int, Moment]()
        self._by_place = dict[tuple[str, float], Moment]()

    def keep(self, times: Tensor) -> list[Moment]:
        walk = moments(self.schedule, times, torch.empty(0, dtype=torch.float32, device="cpu"))
        self._by_clock |= {id(moment.clock): moment for moment in walk}
        return walk

    def of(self, clock: Tensor) -> Moment:
        return self._by_clock[id(clock)]

    def time(self, log_snr: float) -> Moment:
        return self._at("time", log_snr)

    def time_at(self, angle: float) -> Moment:
        return self._at("time_at", angle)

    def _at(self, measure: str, place: float) -> Moment:
        if (measure, place) not in self._by_place:
            self._by_place[measure, place], = self.keep(getattr(self.schedule, measure)(place).reshape(1))
        return self._by_place[measure, place]


def _no_noise(step: int, like: Tensor) -> Any:
    """What rules that draw no noise are given in its place."""
