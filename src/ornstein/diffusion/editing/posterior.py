"""Posterior draws given a linear measurement, by a population of weighted walks."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Iterator, Sequence

import torch
from torch import Tensor

from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Batched, Denoiser
from ornstein.diffusion.editing.draws import Draws
from ornstein.diffusion.editing.operator import Operator
from ornstein.diffusion.grid import Moment, walk_moments
from ornstein.diffusion.guidance import guided
from ornstein.diffusion.linear import Gaussian
from ornstein.diffusion.samplers.loop import check_finite
from ornstein.diffusion.schedule import Schedule
from ornstein.noise import generator
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["posterior"]

ROWS = 64  # of a network call
BATCH = 256  # walks, of several measurements, that share network calls
# Levels are at noise / signal = std of the data * tan(WIDEST u^POWER) for even u. From benchmarks/restore.py.
WIDEST, POWER = math.atan(12.0), 1.3
MIN_EFFECTIVE = 0.3  # effective share of the walks that the weights of a level must keep
PRECISION_RANGE = 0.3, 1e4  # of the precision of x given z, relative to that of the data
FIRST_SPREAD = 0.5  # nats by which weights may differ at the first level before they are tempered
MIN_NOISE = 1e-10  # variance added to a measurement without noise, relative to its own


@torch.no_grad()
def posterior(denoiser: Denoiser, data: Gaussian | None, y: Tensor, operator: Operator, noise: float, count: int,
              nfe: int, seed: int, condition: Condition = None, guidance: float | None = None,
              indices: Sequence[int] | None = None, on_progress: Callable[[float], None] = lambda _: None) -> Tensor:
    """Draw x from q(x | y) for y = operator(x) + noise eps; the arguments must have been checked.

    Twisted sequential Monte Carlo (Wu et al. 2023) without derivatives of the network. At s = noise_t / signal_t the
    law of x given zeta = z_t / signal_t = x + s eps is approximated by the Gaussian

        N(x-hat, (P + 1 / s^2)^-1),   where P dx = dg  for  g = (zeta - x-hat) / s^2

    determines the precision P as in quasi-Newton methods: dx and dg are the changes of x-hat and g since the last
    level. P is diagonal in the principal directions of the data, and shared by the walks of one measurement. Given y
    this is again a Gaussian, from which x is drawn, and the next zeta is drawn from q(zeta' | zeta, x). A walk's weight
    is the likelihood of y under the new estimate over that predicted from the last one: 1 for Gaussian data; for other
    data it gives modes their shares. The error of a trained network makes weights differ too. At the first level, where
    any data look Gaussian, it is the only cause, and the more weights differ there, the less they count at all levels.

    Args:
        denoiser: any.
        data: the Gaussian with the moments of the data, `denoiser.gaussian()`; None for a standard normal one.
        y: (B, *into), which sets dtype and device.
        operator: from samples to `into`.
        noise: standard deviation of the measurement's noise, >= 0.
        count: draws per measurement, which form one population.
        nfe: calls per draw.
        seed: of the noise.
        condition: one for all, or one for each measurement.
        guidance: scale of classifier-free guidance.
        indices: of the measurements, which select their noise; by default 0, 1, ...
        on_progress: called with the share that is done.

    Returns:
        (B * count, *shape), draws of the same measurement adjacent.
    """
    conditions = denoiser.read_condition(condition, len(y), "cpu")
    data = (data or Gaussian.standard(math.prod(denoiser.shape))).to(y.device)
    denoiser = guided(denoiser, guidance)
    measurement = Measurement(data, operator, noise)
    indices = range(len(y)) if indices is None else indices
    drawn = shared_tensor((len(y) * count, *denoiser.shape), y)
    walk = levels(denoiser.schedule, nfe, data.std, drawn)
    ratios = [moment.noise / moment.signal for moment in walk]
    per_chunk = max(1, BATCH // count)
    chunks = -(-len(y) // per_chunk)

    def draw(chunk: int) -> Iterator[None]:
        rows = slice(chunk * per_chunk, (chunk + 1) * per_chunk)
        walk_conditions = None if conditions is None else conditions[rows].repeat_interleave(count, 0)
        denoise = Batched(denoiser, walk_conditions, ROWS)
        walks = [population(measurement, y_row.flatten().double(), ratios, Draws(1, count, seed, [index]))
                 for y_row, index in zip(y[rows], indices[rows], strict=True)]
        zeta = torch.cat([next(walk_of_y) for walk_of_y in walks])
        for step, moment in enumerate(walk[:-1]):
            if not chunk:  # the first chunk is always drawn by this process
                on_progress(step / len(walk) / chunks)
            z = (moment.signal * data.from_basis(zeta)).reshape(-1, *denoiser.shape).to(drawn)
            x_hats = data.to_basis(check_finite(denoise(z, moment.clock).x).flatten(1).double()).split(count)
            zeta = torch.cat([walk_of_y.send(x_hat) for walk_of_y, x_hat in zip(walks, x_hats, strict=True)])
            yield
        first = chunk * per_chunk * count
        drawn[first:first + len(zeta)] = data.from_basis(zeta).reshape(-1, *denoiser.shape).to(drawn)

    for done in run_pieces(draw, chunks, y.device):
        on_progress(done / chunks)
    return check_finite(drawn)


def levels(schedule: Schedule, steps: int, std: float, like: Tensor) -> list[Moment]:
    """The moments of the walk, the last at t = 0."""
    u = 1 - torch.arange(steps, dtype=torch.float64, device="cpu") / steps
    times = schedule.time(-2 * torch.log(std * torch.tan(WIDEST * u**POWER)))
    return walk_moments(schedule, torch.cat([times, times.new_zeros(1)]), like)


class Measurement:
    """A linear measurement in the principal directions of the data.

    If each direction contributes to at most one measured value, as for a mask of independent pixels, only the index of
    that value and the factor are stored, and the values are as independent as the directions.

    Args:
        data: the Gaussian with the moments of the data.
        operator: of the measurement, from D values to M.
        noise: standard deviation of its noise.
    """

    def __init__(self, data: Gaussian, operator: Operator, noise: float) -> None:
        self.data, self.noise = data, noise
        if operator.index is not None and data.basis is None:  # large pictures, for which a matrix would be too large
            index = operator.index.to(data.mean.device)
            self.matrix: Tensor | None = None
            self.value_index, self.factor = torch.zeros_like(data.mean, dtype=torch.int64), torch.zeros_like(data.mean)
            self.value_index[index], self.factor[index] = torch.arange(len(index), device=index.device), 1.0
            self.centre = data.mean[index]
            self.min_variance = MIN_NOISE * float(data.variance[index].sum()) / max(len(index), 1)
            return
        matrix = operator.matrix().to(data.mean.device)
        self.centre = matrix @ data.mean
        rotated = data.rotate(matrix)
        self.matrix = rotated
        if len(rotated) and ((rotated != 0).sum(0) <= 1).all():
            self.value_index, self.factor, self.matrix = rotated.abs().argmax(0), rotated.sum(0), None
        self.min_variance = MIN_NOISE * float((rotated**2 @ data.variance).sum()) / max(len(rotated), 1)

    def apply(self, x: Tensor) -> Tensor:
        """The measurements (N, M) of x (N, D)."""
        if self.matrix is not None:
            return x @ self.matrix.T
        return x.new_zeros(len(x), len(self.centre)).index_add_(1, self.value_index, x * self.factor)

    def adjoint(self, y: Tensor) -> Tensor:
        """The adjoint (N, D) of y (N, M)."""
        return y[:, self.value_index] * self.factor if self.matrix is None else y @ self.matrix

    def whitener(self, variance: Tensor) -> Tensor:
        """The whitening of y for x with variances (D,): the inverse Cholesky factor (M, M) of its covariance, or its
        inverse standard deviations (M,).
        """
        if self.matrix is None:
            return (self.apply((variance * self.factor)[None])[0] + self.noise**2 + self.min_variance).rsqrt()
        covariance = self.matrix * variance @ self.matrix.T
        covariance.diagonal().add_(self.noise**2 + self.min_variance)
        unit = torch.eye(len(covariance), dtype=covariance.dtype, device=covariance.device)
        return torch.linalg.solve_triangular(torch.linalg.cholesky(covariance), unit, upper=False)

    def log_likelihood(self, y: Tensor, mean: Tensor, white: Tensor) -> Tensor:
        """log p(y) without its constant for x with means (N, D), (N,) nats."""
        gap = y - self.apply(mean)
        gap, scale = (gap * white, white) if white.ndim == 1 else (gap @ white.T, white.diagonal())
        return scale.log().sum() - 0.5 * gap.square().sum(1)

    def draw(self, y: Tensor, mean: Tensor, variance: Tensor, white: Tensor, eps: Tensor, error: Tensor) -> Tensor:
        """Draws of x ~ N(mean, variance) given y, by Matheron's rule: x + K (y - A x - noise)."""
        x = mean + variance.sqrt() * eps
        gap = y - self.apply(x) - self.noise * error
        return x + variance * self.adjoint(gap * white**2 if white.ndim == 1 else gap @ white.T @ white)


def population(measurement: Measurement, y: Tensor, ratios: Sequence[float],
               draws: Draws) -> Generator[Tensor, Tensor, None]:
    """The walks of one measurement: yields zeta (N, D) at each level, receives x-hat, and yields the samples last."""
    data, count, size = measurement.data, draws.count, len(measurement.data.variance)

    def noise(step: int) -> tuple[Tensor, Tensor, Tensor]:
        """Noise of x, of its measurement and of zeta."""
        eps = draws.noise(range(count), step, y.new_empty(0, 2 * size + len(y)))
        x, error, zeta = eps.split([size, len(y), size], 1)
        return data.rotate(x), error, data.rotate(zeta)

    y = y - measurement.centre
    log_weight, precision, natural = y.new_zeros(count), 1 / data.variance, y.new_zeros(count, size)
    eps_x, eps_y, eps = noise(0)
    x = measurement.draw(y, natural, data.variance, measurement.whitener(data.variance), eps_x, eps_y)
    zeta, s_before, last, weight = x, math.inf, None, 1.0
    for step, s in enumerate(ratios, 1):
        keep = (s / s_before) ** 2  # share of zeta - x that is kept
        zeta = x + keep * (zeta - x) + s * math.sqrt(1 - keep) * eps
        if not s:
            yield zeta
            return
        x_hat = yield zeta
        variance = 1 / (precision + s**-2)
        predicted = measurement.log_likelihood(y, (natural + zeta / s**2) * variance, measurement.whitener(variance))
        g = (zeta - x_hat) / s**2
        if last is not None:
            precision = secant(x_hat - last[0], g - last[1], data.variance)
        variance = 1 / (precision + s**-2)
        white = measurement.whitener(variance)
        gain = measurement.log_likelihood(y, x_hat, white) - predicted
        if last is None:  # under so much noise any data look Gaussian, and weights differ by the model's error alone
            weight = trust(FIRST_SPREAD, gain)
        log_weight = log_weight + weight * gain
        chosen, log_weight = resample(log_weight, draws, step, step == len(ratios) - 1)
        zeta, x_hat, g = zeta[chosen], x_hat[chosen], g[chosen]
        natural, last, s_before = precision * x_hat - g, (x_hat, g), s
        eps_x, eps_y, eps = noise(step)
        x = measurement.draw(y, x_hat, variance, white, eps_x, eps_y)


def trust(spread: float, gain: Tensor) -> float:
    """The power of the weights with log gains (N,): below 1 if they differ by more than `spread`."""
    std = float(gain.std(correction=0))
    return min(1.0, (spread / std) ** 2) if std else 1.0


def secant(dx: Tensor, dg: Tensor, variance: Tensor) -> Tensor:
    """The diagonal precision (D,) that best satisfies P dx = dg for the changes (N, D) of all walks.

    Each direction combines its own estimate with a shared one, relative to the data's precision, which counts as one
    walk.
    """
    floor = 1e-10 * variance.mean() * len(dx)  # the precision of dx^2 in float32
    numerator, denominator = (dx * dg).sum(0) * variance, dx.square().sum(0) + floor
    total = (dx.square() / variance).sum().clamp(min=torch.finfo(dx.dtype).tiny)
    shared = ((dx * dg).sum() / total).clamp(*PRECISION_RANGE)
    ratio = (numerator + shared * (denominator / len(dx) + floor)) / (denominator * (1 + 1 / len(dx)))
    return ratio.clamp(*PRECISION_RANGE) / variance


def resample(log_weight: Tensor, draws: Draws, step: int, final: bool) -> tuple[Tensor, Tensor]:
    """The indices of the walks that continue, drawn in proportion to their weights, and the log weights that they keep.

    Walks are resampled if their effective share is below a half; by a power of the weights if it would be below
    `MIN_EFFECTIVE`, and then they keep the remaining power. After the final resampling all weights are nearly equal.
    """
    count = len(log_weight)

    def effective(power: float) -> float:
        """Kong's effective share of the walks for a power of the weights."""
        return float(1 / (power * log_weight).softmax(0).square().sum()) / count

    if count == 1 or (not final and effective(1) >= 0.5):
        return torch.arange(count, device=log_weight.device), log_weight
    power = 1.0
    if effective(1) < MIN_EFFECTIVE:
        power, high = 0.0, 1.0
        for _ in range(20):
            middle = (power + high) / 2
            power, high = (middle, high) if effective(middle) >= MIN_EFFECTIVE else (power, middle)
    cumulative = (power * log_weight).softmax(0).cumsum(0)
    start = generator(draws.seed, "edit", draws.indices[0], step).random()
    quantiles = (torch.arange(count, dtype=cumulative.dtype, device=cumulative.device) + start) / count
    chosen = torch.searchsorted(cumulative, quantiles).clamp(max=count - 1)
    return chosen, ((1 - power) * log_weight)[chosen]
