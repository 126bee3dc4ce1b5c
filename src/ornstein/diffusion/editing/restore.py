"""Restoration: draws of the samples behind a linear measurement."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.arguments import require_float, require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.editing.operator import Map, Operator, read_operator
from ornstein.diffusion.editing.posterior import posterior
from ornstein.diffusion.linear import Gaussian
from ornstein.diffusion.schedule import MAX_STEPS
from ornstein.display import progress_callback
from ornstein.isolation import isolated
from ornstein.machine import total_memory
from ornstein.noise import MAX_SEED, per_sample

__all__ = ["NFE", "check_budget", "check_memory", "check_samples", "restore", "warn_if_unlikely"]

NFE = 50  # network calls per draw by default
# Draws for the moments of measurements; standard deviations, root mean square over a measurement's values, beyond
# which it is unlikely; and their minimum relative to their root mean square.
DRAWS, FAR, MIN_STD = 128, 5.0, 0.1
MAX_NOISE = 1e100  # whose square float64 still holds


@isolated(gradients=False, evaluating=True)
def restore(denoiser: Denoiser, observation: Tensor, operator: Operator | Tensor | np.ndarray | Map | str,
            noise: float, count: int = 1, *, nfe: int = NFE, seed: int = 0, condition: Condition = None,
            guidance: float | None = None, progress: bool | Callable[[float], None] = False) -> Tensor:
    """Draw samples from the posterior of a linear measurement, q(x | y) with y = operator(x) + noise eps.

    The draws of one measurement are one population, weighted against one another during the walk, so that modes have
    their shares: draw a few dozen even if only a few are needed. A draw costs one network call per step, and no
    derivative of the network.

    Args:
        denoiser: any `Denoiser`, as the prior.
        observation: (B, *into) measurements, in the units of the samples.
        operator: what was measured: a function from (B, *shape) to (B, *into), a matrix (M, D) of the D values of a
            sample, an `Operator`, or a name: "mask=0.5" (a share of the positions, the same in all channels),
            "blur=1.5" (Gaussian, circular, its standard deviation in pixels), "down=4" (means of blocks of 4 x 4),
            "sums=4" (sums of them), "fourier=0.25" (a share of the Fourier coefficients), "grey" (mean of the
            channels), "mean" (along the last side).
        noise: standard deviation of the measurement's noise, >= 0.
        count: draws per measurement.
        nfe: budget of network calls per draw.
        seed: of the draws; those of a measurement do not depend on the other measurements.
        condition: as for `ornstein.sample`, one for all or one per measurement.
        guidance: as for `ornstein.sample`.
        progress: as for `ornstein.sample`.

    Returns:
        (B * count, *shape) draws, those of one measurement adjacent, in the dtype and on the device of the observation:
        after draws.unflatten(0, (-1, count)) their mean is .mean(1), their standard deviation .std(1).

    Raises:
        ValueError: an operator that is not linear, measurements of another shape or not finite, noise below 0, or more
            draws than fit into memory.
    """
    count, nfe = check_budget(count, nfe, seed)
    if not 0 <= require_float("noise", noise) <= MAX_NOISE:
        raise ValueError(f"noise is {noise:g}; it must be a standard deviation, from 0 to {MAX_NOISE:g}")
    forward = read_operator(operator, denoiser.shape, getattr(observation, "device", "cpu"))
    noise, y = float(noise), check_samples("observation", observation, forward.into)
    check_memory(len(y), count, denoiser.shape, y)
    denoiser.read_condition(condition, len(y), "cpu")
    data = denoiser.gaussian()
    warn_if_unlikely(data, y, forward, noise)
    with progress_callback(progress, "restoring") as on_progress:
        return posterior(denoiser, data, y, forward, noise, count, nfe, seed, condition, guidance,
                         on_progress=on_progress)


def check_budget(count: int, nfe: int, seed: int) -> tuple[int, int]:
    """Return count and nfe after checking that they and the seed are whole numbers in range."""
    require_int("seed", seed, 0, MAX_SEED)
    return require_int("count", count), require_int("nfe", nfe, maximum=MAX_STEPS)


def check_samples(name: str, x: Any, shape: Sequence[int], finite: bool = True) -> Tensor:
    """Return a batch (B, *shape), finite if so asked, detached; ValueError or TypeError for anything else."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}; it must be a tensor (torch.as_tensor makes one of an array)")
    if x.shape[1:] != tuple(shape) or not x.ndim or not len(x) or not x.is_floating_point():
        hint = f"; for a single one give {name}[None]" if x.shape == tuple(shape) else ""
        raise ValueError(f"{name} has shape {tuple(x.shape)} and dtype {x.dtype}; it must be a floating-point tensor "
                         f"(B, {', '.join(map(str, shape))}) with B >= 1{hint}")
    if finite and (lost := int((~x.isfinite()).sum())):
        raise ValueError(f"{name} holds {lost} values that are not finite; every value must be a finite number")
    return x.detach()


def check_memory(samples: int, count: int, shape: Sequence[int], like: Tensor) -> None:
    """Raise ValueError for more draws than fit into the device's memory."""
    needed, available = samples * count * math.prod(shape) * like.element_size(), total_memory(like.device.type)
    if needed > available:
        raise ValueError(f"count is {count}; {samples * count:,} draws of shape {tuple(shape)} need "
                         f"{needed / 2**30:,.0f} GiB of memory, and the device has {available / 2**30:,.0f}; at most "
                         f"{max(0, count * available // (2 * needed)):,} for each of the {samples} samples fit well")


def warn_if_unlikely(data: Gaussian | None, y: Tensor, operator: Operator, noise: float,
                     indices: Sequence[int] | None = None) -> None:
    """Warn of measurements (B, *into) that are unlikely under the Gaussian with the moments of the data, by measuring
    DRAWS of it; without that Gaussian nothing is checked.
    """
    if data is None or not y.numel():
        return
    eps = per_sample(0, "edit", range(DRAWS), 0, data.mean.new_empty(DRAWS, len(data.mean)))
    typical = data.from_basis(data.variance.sqrt() * eps).reshape(DRAWS, *operator.shape)
    expected, observed = operator(typical).flatten(1).double(), y.flatten(1).double().to(typical.device)
    std = expected.std(0)
    std = std.clamp(min=MIN_STD * float(std.square().mean().sqrt()))
    std = torch.hypot(std, std.new_tensor(noise)).clamp(min=torch.finfo(torch.float64).tiny)
    z_score = (observed - expected.mean(0)) / std
    distance = z_score.square().mean(1).sqrt()
    if (unlikely := (distance > FAR).nonzero()[:, 0].tolist()):
        first = max(unlikely, key=lambda row: float(distance[row]))
        density = -0.5 * (z_score[first].square() + (2 * math.pi * std.square()).log()).sum()
        usual = -0.5 * (1 + (2 * math.pi * std.square()).log()).sum()
        index = first if indices is None else indices[first]
        warnings.warn(f"{len(unlikely)} of {len(y)} observations are unlike anything that the model knows: number "
                      f"{index} lies {float(distance[first]):.3g} standard deviations (root mean square) from what a "
                      f"Gaussian with the moments of the data gives, its log-likelihood is {float(density):.4g} nats "
                      f"where {float(usual):.4g} is usual; is it in the units of the samples?", RuntimeWarning,
                      stacklevel=3)
