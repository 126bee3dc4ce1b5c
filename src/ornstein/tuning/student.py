"""A walk of few steps that can be learned: its weights by regression on exact paths, then with its times by gradients.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.samplers.learned import Learned
from ornstein.diffusion.samplers.multistep import FINE, NEAR, adams

__all__ = ["Student"]

ORDER, ROOT = 3, math.sqrt(2.0)  # of Adams' rule, and the deviation that its frame solves exactly
RIDGE = 1e-4  # of a regression, in parts of the mean square of its columns


class Student:
    """Adams' rule in the frame "v" of `Multistep`, and corrections that are learned.

    With z = scale Y, dY / dp = S and h = p_(n+1) - p_n, a step is

        Y_(n+1) = Y_n + h sum_j (adams_nj + a_nj) S_j + sum_j b_nj Y_j,   j <= n,

    but the last one begins at x-hat. As far as the b of each step sum to 0, N(0, 2 I) is solved as exactly as
    by the rule itself. The numbers a and b of a step are held in coordinates in which its columns are orthonormal on
    exact paths, where gradients go straight to the least.

    Args:
        denoiser: whose walk it is.
        times: (n + 1,) from 1 to 0, where it begins.
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
        """The times, and (n, n) weights of the latents and of the velocities."""
        times = self.times()
        frame = _Frame(self.denoiser, times)
        points, slopes = [], []
        for n in range(self.steps):
            of_z, of_v = frame.known(n)
            if n < len(self.corrections):
                plain = torch.linalg.solve_triangular(self.factors[n].T, self.corrections[n][:, None], upper=True)[:, 0]
                by_slope, by_point = plain.split(n + 1)
                mine, far = frame.scale[n + 1], frame.scale[n + 1] * frame.gap(n)
                of_z = of_z + mine * by_point / frame.scale[:n + 1] + far * by_slope * frame.of_z[:n + 1]
                of_v = of_v + far * by_slope * frame.of_v[:n + 1]
            points.append(nn.functional.pad(of_z, (0, self.steps - n - 1)))
            slopes.append(nn.functional.pad(of_v, (0, self.steps - n - 1)))
        return times, torch.stack(points), torch.stack(slopes)

    def __call__(self, z: Tensor, condition: Tensor | None, weights: tuple[Tensor, Tensor, Tensor]) -> Tensor:
        """Samples from latents at t = 1, (B, *shape), by what `weights` gave."""
        times, points, slopes = weights
        points, slopes = points.to(z), slopes.to(z)
        latents, velocities = [z], []
        for n in range(self.steps):
            velocities.append(self.denoiser(latents[n], times[n], condition).v)
            latents.append(sum((points[n, j] * latents[j] + slopes[n, j] * velocities[j] for j in range(n + 1)),
                               torch.zeros_like(z)))
        return latents[-1]

    @torch.no_grad()
    def regress(self, path: Sequence[Tensor], ask: Callable[[Tensor, Tensor], Tensor]) -> None:
        """Corrections that lead each step, from where the steps before it lead, as near as may be to the exact path.

        Args:
            path: latents of the exact path at the times, n + 1 of (B, *shape).
            ask: the velocity at latents and a time.
        """
        times = self.times()
        frame = _Frame(self.denoiser, times)
        latents, velocities = [path[0]], []
        for n, goal in enumerate(path[1:]):
            velocities.append(ask(latents[n], times[n]))
            of_z, of_v = (weights.to(goal) for weights in frame.known(n))
            known = sum(of_z[j] * latents[j] + of_v[j] * velocities[j] for j in range(n + 1))
            far = float(frame.scale[n + 1] * frame.gap(n))
            slopes = [far * (float(frame.of_z[j]) * latents[j] + float(frame.of_v[j]) * velocities[j])
                      for j in range(n + 1)]
            points = [float(frame.scale[n + 1] / frame.scale[j]) * latents[j] for j in range(n + 1)]
            columns = torch.stack([column.flatten() for column in (*slopes, *points)], 1).double()
            gram = columns.T @ columns / len(columns)
            gram += RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
            factor = torch.linalg.cholesky(gram)
            best = torch.cholesky_solve(columns.T @ (goal - known).double().reshape(-1, 1) / len(columns), factor)[:, 0]
            self.factors.append(factor.cpu())
            self.corrections.append(nn.Parameter((factor.T @ best).cpu()))
            latents.append(known + (columns @ best).to(goal).reshape(goal.shape))

    @torch.no_grad()
    def rule(self) -> Learned:
        """The rule as it is now."""
        _, points, slopes = self.weights()
        return Learned(*([row[:n + 1].tolist() for n, row in enumerate(part)] for part in (points, slopes)))


class _Frame:
    """What the moments of a walk are in the frame "v": z = scale Y at `place`, S = of_z z + of_v v."""

    def __init__(self, denoiser: Denoiser, times: Tensor) -> None:
        level = denoiser.schedule.level(times)
        signal, (c, s), radius = ROOT * level.signal, level.unit, level.radius
        self.level = level
        self.scale, self.place = torch.hypot(signal, level.noise), torch.atan2(level.noise, signal)
        of_x, of_eps = -level.noise / ROOT / self.scale, signal / self.scale
        self.of_z, self.of_v = (of_x * c + of_eps * s) / radius, of_eps * c - of_x * s

    def gap(self, n: int) -> Tensor:
        """From a place to the next one."""
        return self.place[n + 1] - self.place[n]

    def known(self, n: int) -> tuple[Tensor, Tensor]:
        """Weights of z_0 ... z_n and v_0 ... v_n in Adams' step, or in x-hat where the step is the last."""
        here = torch.zeros(n + 1, dtype=self.place.dtype, device=self.place.device)
        here[n] = 1.0
        if n == len(self.place) - 2:
            (c, s), radius = self.level.unit, self.level.radius
            return here * c[n] / radius[n], -here * s[n]
        first = n
        while first > max(n + 1 - ORDER, 0) and self._apart(first, n):
            first -= 1
        share = torch.stack(adams([*self.place[first:n + 1]], self.place[n], self.place[n + 1]))
        share = self.scale[n + 1] * nn.functional.pad(share, (first, 0))
        return here * self.scale[n + 1] / self.scale[n] + share * self.of_z[:n + 1], share * self.of_v[:n + 1]

    def _apart(self, node: int, last: int) -> bool:
        """Whether a slope can be told from rounding between a moment and the one before it."""
        gap, latest = (float((self.place[j - 1] - self.place[j]).detach().abs()) for j in (node, last))
        return gap > max(NEAR * latest, FINE)
