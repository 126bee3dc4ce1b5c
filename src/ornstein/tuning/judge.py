"""The distance to data of what a walk makes of noise, and the damping that lessens it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.diffusion.damping import Damped
from ornstein.diffusion.denoiser import Denoiser, kind_of, pure_noise
from ornstein.diffusion.samplers.loop import NotFinite, sample
from ornstein.diffusion.samplers.rule import Rule

__all__ = ["Judge"]

SMALL = 256  # values of a sample, up to which many are judged
SAMPLES = (2000, 500)  # that a distance is taken of, where they have at most SMALL values and else
DAMPING, FURTHEST = 0.01, 0.1  # steps of the damping, and where they end
# It must lessen the distance by half a per cent on each of so many sets of other noise: by chance, 1 in 4. A distance
# that is only the smallness of a set of samples falls by less, for a step of 0.01 takes some 0.3 % of their variance.
SURE, BLOCKS = 0.995, 2


class Judge:
    """The distance to data of what a rule makes of a set of noise, the same for every rule.

    Args:
        denoiser: the model.
        distance: of a set of samples to the data.
        first: number of the first noise of the stream that is free.
        conditions: (M,) or (M, K), which the samples cycle through, or None.
        seed: of the noise.
    """

    def __init__(self, denoiser: Denoiser, distance: Callable[[Tensor], float], first: int, conditions: Tensor | None,
                 seed: int) -> None:
        self.denoiser, self.distance, self.first, self.seed = denoiser, distance, first, seed
        self.count = SAMPLES[math.prod(denoiser.shape) > SMALL]
        self.conditions = None if conditions is None else conditions[
            torch.arange(self.count, device="cpu") % len(conditions)]

    def __call__(self, rule: str | Rule, times: Tensor, damping: float = 0.0, block: int = 0) -> float:
        first = self.first + block * self.count
        z = pure_noise(self.denoiser, self.seed, "tune", range(first, first + self.count), kind_of(self.denoiser))
        model = Damped(self.denoiser, damping) if damping else self.denoiser
        try:
            return self.distance(sample(model, z=z, condition=self.conditions, sampler=rule, times=times))
        except NotFinite:
            return math.inf

    def damped(self, rule: str | Rule, times: Tensor, plain: float) -> tuple[float, float]:
        """The damping that brings samples nearest, on other noise too, and their distance; `plain` is that of none."""
        damping, least = 0.0, plain
        for step in (DAMPING, -DAMPING):
            while abs(damping) < FURTHEST:
                there = self(rule, times, damping + step)
                if not there < least:
                    break
                damping, least = round(damping + step, 2), there
            if damping:
                break
        sure = damping and all(self(rule, times, damping, block) < SURE * self(rule, times, 0.0, block)
                               for block in range(1, 1 + BLOCKS))
        return (damping, least) if sure else (0.0, plain)
