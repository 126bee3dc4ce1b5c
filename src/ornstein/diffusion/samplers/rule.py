"""The interface of a sampler: a rule that takes one reverse step, given the denoiser's estimate."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.grid import Moment, walk_moments
from ornstein.diffusion.schedule import Schedule

__all__ = ["Call", "Rule", "Step"]


class Call(NamedTuple):
    """A call of the denoiser: its moment and its estimate."""

    at: Moment
    estimate: Estimate


@dataclass(frozen=True)
class Step:
    """One step from time t back to time s, with everything that a rule may use.

    Args:
        schedule: of the denoiser.
        t, s: times, s < t: numbers that know their `signal`, `noise`, `radius`, `angle` and `log_ratio`.
        estimate: the denoiser's estimate at (z_t, t); `estimate.z` is z_t.
        past: the calls of earlier steps, latest first; as many as the rule's `memory`, fewer at the start.
        denoise: calls the denoiser again, denoise(z, time) -> Estimate.
        noise: draws standard normal noise like z; the k-th draw of a step is always the same.
    """

    schedule: Schedule
    t: Moment
    s: Moment
    estimate: Estimate
    past: tuple[Call, ...]
    denoise: Callable[[Tensor, float], Estimate]
    noise: Callable[[], Tensor]

    @property
    def z(self) -> Tensor:
        """z_t, (B, ...)."""
        return self.estimate.z

    @property
    def calls(self) -> tuple[Call, ...]:
        """This call and those of earlier steps, latest first."""
        return (Call(self.t, self.estimate), *self.past)

    @property
    def last(self) -> bool:
        """Whether the step leads to clean data."""
        return self.s == 0

    def level(self, time: Tensor | float) -> Moment:
        """A time in [0, 1] as a `Moment` with its level."""
        if isinstance(time, Moment):
            return time
        times = torch.as_tensor(time, dtype=torch.float64, device="cpu").reshape(1)
        return walk_moments(self.schedule, times, self.z)[0]

    def to(self, s: Moment) -> Step:
        """The same step, but to another moment."""
        return replace(self, s=s)

    def mix(self, *, z: float = 0.0, x: float | Sequence[float] = 0.0, eps: float | Sequence[float] = 0.0,
            v: float | Sequence[float] = 0.0, fresh: float = 0.0, calls: Sequence[Call] | None = None) -> Tensor:
        """The combination z z_t + sum_i (x_i x-hat_i + eps_i eps-hat_i + v_i v-hat_i) + fresh noise, as a new latent.

        As x = c z / r - s v and eps = s z / r + c v with r = hypot(signal, noise) and (c, s) = (signal, noise) / r,
        this is one sum over z and v of every call, whose weights are computed in float64.

        Args:
            z: weight of z_t.
            x, eps, v: weights of the estimates of `calls`, or one number for the first.
            fresh: weight of fresh noise.
            calls: the calls to combine; by default this one and those before it.

        Returns:
            (B, ...) like z_t.

        Raises:
            ValueError: more weights than calls.
        """
        calls = self.calls if calls is None else calls
        terms: list[tuple[float, Tensor]] = []
        weights = [_per_call(weight, len(calls)) for weight in (x, eps, v)]
        for call, weight_x, weight_eps, weight_v in zip(calls, *weights, strict=True):
            radius = call.at.radius
            c, s = call.at.signal / radius, call.at.noise / radius
            weight_z = (c * weight_x + s * weight_eps) / radius
            if call.estimate.z is self.z:
                z += weight_z
            else:
                terms.append((weight_z, call.estimate.z))
            terms.append((c * weight_eps - s * weight_x + weight_v, call.estimate.v))
        total = _sum([(z, self.z), *terms])
        if fresh:
            total.add_(self.noise(), alpha=fresh)
        return total if total.dtype is self.z.dtype else total.to(self.z.dtype)

    def turn(self, *weights: float, calls: Sequence[Call] | None = None) -> Tensor:
        """z_s by a weighted velocity, in the frame rotating with `DDIM`, where v of fixed x-hat, eps-hat is constant.

        With y = z / hypot(signal, noise) and h = angle_s - angle_t,  y_s = cos(h) y_t + sin(h) sum_i w_i v_i, where
        v_i = c eps-hat_i - s x-hat_i is rotated to t, (c, s) = (cos, sin) of angle_t.

        Args:
            weights: of the calls.
            calls: as for `mix`.
        """
        s, t, h = self.s, self.t, self.s.angle - self.t.angle
        c, d, step = math.cos(t.angle), math.sin(t.angle), s.radius * math.sin(h)
        return self.mix(z=s.radius * math.cos(h) / t.radius, x=[-step * d * weight for weight in weights],
                        eps=[step * c * weight for weight in weights], calls=calls)


class Rule(ABC):
    """The rule of a sampler, one per file; rules know neither the grid of times nor the loop."""

    order: int  # of the global error in the step, on smooth problems
    stochastic: bool = False
    calls: int = 1  # of the denoiser per step
    memory: int = 0  # past calls that a step uses
    spacing: str = "angle"  # of the grid that suits the rule

    @abstractmethod
    def advance(self, step: Step) -> Tensor:
        """z_s from z_t.

        Args:
            step: the step to take.

        Returns:
            (B, ...) latents at time s.
        """


def _per_call(weight: float | Sequence[float], count: int) -> Sequence[float]:
    """One weight for each call, 0 for those that none is given for."""
    weights = [weight] if isinstance(weight, float | int) else weight
    if len(weights) > count:
        raise ValueError(f"weights are {list(weights)}; there are only {count} calls")
    return weights if len(weights) == count else [*weights, *[0.0] * (count - len(weights))]


def _sum(terms: Sequence[tuple[float, Tensor]]) -> Tensor:
    """The sum of the terms whose factor is not 0, as a new tensor in at least float32."""
    like = terms[0][1]
    wide = like.dtype if like.dtype.itemsize > 2 else torch.float32
    (factor, value), *others = [term for term in terms if term[0]] or [(0.0, like)]
    total = torch.mul(value if value.dtype is wide else value.to(wide), factor)
    for factor, value in others:
        total.add_(value, alpha=factor)
    return total
