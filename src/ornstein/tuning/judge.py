"""The distance of a walk's samples to the data, and the damping that reduces it."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.diffusion.damping import Damped
from ornstein.diffusion.denoiser import Denoiser, pure_noise, reference_tensor
from ornstein.diffusion.samplers.loop import NotFinite, sample
from ornstein.diffusion.samplers.rule import Rule

__all__ = ["Judge"]

SMALL = 256  # values of a sample, up to which more samples are used
SAMPLES = (2000, 500)  # for a distance: of samples of at most SMALL values, and of larger ones
DAMPING, MAX_DAMPING = 0.01, 0.1  # step and limit of the search for the damping
# The distance must fall by half a per cent on each of `BLOCKS` sets of other noise, which chance alone passes in 1 case
# of 4. A distance that only reflects a small sample falls by less: a step of 0.01 takes some 0.3 % of the variance.
IMPROVEMENT, BLOCKS = 0.995, 2


class Judge:
    """The distance to the data of a rule's samples, from the same set of noise for every rule.

    Args:
        denoiser: the model.
        distance: from a set of samples to the data.
        first: index of the first unused noise of the stream.
        conditions: (M,) or (M, K), through which the samples cycle, or None.
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
        indices, like = range(first, first + self.count), reference_tensor(self.denoiser)
        z = pure_noise(self.denoiser, self.seed, "tune", indices, like)
        model = Damped(self.denoiser, damping) if damping else self.denoiser
        try:
            return self.distance(sample(model, z=z, condition=self.conditions, sampler=rule, times=times))
        except NotFinite:
            return math.inf

    def best_damping(self, rule: str | Rule, times: Tensor, undamped: float) -> tuple[float, float]:
        """The damping that minimises the distance, on other noise too, and that distance; `undamped` is without it."""
        damping, minimum = 0.0, undamped
        for step in (DAMPING, -DAMPING):
            while abs(damping) < MAX_DAMPING:
                distance = self(rule, times, damping + step)
                if not distance < minimum:
                    break
                damping, minimum = round(damping + step, 2), distance
            if damping:
                break
        confirmed = damping and all(self(rule, times, damping, block) < IMPROVEMENT * self(rule, times, 0.0, block)
                                    for block in range(1, 1 + BLOCKS))
        return (damping, minimum) if confirmed else (0.0, undamped)
