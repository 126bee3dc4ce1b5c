"""How much of the data and how much noise a latent holds at each time (section 20.1)."""

from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ornstein.isolation import isolated
from ornstein.names import is_flag, real, require, shown, whole

__all__ = ["SCHEDULES", "SPACINGS", "Chain", "Cosine", "Exploding", "Level", "Linear", "Schedule", "falling", "grid",
           "spread"]

SPACINGS = ("time", "angle", "log_snr", "karras", "power")
# A grid even in log SNR leaves pure noise and reaches clean data in one step each. Both steps shrink as the grid
# grows finer, so that samplers converge: its inner ends are at noise / signal = WIDEST * steps and FINEST / steps.
WIDEST, FINEST = 4.5, 0.6
RHO = 5.0  # of the "karras" spacing
# Powers of the "power" spacing at its clean and its noisy end up to so many steps, from benchmarks/samplers.py.
POWERS = ((5, 2.0, 0.8), (10, 1.6, 0.65), (math.inf, 1.6, 0.8))
MOST_STEPS = 10**6  # of a chain or a walk
LEAST = 1e-200  # noise^2 that a step of a chain adds
FAINTEST = 1400.0  # -log alpha beyond which the signal, its square root, is no normal float64 number


class Level(NamedTuple):
    """A latent's make-up, z = signal x + noise eps; both entries share one shape and are >= 0."""

    signal: Tensor
    noise: Tensor

    @property
    def radius(self) -> Tensor:
        """hypot(signal, noise): 1 for every variance-preserving schedule."""
        return torch.hypot(self.signal, self.noise)

    @property
    def angle(self) -> Tensor:
        """atan2(noise, signal) in [0, pi / 2], the natural time of the probability-flow ODE: 0 data, pi / 2 noise."""
        return torch.atan2(self.noise, self.signal)

    @property
    def log_snr(self) -> Tensor:
        """2 log(signal / noise), the lambda of Kingma et al. 2021; +-inf at exact ends."""
        return 2 * (self.signal.log() - self.noise.log())

    def fit(self, z: Tensor) -> Level:
        """The same level in the dtype and on the device of `z`, shaped to broadcast against it.

        Args:
            z: (B, ...) latents, for a level of shape () or (B,).

        Raises:
            ValueError: the level has neither one entry nor one for each row of `z`.
        """
        return Level(spread(self.signal, z), spread(self.noise, z))


def spread(value: Tensor, z: Tensor) -> Tensor:
    """A () or (B,) tensor in the dtype and on the device of z, (B, ...), viewed so that it broadcasts against it."""
    if value.ndim == 0:
        return value.to(z)
    if value.ndim != 1 or z.ndim == 0 or value.shape[0] not in (1, z.shape[0]):
        raise ValueError(f"a time or level has shape {tuple(value.shape)}; it must be one number, or one for each of "
                         f"the rows of a tensor of shape {tuple(z.shape)}")
    return value.to(z).reshape(-1, *[1] * (z.ndim - 1))


class Moment(Tensor):
    """A time of a walk, () float64 on the CPU in [0, 1], that remembers what it is on the walk's schedule.

    Args:
        time: () float64.
        schedule: of the walk.
        level: there, () float64.
        numbers: the same signal and noise.
        fitted: the same in the dtype and on the device of the walk's latents.
    """

    __torch_function__ = torch._C._disabled_torch_function_impl  # pyrefly: ignore  # what is made of it is a tensor
    schedule: Schedule
    level: Level
    numbers: tuple[float, float]
    fitted: Level

    def fit(self, z: Tensor) -> Level:
        """Its level in the dtype and on the device of z."""
        if self.fitted.signal.dtype is z.dtype and self.fitted.signal.device == z.device:
            return self.fitted
        return self.level.fit(z)


def moments(schedule: Schedule, times: Tensor, z: Tensor) -> list[Moment]:
    """The times of a walk of z, (n + 1,) float64, whose levels on its schedule are asked for once and together."""
    level, walk = schedule.level(as_time(times)), []
    fitted = Level(level.signal.to(z), level.noise.to(z))
    numbers = zip(level.signal.tolist(), level.noise.tolist(), strict=True)
    for time, pair, mine, known in zip(times, zip(*level, strict=True), zip(*fitted, strict=True), numbers,
                                       strict=True):
        moment = torch.Tensor._make_subclass(Moment, time)
        moment.schedule, moment.level, moment.fitted, moment.numbers = schedule, Level(*pair), Level(*mine), known
        walk.append(moment)
    return walk


def as_time(t: Tensor | float, name: str = "t") -> Tensor:
    """A time as a float64 tensor on the CPU, checked to lie in [0, 1]."""
    if type(t) is Moment:
        return t
    time = doubles(name, t)
    inside = 0 <= t <= 1 if isinstance(t, float) else bool(((time >= 0) & (time <= 1)).all())
    if not inside:  # NaN is not either
        raise ValueError(f"{name} is {time.flatten()[:4].tolist()}; every time must lie in [0, 1]")
    return time


def doubles(name: str, value: Any) -> Tensor:
    """Numbers as a float64 tensor on the CPU, never by way of float32; ValueError for what are none."""
    try:
        if is_flag(value):
            raise TypeError
        return torch.as_tensor(value, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{name} is {shown(value)}; it must be a number, or a tensor or list of numbers") from None


class Schedule(ABC):
    """A path from data (t = 0) to noise (t = 1).

    A schedule of your own is a subclass with one method, `level(t)`. Whatever t the caller gives, the method
    receives a float64 tensor on the CPU with entries in [0, 1] and its answer is cast and moved afterwards: noise
    near 0 and signal near 0 are differences that float32 cannot hold. `log_snr` must fall strictly in t.
    """

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "level" in cls.__dict__:
            cls.level = _in_double(cls.level)
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
            log_snr: any shape; values beyond the ends of the schedule give those ends, 0 or 1.

        Returns:
            Times in [0, 1], shaped like `log_snr`.

        Raises:
            ValueError: a `log_snr` that is not a number.
        """
        target = torch.as_tensor(log_snr, dtype=torch.float64, device="cpu")
        if target.isnan().any():
            raise ValueError("log_snr has the entry nan; it must be a number, or +-inf")
        clean, noisy = self.log_snr(torch.tensor([0.0, 1.0], dtype=torch.float64, device="cpu"))
        found = torch.where(target >= clean, 0.0, self._inverse(target))
        return _cast(torch.where(target <= noisy, 1.0, found), log_snr)

    def _inverse(self, log_snr: Tensor) -> Tensor:
        """`time` inside the schedule's ends, by bisection; anything beyond them."""
        low, high = torch.zeros_like(log_snr), torch.ones_like(log_snr)
        for _ in range(128):  # more than the 53 digits of a double: times near 0 keep their relative precision
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
            ValueError: the schedule is singular at t (its signal or its rate ends there).
        """
        time = as_time(t)
        level, slope = torch.func.jvp(self.level, (time,), (torch.ones_like(time),))[:2]
        drift = slope.signal / level.signal
        added = 2 * level.noise * slope.noise - 2 * drift * level.noise**2
        if not (drift.isfinite() & added.isfinite()).all():
            raise ValueError(f"rates of {type(self).__name__} are singular at t = {time.flatten()[:4].tolist()}; "
                             "take a time further inside (0, 1)")
        return _cast(drift, t), _cast(added, t)

    def settings(self) -> dict[str, object]:
        """What a checkpoint needs to build the schedule again, as plain numbers and lists."""
        return dict(vars(self))


def _cast(value: Tensor, t: Tensor | float) -> Tensor:
    """Give a float64 answer the dtype and device of a floating-point t; numbers and integers stay float64."""
    return value.to(t) if isinstance(t, Tensor) and t.is_floating_point() else value


def _in_double(method: Callable[[Any, Tensor], Level]) -> Any:
    """Let `level` see float64 on the CPU whatever the caller gave, and cast the answer last."""

    @functools.wraps(method)
    def level(self: Schedule, t: Tensor | float) -> Level:
        if type(t) is Moment and t.schedule is self:
            return t.level
        return Level(*(_cast(entry, t) for entry in method(self, as_time(t))))

    return level


class Chain(Schedule):
    """The book's discrete chain (20.3), read as a continuous schedule.

    alpha_n = prod_{i <= n} (1 - beta_i)   (20.7);  signal = sqrt(alpha_n), noise = sqrt(1 - alpha_n) at t = n / T.
    -log alpha is linear between the nodes, so the SDE has the constant rate -T log(1 - beta_n) inside step n.

    Args:
        beta: (T,) the variances beta_1 .. beta_T, each in (0, 1); a sequence or a tensor.

    Raises:
        ValueError: an empty or nested beta, an entry outside (0, 1), so much noise that float64 holds no signal, or
            an entry so small that float64 does not tell the noise after it from the noise before.
    """

    @isolated()
    def __init__(self, beta: Tensor | list[float]) -> None:
        self.beta = doubles("beta", beta).detach()
        if self.beta.ndim != 1 or not len(self.beta):
            raise ValueError(f"beta has shape {tuple(self.beta.shape)}; it must be a list of T >= 1 variances")
        outside = ~((self.beta > 0) & (self.beta < 1))
        if outside.any():
            first = int(outside.nonzero()[0])
            raise ValueError(f"beta[{first}] is {self.beta[first].item()}; every beta must lie strictly in (0, 1)")
        self.T = len(self.beta)
        self._decay = torch.cat([torch.zeros(1, dtype=torch.float64, device="cpu"), -torch.log1p(-self.beta).cumsum(0)])
        if self._decay[-1] > FAINTEST:
            raise ValueError(f"beta leaves alpha[{self.T}] = exp(-{self._decay[-1]:.0f}), and float64 holds no signal "
                             f"below exp(-{FAINTEST:.0f} / 2); use fewer or smaller betas")
        if (unseen := self._decay.diff() < (1e-13 * self._decay[1:]).clamp(min=LEAST)).any():
            first = int(unseen.nonzero()[0])
            raise ValueError(f"beta[{first}] is {self.beta[first].item()}, lost in the noise before it; leave it out")
        self.alpha = torch.exp(-self._decay)

    @classmethod
    def linear(cls, T: int = 1000, first: float = 1e-4, last: float = 0.02) -> Chain:
        """T variances that rise evenly from `first` to `last` (Ho et al. 2020); T >= 1."""
        ends, T = (real("first", first), real("last", last)), whole("T", T, most=MOST_STEPS)
        return cls(torch.linspace(*ends, T, dtype=torch.float64, device="cpu"))

    def level(self, t: Tensor) -> Level:
        place = t * self.T
        node = place.detach().floor().clamp(0, self.T - 1).long()
        decay = torch.lerp(self._decay[node], self._decay[node + 1], place - node)
        return Level(torch.exp(-decay / 2), torch.sqrt(-torch.expm1(-decay)))

    def rates(self, t: Tensor | float) -> tuple[Tensor, Tensor]:
        # In closed form, because the slope of noise is infinite at t = 0 while that of noise^2 is not.
        node = (as_time(t) * self.T).floor().clamp(0, self.T - 1).long()
        rate = self.T * (self._decay[node + 1] - self._decay[node])
        return _cast(-rate / 2, t), _cast(rate, t)

    def _inverse(self, log_snr: Tensor) -> Tensor:
        decay = torch.nn.functional.softplus(-log_snr, threshold=50.0)  # -log of a sigmoid
        node = (torch.searchsorted(self._decay, decay) - 1).clamp(0, self.T - 1)
        share = (decay - self._decay[node]) / (self._decay[node + 1] - self._decay[node])
        return (node + share) / self.T

    def settings(self) -> dict[str, object]:
        return {"beta": self.beta.tolist()}


class Cosine(Schedule):
    """signal = cos(pi t / 2), noise = sin(pi t / 2): the angle runs evenly in time (Nichol & Dhariwal 2021)."""

    def level(self, t: Tensor) -> Level:
        # cos(pi / 2) is 6e-17 in floating point; the schedule's end is exactly 0.
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
    """signal = 1, noise = sigma_min ((1 + sigma_max / sigma_min)^t - 1): nothing is ever taken from the data.

    A geometric ladder of noise (Song & Ermon 2019) moved so that t = 0 is exactly the data; noise(1) = sigma_max.

    Args:
        sigma_min: scale below which the noise falls linearly to zero, >= 1e-100, in units of the data.
        sigma_max: noise at t = 1, > sigma_min and <= 1e100.

    Raises:
        ValueError: unless 1e-100 <= sigma_min < sigma_max <= 1e100.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0) -> None:
        self.sigma_min, self.sigma_max = real("sigma_min", sigma_min), real("sigma_max", sigma_max)
        if not 1e-100 <= self.sigma_min < self.sigma_max <= 1e100:
            raise ValueError(f"sigma_min is {sigma_min} and sigma_max {sigma_max}; they must satisfy "
                             "1e-100 <= sigma_min < sigma_max <= 1e100")

    def level(self, t: Tensor) -> Level:
        noise = self.sigma_min * torch.expm1(t * math.log1p(self.sigma_max / self.sigma_min))
        return Level(torch.ones_like(t), noise)

    def _inverse(self, log_snr: Tensor) -> Tensor:
        return torch.log1p(torch.exp(-log_snr / 2) / self.sigma_min) / math.log1p(self.sigma_max / self.sigma_min)


def falling(times: Sequence[float] | Tensor) -> Tensor:
    """Times of a walk back, (n + 1,) float64 on the CPU; ValueError unless they fall strictly from 1 to 0."""
    walk = doubles("times", times)
    if walk.ndim != 1 or len(walk) < 2 or walk[0] != 1 or walk[-1] != 0 or not (walk.diff() < 0).all():
        raise ValueError(f"times is {walk.flatten()[:6].tolist()}...; it must fall strictly from 1 to 0")
    return walk


def grid(schedule: Schedule, steps: int, spacing: str = "angle") -> Tensor:
    """Times from 1 down to 0 for a sampler, evenly spaced in a measure of time.

    Args:
        schedule: the path to walk back.
        steps: number of intervals, >= 1.
        spacing: "time"; "angle" of the probability-flow rotation; "log_snr"; "karras", even in
            (noise / signal)^(1 / rho) with rho = 5 (Karras et al. 2022); or "power", even in u with
            noise / signal = u^a / (1 - u)^b, where a and b suit the number of steps.

    Returns:
        (steps + 1,) float64 on the CPU, strictly decreasing, first 1, last 0.

    Raises:
        ValueError: fewer than one step, or an unknown spacing.
    """
    require("spacing", spacing, SPACINGS)
    steps = whole("steps", steps, most=MOST_STEPS)
    times = torch.linspace(1, 0, steps + 1, dtype=torch.float64, device="cpu")
    if spacing == "angle":
        times[1:-1] = schedule.time(-2 * torch.log(torch.tan(schedule.level(as_time(1.0)).angle * times[1:-1])))
    elif spacing == "power":
        clean, noisy = next(powers for most, *powers in POWERS if steps <= most)
        inverse = torch.exp(schedule.log_snr(1.0) / (2 * noisy))
        u = times[1:-1] * 2 / (1 + torch.sqrt(1 + 4 * inverse))
        times[1:-1] = schedule.time(-2 * (clean * torch.log(u) - noisy * torch.log1p(-u)))
    elif spacing != "time":
        share = torch.arange(1, steps, dtype=torch.float64, device="cpu") / max(steps - 1, 1)
        noisy = schedule.log_snr(1.0).clamp(min=-2 * math.log(WIDEST * steps))
        # A schedule that never becomes noisy is refined from where it ends.
        clean = max(2 * math.log(steps / FINEST), float(noisy) + 2 * math.log(steps))
        if spacing == "log_snr":
            inner = noisy + (clean - noisy) * share
        else:
            first, last = torch.exp(-noisy / (2 * RHO)), math.exp(-clean / (2 * RHO))
            inner = -2 * RHO * torch.log(first + (last - first) * share)
        times[1:-1] = schedule.time(inner)
    return times


SCHEDULES: dict[str, type[Schedule]] = {"chain": Chain, "cosine": Cosine, "linear": Linear, "exploding": Exploding}
