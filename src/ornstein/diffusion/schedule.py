"""Schedules: signal and noise of a latent at each time (section 20.1)."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, get_args

import torch
from torch import Tensor

from ornstein.arguments import ScheduleName, require_float, require_int
from ornstein.diffusion.level import Level, as_float64, as_time, attached_level
from ornstein.isolation import isolated

__all__ = ["SCHEDULES", "Chain", "Cosine", "Exploding", "Linear", "Schedule"]

MAX_STEPS = 10**6  # of a chain or a walk
MIN_ADDED = 1e-200  # noise^2 that a step of a chain adds
MAX_DECAY = 1400.0  # -log alpha beyond which the signal, its square root, is not a normal float64 number


class Schedule(ABC):
    """A path from data (t = 0) to noise (t = 1).

    A schedule of your own is a subclass with one method, `level(t)`. Whatever t the caller gives, the method
    receives a float64 tensor on the CPU with entries in [0, 1], and its result is cast and moved afterwards: noise
    near 0 and signal near 0 are differences that float32 cannot hold. `log_snr` must decrease strictly in t.
    """

    edge = 1.0  # time from which a schedule jumps to its end, with no times between; 1 for none

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "level" in cls.__dict__:
            cls.level = _in_float64(cls.level)
            cls._inverse = cls.__dict__.get("_inverse", Schedule._inverse)

    @abstractmethod
    def level(self, t: Tensor) -> Level:
        """Signal and noise at time t.

        Args:
            t: () or (B,), in [0, 1]; a number is taken as float64.

        Returns:
            `Level` of the same shape, dtype and device as t.

        Raises:
            ValueError: a time outside [0, 1].
        """

    def log_snr(self, t: Tensor | float) -> Tensor:
        """2 log(signal / noise) at time t, shaped like t; +-inf at exact ends."""
        time = torch.as_tensor(t, dtype=torch.float64, device="cpu")
        return _cast(self.level(time).log_snr, t)

    def time(self, log_snr: Tensor | float) -> Tensor:
        """The time at which the log signal-to-noise ratio has a given value, to float64 precision.

        Args:
            log_snr: any shape; values beyond the ends of the schedule give the times of those ends, 0 or 1.

        Returns:
            Times in [0, 1], shaped like `log_snr`.

        Raises:
            ValueError: a `log_snr` that is not a number.
        """
        target = torch.as_tensor(log_snr, dtype=torch.float64, device="cpu")
        if target.isnan().any():
            raise ValueError("log_snr has the entry nan; it must be a number, or +-inf")
        clean, noisy = self.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu"))
        inside = torch.where(target >= clean, 0.0, self._inverse(target))
        return _cast(torch.where(target <= noisy, 1.0, inside), log_snr)

    def time_at(self, angle: Tensor | float) -> Tensor:
        """The time at which atan2(noise, signal) has a given value in [0, pi / 2]; shape and ends as for `time`."""
        return self.time(-2 * torch.log(torch.tan(torch.as_tensor(angle, dtype=torch.float64, device="cpu"))))

    def _inverse(self, log_snr: Tensor) -> Tensor:
        """`time` between the schedule's ends, by bisection; the result is arbitrary beyond them."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(128):  # more than the 53 bits of a double: times near 0 keep their relative precision
            middle = (low + high) / 2
            if ((middle == low) | (middle == high)).all():
                break
            above = self.log_snr(middle) > log_snr
            low, high = torch.where(above, middle, low), torch.where(above, high, middle)
        return high

    def rates(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        """Drift f and squared diffusion g^2 of dz = f z dt + g dW, the encoder in continuous time (section 20.3).

        f = d log signal / dt,  g^2 = d noise^2 / dt - 2 f noise^2   (Song et al. 2021; Kingma et al. 2021).
        For a variance-preserving schedule g^2 = -2 f is the rate beta(t).

        Args:
            t: () or (B,), in [0, 1].

        Returns:
            (f, g^2), each shaped like t, per unit of t.

        Raises:
            ValueError: the schedule is singular at t, where its signal is 0 or its rate infinite.
        """
        time = as_time(t)
        level, derivative = torch.func.jvp(self.level, (time,), (torch.ones_like(time),))[:2]
        drift = derivative.signal / level.signal
        diffusion = 2 * level.noise * derivative.noise - 2 * drift * level.noise**2
        if not (drift.isfinite() & diffusion.isfinite()).all():
            raise ValueError(f"rates of {type(self).__name__} are singular at t = {time.flatten()[:4].tolist()}; "
                             "take a time further inside (0, 1)")
        return _cast(drift, t), _cast(diffusion, t)

    def settings(self) -> dict[str, object]:
        """The arguments that rebuild the schedule from a checkpoint, as plain numbers and lists."""
        return dict(vars(self))


def _cast(value: Tensor, t: Tensor | float) -> Tensor:
    """Cast a float64 result to the dtype and device of a floating-point t; for other t it stays float64."""
    return value.to(t) if isinstance(t, Tensor) and t.is_floating_point() else value


def _in_float64(method: Callable[[Any, Tensor], Level]) -> Any:
    """Call `level` with float64 times on the CPU, whatever the caller gives, and cast its result last."""

    @functools.wraps(method)
    def level(self: Schedule, t: Tensor | float) -> Level:
        if (attached := attached_level(self, t)) is not None:
            return attached.level
        return Level(*(_cast(entry, t) for entry in method(self, as_time(t))))

    return level


class Chain(Schedule):
    """The book's discrete chain (20.3), read as a continuous schedule.

    alpha_n = prod_{i <= n} (1 - beta_i)   (20.7);  signal = sqrt(alpha_n), noise = sqrt(1 - alpha_n) at t = n / T.
    -log alpha is linear between the nodes, so the SDE has the constant rate -T log(1 - beta_n) inside step n.

    A last beta of 1 removes all that is left of the data in one step (Lin et al. 2024). There are then no times between
    t = 1 - 1 / T and 1: `level` refuses them, and `time` returns the beginning of that step.

    Args:
        beta: (T,) the variances beta_1 .. beta_T, each in (0, 1), except that the last of several may be 1; a sequence
            or a tensor.

    Raises:
        ValueError: an empty or nested beta, an entry outside (0, 1), so much noise that float64 holds no signal, or
            an entry so small that it does not change the noise in float64.
    """

    @isolated()
    def __init__(self, beta: Tensor | list[float]) -> None:
        self.beta = as_float64("beta", beta).detach()
        if self.beta.ndim != 1 or not len(self.beta):
            raise ValueError(f"beta has shape {tuple(self.beta.shape)}; it must be a list of T >= 1 variances")
        self.T = len(self.beta)
        ends_in_one = self.T > 1 and bool(self.beta[-1] == 1)
        outside = ~((self.beta > 0) & (self.beta < 1))
        if outside[:self.T - ends_in_one].any():
            first = int(outside.nonzero()[0])
            raise ValueError(f"beta[{first}] is {self.beta[first].item()}; every beta must lie strictly in (0, 1), "
                             "except that the last of several may be 1")
        self.edge = (self.T - 1) / self.T if ends_in_one else 1.0
        self._decay = torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), -torch.log1p(-self.beta).cumsum(0)])
        if (last := self._decay[self.T - ends_in_one]) > MAX_DECAY:
            raise ValueError(f"beta leaves alpha[{self.T - ends_in_one}] = exp(-{last:.0f}), and float64 holds no "
                             f"signal below exp(-{MAX_DECAY:.0f} / 2); use fewer or smaller betas")
        if (negligible := self._decay.diff() < (1e-13 * self._decay[1:]).clamp(min=MIN_ADDED)).any():
            first = int(negligible.nonzero()[0])
            raise ValueError(f"beta[{first}] is {self.beta[first].item()}, lost in the noise before it; leave it out")
        self.alpha = torch.exp(-self._decay)

    @classmethod
    def linear(cls, T: int = 1000, first: float = 1e-4, last: float = 0.02) -> Chain:
        """T evenly spaced variances from `first` to `last` (Ho et al. 2020); T >= 1."""
        ends, T = (require_float("first", first), require_float("last", last)), require_int("T", T, maximum=MAX_STEPS)
        return cls(torch.linspace(*ends, T, dtype=torch.float64, device="cpu"))

    def level(self, t: Tensor) -> Level:
        if (within := (t > self.edge) & (t < 1)).any():
            raise ValueError(f"t is {t[within].flatten()[0].item():g}, inside the last step, whose beta is 1; take a "
                             f"time up to {self.edge:.9g}, or 1")
        position = t * self.T
        node = position.detach().floor().clamp(0, self.T - 1).long()
        decay = torch.lerp(self._decay[node], self._decay[node + 1].clamp(max=MAX_DECAY), position - node)
        if self.edge < 1:  # an infinite decay cannot be interpolated
            decay = torch.where(t == 1, math.inf, decay)
        return Level(torch.exp(-decay / 2), torch.sqrt(-torch.expm1(-decay)))

    def rates(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        # In closed form, since d noise / dt is infinite at t = 0 while d noise^2 / dt is not.
        node = (as_time(t) * self.T).floor().clamp(0, self.T - 1).long()
        rate = self.T * (self._decay[node + 1] - self._decay[node])
        if rate.isinf().any():
            raise ValueError(f"rates of Chain are singular in its last step, whose beta is 1; take a time below "
                             f"{self.edge:.9g}")
        return _cast(-rate / 2, t), _cast(rate, t)

    def _inverse(self, log_snr: Tensor) -> Tensor:
        decay = torch.nn.functional.softplus(-log_snr, threshold=50.0)  # -log of a sigmoid
        node = (torch.searchsorted(self._decay, decay) - 1).clamp(0, self.T - 1)
        share = (decay - self._decay[node]) / (self._decay[node + 1] - self._decay[node])  # 0 in a last step of beta 1
        return (node + share) / self.T

    def settings(self) -> dict[str, object]:
        return {"beta": self.beta.tolist()}


class Cosine(Schedule):
    """signal = cos(pi t / 2), noise = sin(pi t / 2): the angle is proportional to t (Nichol & Dhariwal 2021)."""

    def level(self, t: Tensor) -> Level:
        # cos(pi / 2) is 6e-17 in floating point; the schedule must end at exactly 0.
        signal = torch.where(t == 1, torch.zeros_like(t), torch.cos(t * (math.pi / 2)))
        return Level(signal, torch.sin(t * (math.pi / 2)))

    def _inverse(self, log_snr: Tensor) -> Tensor:
        return torch.atan(torch.exp(-log_snr / 2)) * (2 / math.pi)


class Linear(Schedule):
    """signal = 1 - t, noise = t: the straight path of rectified flow (Liu et al. 2023; Lipman et al. 2023)."""

    def level(self, t: Tensor) -> Level:
        return Level(1 - t, t)

    def _inverse(self, log_snr: Tensor) -> Tensor:
        return torch.sigmoid(-log_snr / 2)


class Exploding(Schedule):
    """signal = 1, noise = sigma_min ((1 + sigma_max / sigma_min)^t - 1): the data are never scaled down.

    A geometric sequence of noise (Song & Ermon 2019), shifted so that t = 0 is exactly the data; noise(1) = sigma_max.

    Args:
        sigma_min: scale below which the noise falls linearly to zero, >= 1e-100, in units of the data.
        sigma_max: noise at t = 1, > sigma_min and <= 1e100.

    Raises:
        ValueError: unless 1e-100 <= sigma_min < sigma_max <= 1e100.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        self.sigma_min, self.sigma_max = require_float("sigma_min", sigma_min), require_float("sigma_max", sigma_max)
        if not 1e-100 <= self.sigma_min < self.sigma_max <= 1e100:
            raise ValueError(f"sigma_min is {sigma_min} and sigma_max {sigma_max}; they must satisfy "
                             "1e-100 <= sigma_min < sigma_max <= 1e100")

    def level(self, t: Tensor) -> Level:
        noise = self.sigma_min * torch.expm1(t * math.log1p(self.sigma_max / self.sigma_min))
        return Level(torch.ones_like(t), noise)

    def _inverse(self, log_snr: Tensor) -> Tensor:
        return torch.log1p(torch.exp(-log_snr / 2) / self.sigma_min) / math.log1p(self.sigma_max / self.sigma_min)


SCHEDULES = dict[str, type[Schedule]](zip(get_args(ScheduleName), (Chain, Cosine, Linear, Exploding), strict=True))
