"""Draws of samples given a linear measurement of them, by a population of walks that are weighed on the way."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from torch import Tensor

from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Batched, Denoiser
from ornstein.diffusion.editing.draws import Draws
from ornstein.diffusion.editing.operator import Operator
from ornstein.diffusion.grid import Moment, moments
from ornstein.diffusion.guidance import guided
from ornstein.diffusion.linear import Gaussian
from ornstein.diffusion.samplers.loop import finite
from ornstein.diffusion.schedule import Schedule
from ornstein.noise import generator
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["posterior"]

ROWS = 64  # of one network call
TOGETHER = 256  # walks, of several measurements, that ask the network together
# Levels are at noise / signal = deviation of the data * tan(WIDEST u^POWER) for even u. From benchmarks/restore.py.
WIDEST, POWER = math.atan(12.0), 1.3
EVEN = 0.3  # share of the walks that the weights at one level may not concentrate beyond
PRECISE = 0.3, 1e4  # least and most precision of x given noiseless z, in parts of that of the data
AT_FIRST = 0.5  # nats by which weights may differ at the first level before they count for less
SINGULAR = 1e-10  # of the variance of a measurement: noise of one that has none


@torch.no_grad()
def posterior(denoiser: Denoiser, data: Gaussian | None, y: Tensor, operator: Operator, noise: float, count: int,
              nfe: int, seed: int, condition: Condition = None, guidance: float | None = None,
              numbers: Sequence[int] | None = None, tell: Callable[[float], None] = lambda _: None) -> Tensor:
    """Draw x of q(x | y) for y = operator(x) + noise eps; all arguments are checked already.

    Twisted sequential Monte Carlo (Wu et al. 2023) without derivatives of the network. At s = noise_t / signal_t the
    law of x behind zeta = z_t / signal_t = x + s eps is taken for the Gaussian

        N(x-hat, (P + 1 / s^2)^-1),   where P dx = dg  for  g = (zeta - x-hat) / s^2

    makes the precision P one of those in quasi-Newton methods: dx and dg are what x-hat and g have changed by since the
    last level. P is diagonal in the principal directions of the data, and the walks of one measurement share it. Given
    y this is a Gaussian again, of which x is drawn, and the next zeta is of q(zeta' | zeta, x). A walk's weight is the
    likelihood of y by the new answer over that which the last one foretold: 1 for Gaussian data; of others it sees to
    it that modes have their shares. The error of a trained network makes weights differ too. At the first level, where
    any data look Gaussian, it is all that does, and the more they differ there, the less they count everywhere.

    Args:
        denoiser: any.
        data: the Gaussian with the moments of the data, `denoiser.gaussian()`; a standard normal one stands for None.
        y: (B, *into), gives dtype and device.
        operator: from samples to `into`.
        noise: deviation of the measurement, >= 0.
        count: draws for each measurement, which are one population.
        nfe: calls a draw.
        seed: of the noise.
        condition: one for all, or one for each measurement.
        guidance: scale of classifier-free guidance.
        numbers: which of the caller's measurements these are, by which their noise is known; 0, 1, ... unless given.
        tell: called with the share that is done.

    Returns:
        (B * count, *shape), those of one measurement adjacent.
    """
    conditions = denoiser.read_condition(condition, len(y), "cpu")
    data = (data or Gaussian.standard(math.prod(denoiser.shape))).to(y.device)
    denoiser = guided(denoiser, guidance)
    measured = Measured(data, operator, noise)
    numbers = range(len(y)) if numbers is None else numbers
    drawn = shared_tensor((len(y) * count, *denoiser.shape), y)
    walk = levels(denoiser.schedule, nfe, data.deviation, drawn)
    ratios = [moment.noise / moment.signal for moment in walk]
    some = max(1, TOGETHER // count)
    parts = -(-len(y) // some)

    def draw(part: int) -> Iterator[None]:
        rows = slice(part * some, (part + 1) * some)
        told = None if conditions is None else conditions[rows].repeat_interleave(count, 0)
        ask = Batched(denoiser, told, ROWS)
        walks = [population(measured, seen.flatten().double(), ratios, Draws(1, count, seed, [number]))
                 for seen, number in zip(y[rows], numbers[rows], strict=True)]
        zeta = torch.cat([next(one) for one in walks])
        for step, moment in enumerate(walk[:-1]):
            if not part:  # which is always this process's
                tell(step / len(walk) / parts)
            z = (moment.signal * data.back(zeta)).reshape(-1, *denoiser.shape).to(drawn)
            answers = data.turn(finite(ask(z, moment.clock).x).flatten(1).double()).split(count)
            zeta = torch.cat([one.send(answer) for one, answer in zip(walks, answers, strict=True)])
            yield
        first = part * some * count
        drawn[first:first + len(zeta)] = data.back(zeta).reshape(-1, *denoiser.shape).to(drawn)

    for done in run_pieces(draw, parts, y.device):
        tell(done / parts)
    return finite(drawn)


def levels(schedule: Schedule, steps: int, deviation: float, like: Tensor) -> list[Moment]:
    """The moments of the walk, the last at t = 0."""
    u = 1 - torch.arange(steps, dtype=torch.float64, device="cpu") / steps
    times = schedule.time(-2 * torch.log(deviation * torch.tan(WIDEST * u**POWER)))
    return moments(schedule, torch.cat([times, times.new_zeros(1)]), like)


class Measured:
    """A linear measurement, seen from the principal directions of the data.

    One whose values depend on different directions each, as a mask of independent pixels, is kept as what each
    direction goes into and by which factor, and its values are as independent as the directions.

    Args:
        data: the Gaussian with their moments.
        operator: of the measurement, from D values to M.
        noise: its deviation.
    """

    def __init__(self, data: Gaussian, operator: Operator, noise: float) -> None:
        self.data, self.noise = data, noise
        if operator.index is not None and data.basis is None:  # large pictures have no room for a matrix
            index = operator.index.to(data.mean.device)
            self.matrix: Tensor | None = None
            self.into, self.factor = torch.zeros_like(data.mean, dtype=torch.int64), torch.zeros_like(data.mean)
            self.into[index], self.factor[index] = torch.arange(len(index), device=index.device), 1.0
            self.centre = data.mean[index]
            self.least = SINGULAR * float(data.variance[index].sum()) / max(len(index), 1)
            return
        matrix = operator.matrix().to(data.mean.device)
        self.centre = matrix @ data.mean
        along = data.along(matrix)
        self.matrix = along
        if len(along) and ((along != 0).sum(0) <= 1).all():
            self.into, self.factor, self.matrix = along.abs().argmax(0), along.sum(0), None
        self.least = SINGULAR * float((along**2 @ data.variance).sum()) / max(len(along), 1)

    def apply(self, x: Tensor) -> Tensor:
        """(N, M) of x (N, D)."""
        if self.matrix is not None:
            return x @ self.matrix.T
        return x.new_zeros(len(x), len(self.centre)).index_add_(1, self.into, x * self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        """(N, D) of y (N, M)."""
        return y[:, self.into] * self.factor if self.matrix is None else y @ self.matrix

    def whitener(self, variance: Tensor) -> Tensor:
        """What makes y white for x of variances (D,): the inverse of the Cholesky factor (M, M) of its covariance, or
        of its deviations (M,).
        """
        if self.matrix is None:
            return (self.apply((variance * self.factor)[None])[0] + self.noise**2 + self.least).rsqrt()
        covariance = self.matrix * variance @ self.matrix.T
        covariance.diagonal().add_(self.noise**2 + self.least)
        unit = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        return torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), unit, upper=False)

    def log_likelihood(self, y: Tensor, mean: Tensor, white: Tensor) -> Tensor:
        """log p(y) less its constant for x of means (N, D), (N,) nats."""
        gap = y - self.apply(mean)
        gap, scale = (gap * white, white) if white.ndim == 1 else (gap @ white.T, white.diagonal())
        return scale.log().sum() - 0.5 * gap.square().sum(1)

    def draw(self, y: Tensor, mean: Tensor, variance: Tensor, white: Tensor, eps: Tensor, error: Tensor) -> Tensor:
        """Draws of x ~ N(mean, variance) given y, by Matheron's rule: x + K (y - A x - noise)."""
        x = mean + variance.sqrt() * eps
        gap = y - self.apply(x) - self.noise * error
        return x + variance * self.adjoint(gap * white**2 if white.ndim == 1 else gap @ white.T @ white)


def population(measured: Measured, y: Tensor, ratios: Sequence[float],
               draws: Draws) -> Generator[Tensor, Tensor, None]:
    """The walks of one measurement: yields zeta (N, D) at each level, is sent x-hat, and yields the samples last."""
    data, many, size = measured.data, draws.count, len(measured.data.variance)

    def noise(step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Of x, of its measurement and of zeta."""
        eps = draws.noise(range(many), step, y.new_empty(0, 2 * size + len(y)))
        x, error, zeta = eps.split([size, len(y), size], 1)
        return data.along(x), error, data.along(zeta)

    y = y - measured.centre
    log_weight, precision, natural = y.new_zeros(many), 1 / data.variance, y.new_zeros(many, size)
    *fresh, eps = noise(0)
    x = measured.draw(y, natural, data.variance, measured.whitener(data.variance), *fresh)
    zeta, above, last, trust = x, math.inf, None, 1.0
    for step, s in enumerate(ratios, 1):
        kept = (s / above) ** 2  # of what zeta is off x by
        zeta = x + kept * (zeta - x) + s * math.sqrt(1 - kept) * eps
        if not s:
            yield zeta
            return
        x_hat = yield zeta
        variance = 1 / (precision + s**-2)
        foretold = measured.log_likelihood(y, (natural + zeta / s**2) * variance, measured.whitener(variance))
        g = (zeta - x_hat) / s**2
        if last is not None:
            precision = secant(x_hat - last[0], g - last[1], data.variance)
        variance = 1 / (precision + s**-2)
        white = measured.whitener(variance)
        gain = measured.log_likelihood(y, x_hat, white) - foretold
        if last is None:  # under so much noise any data look Gaussian: weights that differ are the model's own error
            trust = at_most(AT_FIRST, gain)
        log_weight = log_weight + trust * gain
        chosen, log_weight = resample(log_weight, draws, step, step == len(ratios) - 1)
        zeta, x_hat, g = zeta[chosen], x_hat[chosen], g[chosen]
        natural, last, above = precision * x_hat - g, (x_hat, g), s
        *fresh, eps = noise(step)
        x = measured.draw(y, x_hat, variance, white, *fresh)


def at_most(spread: float, gain: Tensor) -> float:
    """The share of log weights (N,) that counts: less the more they differ by beyond what the data can make them."""
    deviation = float(gain.std(correction=0))
    return min(1.0, (spread / deviation) ** 2) if deviation else 1.0


def secant(dx: Tensor, dg: Tensor, variance: Tensor) -> Tensor:
    """The diagonal precision (D,) that says best of all walks' changes (N, D) that P dx = dg.

    That of each direction is a mean of its own and of the one that all share in parts of the data's precision, which
    counts as one walk.
    """
    least = 1e-10 * variance.mean() * len(dx)  # float32 knows no more of dx^2
    own, seen = (dx * dg).sum(0) * variance, dx.square().sum(0) + least
    shared = ((dx * dg).sum() / (dx.square() / variance).sum().clamp(min=torch.finfo(dx.dtype).tiny)).clamp(*PRECISE)
    ratio = (own + shared * (seen / len(dx) + least)) / (seen * (1 + 1 / len(dx)))
    return ratio.clamp(*PRECISE) / variance


def resample(log_weight: Tensor, draws: Draws, step: int, final: bool) -> tuple[Tensor, Tensor]:
    """Which walks go on, each as often as its weight says, and the log weights that they keep.

    They are chosen where the weights concentrate on less than half of them, and by a power of the weights where else
    they would on less than `EVEN`; what the power leaves out they keep. The samples, after the last choice, are to
    have weights all alike.
    """
    many = len(log_weight)

    def effective(power: float) -> float:
        """Kong's effective share of the walks for a power of the weights."""
        return float(1 / (power * log_weight).softmax(0).square().sum()) / many

    if many == 1 or (not final and effective(1) >= 0.5):
        return torch.arange(many, device=log_weight.device), log_weight
    power = 1.0
    if effective(1) < EVEN:
        power, high = 0.0, 1.0
        for _ in range(20):
            middle = (power + high) / 2
            power, high = (middle, high) if effective(middle) >= EVEN else (power, middle)
    ends = (power * log_weight).softmax(0).cumsum(0)
    start = generator(draws.seed, "edit", draws.numbers[0], step).random()
    places = (torch.arange(many, dtype=ends.dtype, device=ends.device) + start) / many
    chosen = torch.searchsorted(ends, places).clamp(max=many - 1)
    return chosen, ((1 - power) * log_weight)[chosen]
