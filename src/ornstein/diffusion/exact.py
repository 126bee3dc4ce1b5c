"""Denoisers in closed form: the optimal estimate for data with a known law, and the reference of the tests."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from ornstein import noise
from ornstein.arguments import require_int
from ornstein.diffusion.condition import Condition, Conditions
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import Level, as_time
from ornstein.diffusion.linear import MAX_MATRIX_SIZE, Gaussian, wiener_gain
from ornstein.diffusion.schedule import Schedule
from ornstein.isolation import isolated

__all__ = ["ExactDataset", "ExactGaussian", "ExactMixture"]

CHUNK = 2**22  # float64 entries in a block of pairwise distances: 32 MB


def _double(value: Tensor) -> Tensor:
    """A value in float64 on its own device, where torch would move it to the default one."""
    return torch.as_tensor(value, dtype=torch.float64, device=getattr(value, "device", None))


class ExactGaussian(Denoiser):
    """The optimal denoiser of data N(mean, covariance).

    v = c eps - s x is linear in z: with p the variance along an eigenvector of the covariance and y = z / r,
    E[v | z] = c s (1 - p) / (c^2 p + s^2) (y - c mean) - s mean  along it.

    Args:
        mean: (D,).
        variance: (D,) variances >= 0, or a (D, D) covariance.
        schedule: the path of the latents.

    Raises:
        ValueError: shapes that do not fit, or a variance that is not symmetric and >= 0.
    """

    mean: Tensor
    power: Tensor
    basis: Tensor

    @isolated()
    def __init__(self, mean: Tensor, variance: Tensor, schedule: Schedule) -> None:
        mean, variance = _double(mean), _double(variance)
        if mean.ndim != 1 or variance.shape not in ((len(mean),), (len(mean), len(mean))):
            raise ValueError(f"mean has shape {tuple(mean.shape)} and variance {tuple(variance.shape)}; "
                             "they must be (D,) and (D,) or (D, D)")
        super().__init__(schedule, mean.shape)
        if variance.ndim == 2:
            if not torch.allclose(variance, variance.T, rtol=1e-8, atol=1e-12):
                raise ValueError("variance is a (D, D) matrix that is not symmetric; a covariance must be")
            power, basis = torch.linalg.eigh(variance)
            # eigh may return -1e-17 for a direction without variance.
            power = torch.where(power.abs() < 1e-12 * power.abs().max(), power.clamp(min=0), power)
        else:
            power, basis = variance, torch.eye(len(mean), dtype=torch.float64, device=mean.device)
        if not (power >= 0).all():
            raise ValueError(f"variance has a direction of {float(power.min()):.3g}; variances must be >= 0")
        self.register_buffer("mean", mean)
        self.register_buffer("power", power)
        self.register_buffer("basis", basis)

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:  # noqa: ARG002
        level = self.level(z, t)
        wide = z.double()
        exact = self.schedule.level(as_time(t)).fit(wide)
        c, s = exact.unit
        rotated = (wide / exact.radius - c * self.mean) @ self.basis
        v = (rotated * wiener_gain(c, s, self.power)) @ self.basis.T - s * self.mean
        return Estimate(z, level, v.to(z))

    def gaussian(self) -> Gaussian:
        """The law of the data."""
        return Gaussian(self.mean, self.power, self.basis)

    def log_prob_at(self, z: Tensor, t: Tensor | float) -> Tensor:
        """log q(z_t), the marginal (20.12) at time t: z (B, D), times () or (B,); (B,) nats.

        Raises:
            ValueError: a direction without variance at a time without noise, where there is no density.
        """
        signal, sigma = self.schedule.level(as_time(t)).fit(z.double())
        total = signal**2 * self.power + sigma**2
        if not (total > 0).all():
            raise ValueError("variance has a direction of 0 and noise is 0 at this time; take t > 0")
        white = (z.double() - signal * self.mean) @ self.basis / total.sqrt()
        return -0.5 * (white**2 + total.log() + math.log(2 * math.pi)).sum(-1).to(z)

    def log_prob(self, x: Tensor) -> Tensor:
        """log p(x) of clean data: x (B, D); (B,) nats."""
        return self.log_prob_at(x, 0.0)

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """n samples of the data, (n, D) float64."""
        eps = noise.normal(seed, "exact", 0, 0, (require_int("n", n), len(self.mean)), self.mean)
        return self.mean + (eps * self.power.sqrt()) @ self.basis.T


class ExactMixture(Denoiser):
    """The optimal denoiser of a mixture of isotropic Gaussians; condition k selects component k.

    Args:
        weight: (K,) >= 0 with a positive sum, to which they are normalised.
        mean: (K, D).
        variance: (K,) > 0 (points without variance are an `ExactDataset`).
        schedule: the path of the latents.

    Raises:
        ValueError: shapes that do not fit, negative weights, or variances that are not positive.
    """

    weight: Tensor
    mean: Tensor
    variance: Tensor

    @isolated()
    def __init__(self, weight: Tensor, mean: Tensor, variance: Tensor, schedule: Schedule) -> None:
        weight, mean, variance = map(_double, (weight, mean, variance))
        if mean.ndim != 2 or weight.shape != mean.shape[:1] or variance.shape != mean.shape[:1]:
            raise ValueError(f"weight, mean and variance have shapes {tuple(weight.shape)}, {tuple(mean.shape)} and "
                             f"{tuple(variance.shape)}; they must be (K,), (K, D) and (K,)")
        if not ((weight >= 0).all() and weight.sum() > 0):
            raise ValueError(f"weight is {weight.tolist()}; weights must be >= 0 with a positive sum")
        if not (variance > 0).all():
            raise ValueError(f"variance is {variance.tolist()}; every variance of a mixture must be positive")
        super().__init__(schedule, mean.shape[1:])
        self._conditions = Conditions("classes", len(weight))
        self.register_buffer("weight", weight / weight.sum())
        self.register_buffer("mean", mean)
        self.register_buffer("variance", variance)

    def _joint(self, z: Tensor, t: Tensor | float, condition: Condition) -> tuple[Tensor, Level]:
        """log(weight_k q_k(z_t)), (B, K), and the level, (B or 1, 1)."""
        z = z.double()
        level = Level(*(entry.to(z.device)[:, None] for entry in self.schedule.level(as_time(t).reshape(-1))))
        signal, sigma = level
        total = signal**2 * self.variance + sigma**2
        # |z - signal mean|^2 by broadcasting, since the expanded square loses digits by cancellation.
        square = ((z[:, None, :] - signal[..., None] * self.mean) ** 2).sum(-1)
        log_density = -0.5 * (square / total + self.mean.shape[1] * (total * 2 * math.pi).log())
        log = self.weight.log() + log_density
        if (classes := self.read_condition(condition, len(z), z.device)) is not None:
            classes = classes[:, None]
            chosen = (torch.arange(len(self.weight), device=z.device) == classes) | (classes < 0)
            # Given a component its weight is 1; -1 keeps the weights of the mixture.
            log = torch.where(classes < 0, log, log_density).masked_fill(~chosen, -math.inf)
        return log, level

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        level = self.level(z, t)
        log, exact = self._joint(z, t, condition)
        share, (c, s) = log.softmax(1), exact.unit
        # The mean over the components' v of ExactGaussian, gain_k (y - c mean_k) - s mean_k.
        gain = wiener_gain(c, s, self.variance)
        v = (share * gain).sum(1, keepdim=True) * z.double() / exact.radius - (share * (gain * c + s)) @ self.mean
        return Estimate(z, level, v.to(z))

    def gaussian(self) -> Gaussian:
        """The Gaussian with the mean and the covariance of the mixture."""
        mean = self.weight @ self.mean
        between = self.weight.sqrt()[:, None] * (self.mean - mean)
        within = (self.weight @ self.variance).expand(len(mean)).diag()
        return Gaussian.from_covariance(mean, within + between.T @ between)

    def log_prob_at(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Tensor:
        """log q(z_t), the marginal (20.12) at time t: z (B, D), times () or (B,); (B,) nats."""
        return self._joint(z, t, condition)[0].logsumexp(1).to(z)

    def log_prob(self, x: Tensor, condition: Condition = None) -> Tensor:
        """log p(x) of clean data: x (B, D); (B,) nats."""
        return self.log_prob_at(x, 0.0, condition)

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """n samples of the data, (n, D) float64."""
        n = require_int("n", n)
        index = noise.generator(seed, "exact", 1).choice(len(self.weight), n, p=self.weight.cpu().numpy())
        eps = noise.normal(seed, "exact", 0, 0, (n, self.mean.shape[1]), self.mean)
        return self.mean[index] + self.variance[index, None].sqrt() * eps


class ExactDataset(Denoiser):
    """The optimal denoiser of a training set: the reverse conditional over its points (20.11), (20.12).

    q(x | z_t) gives each point the softmax of -|z - signal x_i|^2 / (2 noise^2); its mean is the best estimate that any
    network can learn from these data, and at t = 0 it is the nearest point, with v = 0.

    Args:
        x: (N, ...) the training set.
        schedule: the path of the latents.
        labels: (N,) classes, which a condition selects; None without.

    Raises:
        ValueError: an empty set, or labels of another length.
    """

    points: Tensor
    labels: Tensor | None
    _conditions = Conditions("classes")

    @isolated()
    def __init__(self, x: Tensor, schedule: Schedule, labels: Tensor | None = None) -> None:
        x = _double(x)
        if x.ndim < 2 or not len(x):
            raise ValueError(f"x has shape {tuple(x.shape)}; it must be (N, ...) with N >= 1")
        if labels is not None and labels.shape != x.shape[:1]:
            raise ValueError(f"labels has shape {tuple(labels.shape)}; it must be ({len(x)},)")
        super().__init__(schedule, x.shape[1:])
        self.register_buffer("points", x.flatten(1))
        self.register_buffer("labels", labels)

    def _blocks(self, z: Tensor, t: Tensor | float, condition: Condition) -> Iterator[Tensor]:
        """log q(z_t | x_i) without its constant for blocks of rows of z, (rows, N); a point mass where noise is 0."""
        level = self.schedule.level(as_time(t).reshape(-1).expand(len(z)))
        classes, rows = self.read_condition(condition, len(z), z.device), max(1, CHUNK // len(self.points))
        for start in range(0, len(z), rows):
            block = slice(start, start + rows)
            signal, sigma = (entry[block, None].to(z.device) for entry in level)
            # Dividing by the signal turns |z - signal x| into a distance matrix; at signal 0 all points are alike.
            signal = signal.clamp(min=1e-30)
            distance = torch.cdist(z[block].flatten(1).double() / signal, self.points,
                                   compute_mode="donot_use_mm_for_euclid_dist") * signal
            if classes is not None:
                distance = distance.masked_fill(~self._has_class(classes[block]), math.inf)
            nearest = torch.where(distance == distance.amin(1, keepdim=True), 0.0, -math.inf)
            yield torch.where(sigma == 0, nearest, -0.5 * (distance / sigma.masked_fill(sigma == 0, 1)) ** 2)

    def _has_class(self, classes: Tensor) -> Tensor:
        """Which points have the class of each row, (rows, N) bool; all for -1."""
        if self.labels is None:
            raise ValueError("condition is given, but this ExactDataset was built without labels")
        chosen = (self.labels == classes[:, None]) | (classes[:, None] < 0)
        if (missing := ~chosen.any(1)).any():
            raise ValueError(f"condition is {int(classes[missing][0])}; no point of this ExactDataset has that label")
        return chosen

    def forward(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Estimate:
        level = self.level(z, t)
        mean = torch.cat([log.softmax(1) @ self.points for log in self._blocks(z, t, condition)]).reshape(z.shape)
        # v from x in float64: at low noise it is a small difference divided by a small number.
        exact = Estimate.from_x(mean, z.double(), self.schedule.level(as_time(t)).fit(z.double()))
        return Estimate(z, level, exact.v.to(z))

    def gaussian(self) -> Gaussian:
        """The Gaussian with the mean and the covariance of the points; for very large points with variances alone."""
        mean = self.points.mean(0)
        centred = self.points - mean
        if len(mean) > MAX_MATRIX_SIZE:
            return Gaussian(mean, centred.square().mean(0))
        return Gaussian.from_covariance(mean, centred.T @ centred / len(centred))

    def log_prob_at(self, z: Tensor, t: Tensor | float, condition: Condition = None) -> Tensor:
        """log q(z_t), the mixture (20.12) of kernels on the training points: z (B, ...); (B,) nats.

        Raises:
            ValueError: a time without noise, where the law is a sum of point masses.
        """
        sigma = self.schedule.level(as_time(t)).noise.to(z.device)
        if (sigma == 0).any():
            raise ValueError("noise is 0 at this time; a data set has a density only where noise > 0 (take t > 0)")
        classes = self.read_condition(condition, len(z), z.device)
        count = torch.tensor(len(self.points), device="cpu") if classes is None else self._has_class(classes).sum(1)
        log = torch.cat([log.logsumexp(1) for log in self._blocks(z, t, condition)])
        size = math.prod(self.shape)
        return (log - size * (sigma.log() + 0.5 * math.log(2 * math.pi)) - count.double().log()).to(z)

    def draw(self, n: int, seed: int = 0) -> Tensor:
        """n training points drawn uniformly, (n, *shape) float64."""
        n = require_int("n", n)
        index = noise.generator(seed, "exact", 2).integers(len(self.points), size=n)
        return self.points[index].reshape(n, *self.shape)
