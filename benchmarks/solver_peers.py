"""Learned solvers of others, as their papers describe them, on a model of ours: LD3 and the Generalized Solver.

LD3 (Tong et al. 2025) learns the times of a known solver, and apart from them the times that the network is told, from
pairs of noise and a teacher's sample; its loss asks only that some noise near by leads to that sample. The Generalized
Solver (Oganov et al. 2026, without the adversarial loss) adds to a multistep solver's coefficients a correction for
each earlier latent and prediction, and learns them with the times and the times that the network is told. Both take
Adam; here both start from the times of auto and Adams' rule, and keep what is nearest to the teacher on unseen noise.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

import ornstein as orn
from ornstein.diffusion.estimate import Estimate
from ornstein.tuning.paths import Starts
from ornstein.tuning.student import Student

__all__ = ["Solver", "learn"]

ITERATIONS, BATCH, EVERY = 400, 64, 25
RATE = 0.01  # of Adam, falling to 0 along a cosine
RADIUS = 0.02  # of LD3's ball around the noise, in parts of the noise's own length


class Solver(Student):
    """Adams' rule with times that are learned, the network's own times, and corrections if these are learned too."""

    def __init__(self, model: orn.Denoiser, times: Tensor, corrected: bool) -> None:
        super().__init__(model, times)
        self.offsets = nn.Parameter(times.new_zeros(self.steps - 1))
        if corrected:
            self.factors = [torch.eye(2 * n + 2, dtype=times.dtype) for n in range(self.steps)]
            self.corrections = [nn.Parameter(times.new_zeros(2 * n + 2)) for n in range(self.steps)]

    def parameters(self) -> list[nn.Parameter]:
        """All that is learned."""
        return [self.gaps, self.offsets, *self.corrections]

    def velocity(self, n: int, z: Tensor, times: Tensor, condition: Tensor | None) -> Tensor:
        """The velocity of the x-hat that the network finds at its own time."""
        told = times[n] if n == 0 else (times[n] + self.offsets[n - 1]).clamp(1e-4, 1.0)
        x = self.denoiser(z, told, condition).x
        return Estimate.from_x(x, z, self.denoiser.schedule.level(times[n])).v

    @torch.no_grad()
    def sample(self, z: Tensor, condition: Tensor | None, rows: int = 500) -> Tensor:
        """Samples from latents, some at a time."""
        weights = self.weights()
        told = [None] * len(z) if condition is None else condition.split(rows)
        return torch.cat([self(part, own, weights) for part, own in zip(z.split(rows), told, strict=False)])


def learn(model: orn.Denoiser, times: Tensor, teacher: Starts, unseen: Starts, corrected: bool) -> Solver:
    """The Generalized Solver, or LD3 where nothing is corrected, from a teacher's samples."""
    solver, draw = Solver(model, times, corrected), torch.Generator().manual_seed(0)
    near = nn.Parameter(torch.zeros_like(teacher.z))
    groups = [{"params": solver.parameters()}, *([] if corrected else [{"params": [near], "lr": RADIUS}])]
    adam = torch.optim.Adam(groups, lr=RATE)
    fall = torch.optim.lr_scheduler.CosineAnnealingLR(adam, ITERATIONS)
    best = float("inf"), [parameter.detach().clone() for parameter in solver.parameters()]
    for iteration in range(ITERATIONS + 1):
        if iteration % EVERY == 0:
            error = float((solver.sample(unseen.z, unseen.condition) - unseen.end).square().mean())
            if error < best[0]:
                best = error, [parameter.detach().clone() for parameter in solver.parameters()]
        rows = torch.randperm(len(teacher.z), generator=draw)[:BATCH]
        with torch.enable_grad():
            z = teacher.z[rows] + near[rows]
            told = None if teacher.condition is None else teacher.condition[rows]
            loss = (solver(z, told, solver.weights()) - teacher.end[rows]).square().mean()
            adam.zero_grad()
            loss.backward()
        adam.step()
        fall.step()
        with torch.no_grad():
            length = near.flatten(1).norm(dim=1) / teacher.z.flatten(1).norm(dim=1) / RADIUS
            near /= length.clamp(min=1.0).reshape(-1, *[1] * (near.ndim - 1))
    for parameter, value in zip(solver.parameters(), best[1], strict=True):
        parameter.data.copy_(value)
    return solver
