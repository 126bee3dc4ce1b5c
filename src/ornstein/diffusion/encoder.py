"""The forward encoder: data become noise step by step, with each step's law in closed form (section 20.1)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.distributions import Independent, Normal

from ornstein import noise
from ornstein.diffusion.level import Level, as_time, per_row
from ornstein.diffusion.schedule import Schedule

__all__ = ["Encoder", "draw", "gaussian", "transition"]


def gaussian(mean: Tensor, std: Tensor) -> Independent:
    """N(mean, std^2) whose event is one sample: a row of `mean`, (B, ...); `std` broadcasts and may be 0."""
    return Independent(Normal(mean, std, validate_args=False), max(mean.ndim - 1, 0), validate_args=False)


def draw(q: Independent, eps: Tensor) -> Tensor:
    """Draw from a Gaussian with the caller's noise: mean + std * eps.

    Args:
        q: a Gaussian of `Encoder` or `Decoder`.
        eps: standard normal numbers, shaped like the mean.

    Returns:
        One draw, shaped like the mean.

    Raises:
        ValueError: `eps` has another shape than the mean.
    """
    if eps.shape != q.mean.shape:
        raise ValueError(f"eps has shape {tuple(eps.shape)}; it must be that of the mean, {tuple(q.mean.shape)}")
    return q.mean + q.stddev * eps


def transition(schedule: Schedule, s: Tensor | float, t: Tensor | float) -> tuple[Level, Level, Tensor, Tensor]:
    """The transition from time s to t: both levels, `keep` and `added`, float64 on the CPU; ValueError unless s < t.

    keep = signal_t / signal_s, added = noise_t^2 - keep^2 noise_s^2. With s = (n - 1) / T and t = n / T of a `Chain`,
    keep = sqrt(1 - beta_n) and added = beta_n.
    """
    early, late = as_time(s, "s"), as_time(t, "t")
    if not (early < late).all():
        raise ValueError(f"s is {early.flatten()[:4].tolist()} and t is {late.flatten()[:4].tolist()}; "
                         "s must be smaller than t")
    level_s, level_t = schedule.level(early), schedule.level(late)
    if (level_s.signal == 0).any():
        raise ValueError(f"signal is 0 at s = {early.flatten()[:4].tolist()}; only the last time, 1, may have none")
    keep = level_t.signal / level_s.signal
    added = (level_t.noise**2 - keep**2 * level_s.noise**2).clamp(min=0)
    return level_s, level_t, keep, added


class Encoder:
    """q(z_t | x) and the laws that follow from it, for one schedule.

    Every law is `Independent(Normal)` whose event is one sample, in the dtype and on the device of its first
    argument. Times are () or (B,), in [0, 1]. Variances are computed in float64 and cast last.

    Args:
        schedule: the path from data to noise.
    """

    def __init__(self, schedule: Schedule) -> None:
        self.schedule = schedule

    def step(self, z: Tensor, s: Tensor | float, t: Tensor | float) -> Independent:
        """q(z_t | z_s) = N(keep z_s, added I): the step (20.4) for neighbours of a chain, any stride otherwise.

        Args:
            z: (B, ...) latents at time s.
            s, t: times, s < t.

        Returns:
            The law of z_t, event shape z.shape[1:].

        Raises:
            ValueError: unless 0 <= s < t <= 1.
        """
        _, _, keep, added = transition(self.schedule, s, t)
        return gaussian(per_row(keep, z) * z, per_row(added.sqrt(), z))

    def kernel(self, x: Tensor, t: Tensor | float) -> Independent:
        """The diffusion kernel q(z_t | x) = N(signal x, noise^2 I)   (20.6).

        Args:
            x: (B, ...) clean data.
            t: time; at t = 0 the law is a point mass on x.

        Returns:
            The law of z_t, event shape x.shape[1:].

        Raises:
            ValueError: a time outside [0, 1].
        """
        signal, std = self.schedule.level(as_time(t)).fit(x)
        return gaussian(signal * x, std)

    def posterior(self, x: Tensor, z: Tensor, s: Tensor | float, t: Tensor | float) -> Independent:
        """q(z_s | z_t, x), Bayes' rule (20.13) with the Markov property (20.14): the Gaussian (20.15).

        mean = (keep noise_s^2 z_t + added signal_s x) / noise_t^2   (20.16 for neighbours of a chain)
        variance = noise_s^2 added / noise_t^2   (20.17)

        Args:
            x: (B, ...) clean data.
            z: (B, ...) latents at time t.
            s, t: times, s < t; at s = 0 the law is a point mass on x.

        Returns:
            The law of z_s, event shape z.shape[1:].

        Raises:
            ValueError: unless 0 <= s < t <= 1, or x and z differ in shape.
        """
        if x.shape != z.shape:
            raise ValueError(f"x has shape {tuple(x.shape)} and z {tuple(z.shape)}; they must agree")
        level_s, level_t, keep, added = transition(self.schedule, s, t)
        weight_z = per_row(keep * level_s.noise**2 / level_t.noise**2, z)
        weight_x = per_row(added * level_s.signal / level_t.noise**2, z)
        return gaussian(weight_z * z + weight_x * x, per_row(level_s.noise * added.sqrt() / level_t.noise, z))

    def walk(self, x: Tensor, times: Sequence[float], seed: int = 0) -> Iterator[Tensor]:
        """Latents along one path of the chain, each drawn given the previous one (20.3), (20.4).

        Args:
            x: (B, ...) clean data.
            times: strictly increasing times in [0, 1]; time 0 gives x itself.
            seed: of the path; row i at the k-th time has its own stream.

        Yields:
            (B, ...) z at each of the times.

        Raises:
            ValueError: times that do not increase strictly, or lie outside [0, 1].
        """
        z, previous = x, 0.0
        for k, time in enumerate(times):
            if float(time) == 0 and k == 0:
                yield z
                continue
            eps = noise.per_sample(seed, "walk", range(len(x)), k, z)
            z, previous = draw(self.step(z, previous, time), eps), float(time)
            yield z
