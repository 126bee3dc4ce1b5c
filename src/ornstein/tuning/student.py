"""A short walk that is learned: its weights by regression on exact paths, then weights and times by gradients."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.samplers.learned import Learned
from ornstein.diffusion.samplers.multistep import MIN_GAP, RELATIVE_GAP, adams

__all__ = ["Student"]

ORDER, FRAME_STD = 3, math.sqrt(2.0)  # of Adams' rule; standard deviation of data that its frame solves exactly
RIDGE = 1e-4  # of a regression, relative to the mean square of its columns


class Student:
    """Adams' rule in the frame "v" of `Multistep`, with learned corrections.

    With z = scale Y, dY / dp = S and h = p_(n+1) - p_n, a step is

        Y_(n+1) = Y_n + h sum_j (adams_nj + a_nj) S_j + sum_j b_nj Y_j,   j <= n,

    but the last one starts from x-hat. If the b of each step sum to 0, N(0, 2 I) is solved as exactly as by the rule
    itself. The a and b of a step are stored in coordinates in which its columns are orthonormal on exact paths, which
    conditions the gradients.

    Args:
        denoiser: the model.
        times: (n + 1,) from 1 to 0, the initial times.
    """

    def __init__(self, denoiser: Denoiser, times: Tensor) -> None:
        self.denoiser, self.steps = denoiser, len(times) - 1
        self.gaps = nn.Parameter((times[:-1] - times[1:]).log())
        self.factors: list[Tensor] = []
        self.corrections: list[nn.Parameter] = []

    def times(self) -> Tensor:
        """(n + 1,) float64, from 1 to 0."""
        share = torch.softmax(self.gaps, 0)
        inner = 1 - torch.cumsum(share, 0)[:-1]
        return torch.cat([inner.new_ones(1), inner, inner.new_zeros(1)])

    def weights(self) -> tuple[Tensor, Tensor, Tensor]:
        """The times, and the (n, n) weights of the latents and of the velocities."""
        times = self.times()
        frame = _Frame(self.denoiser, times)
        points, slopes = [], []
        for n in range(self.steps):
            weight_z, weight_v = frame.adams_weights(n)
            if n < len(self.corrections):
                correction = torch.linalg.solve_triangular(self.factors[n].T, self.corrections[n][:, None],
                                                           upper=True)[:, 0]
                a, b = correction.split(n + 1)
                scale, h = frame.scale[n + 1], frame.gap(n)
                weight_z = weight_z + scale * b / frame.scale[:n + 1] + scale * h * a * frame.weight_z[:n + 1]
                weight_v = weight_v + scale * h * a * frame.weight_v[:n + 1]
            points.append(nn.functional.pad(weight_z, (0, self.steps - n - 1)))
            slopes.append(nn.functional.pad(weight_v, (0, self.steps - n - 1)))
        return times, torch.stack(points), torch.stack(slopes)

    def __call__(self, z: Tensor, condition: Tensor | None, weights: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Samples from latents at t = 1, (B, *shape), with the values of `weights`."""
        times, points, slopes = weights
        points, slopes = points.to(z), slopes.to(z)
        latents, velocities = [z], []
        for n in range(self.steps):
            velocities.append(self.velocity(n, latents[n], times, condition))
            latents.append(sum((points[n, j] * latents[j] + slopes[n, j] * velocities[j] for j in range(n + 1)),
                               torch.zeros_like(z)))
        return latents[-1]

    def velocity(self, n: int, z: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        """The velocity at step n."""
        return self.denoiser(z, times[n], condition).v

    @torch.no_grad()
    def regress(self, path: Sequence[Tensor], velocity: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Fit the corrections of each step in turn, so that the walk stays as close as possible to the exact path.

        Args:
            path: latents of the exact path at the times, n + 1 of (B, *shape).
            velocity: function of latents and a time.
        """
        times = self.times()
        frame = _Frame(self.denoiser, times)
        latents, velocities = [path[0]], []
        for n, target in enumerate(path[1:]):
            velocities.append(velocity(latents[n], times[n]))
            weight_z, weight_v = (weights.to(target) for weights in frame.adams_weights(n))
            adams_step = sum(weight_z[j] * latents[j] + weight_v[j] * velocities[j] for j in range(n + 1))
            h = float(frame.scale[n + 1] * frame.gap(n))
            slopes = [h * (float(frame.weight_z[j]) * latents[j] + float(frame.weight_v[j]) * velocities[j])
                      for j in range(n + 1)]
            points = [float(frame.scale[n + 1] / frame.scale[j]) * latents[j] for j in range(n + 1)]
            columns = torch.stack([column.flatten() for column in (*slopes, *points)], 1).double()
            gram = columns.T @ columns / len(columns)
            gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            factor = torch.linalg.cholesky(gram)
            right = columns.T @ (target - adams_step).double().reshape(-1, 1) / len(columns)
            solution = torch.cholesky_solve(right, factor)[:, 0]
            self.factors.append(factor.cpu())
            self.corrections.append(nn.Parameter((factor.T @ solution).cpu()))
            latents.append(adams_step + (columns @ solution).to(target).reshape(target.shape))

    @torch.no_grad()
    def rule(self) -> Learned:
        """The rule with the current weights."""
        _, points, slopes = self.weights()
        return Learned(*([row[:n + 1].tolist() for n, row in enumerate(matrix)] for matrix in (points, slopes)))


class _Frame:
    """The moments of a walk in the frame "v": z = scale Y at the angle p, S = weight_z z + weight_v v."""

    def __init__(self, denoiser: Denoiser, times: Tensor) -> None:
        level = denoiser.schedule.level(times)
        signal, (c, s), radius = FRAME_STD * level.signal, level.unit, level.radius
        self.level = level
        self.scale, self.angle = torch.hypot(signal, level.noise), torch.atan2(level.noise, signal)
        weight_x, weight_eps = -level.noise / FRAME_STD / self.scale, signal / self.scale
        self.weight_z, self.weight_v = (weight_x * c + weight_eps * s) / radius, weight_eps * c - weight_x * s

    def gap(self, n: int) -> Tensor:
        """h = p_(n+1) - p_n."""
        return self.angle[n + 1] - self.angle[n]

    def adams_weights(self, n: int) -> tuple[Tensor, Tensor]:
        """Weights of z_0 ... z_n and v_0 ... v_n in Adams' step, or in x-hat if the step is the last."""
        current = torch.zeros(n + 1, dtype=self.angle.dtype, device=self.angle.device)
        current[n] = 1.0
        if n == len(self.angle) - 2:
            (c, s), radius = self.level.unit, self.level.radius
            return current * c[n] / radius[n], -current * s[n]
        first = n
        while first > max(n + 1 - ORDER, 0) and self._is_distinct(first, n):
            first -= 1
        weights = torch.stack(adams([*self.angle[first:n + 1]], self.angle[n], self.angle[n + 1]))
        weights = self.scale[n + 1] * nn.functional.pad(weights, (first, 0))
        return (current * self.scale[n + 1] / self.scale[n] + weights * self.weight_z[:n + 1],
                weights * self.weight_v[:n + 1])

    def _is_distinct(self, node: int, last: int) -> bool:
        """Whether a node is far enough from the one before it for a slope that is not rounding error."""
        gap, latest = (float((self.angle[j - 1] - self.angle[j]).detach().abs()) for j in (node, last))
        return gap > max(RELATIVE_GAP * latest, MIN_GAP)
