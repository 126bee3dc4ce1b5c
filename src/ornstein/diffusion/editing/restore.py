"""Undo a linear measurement: draws of what the sample may have been."""

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
from ornstein.diffusion.schedule import MOST_STEPS
from ornstein.display import progress_callback
from ornstein.isolation import isolated
from ornstein.machine import total_memory
from ornstein.noise import MAX_SEED, per_sample

__all__ = ["NFE", "budget", "fits", "restore", "samples_of", "warn_of_unlikely"]

NFE = 50  # network calls a draw when the caller names no budget
# Draws by which the moments of measurements are known; standard deviations, root mean square over a measurement's
# values, beyond which no data can have given it; and the least of them, in parts of their own root mean square.
DRAWS, FAR, LEAST = 128, 5.0, 0.1
LOUDEST = 1e100  # noise whose square float64 still holds


@isolated(gradients=False, evaluating=True)
def restore(denoiser: Denoiser, observation: Tensor, operator: Operator | Tensor | np.ndarray | Map | str,
            noise: float, count: int = 1, *, nfe: int = NFE, seed: int = 0, condition: Condition = None,
            guidance: float | None = None, progress: bool | Callable[[float], None] = False) -> Tensor:
    """Draw samples that a linear measurement may have been made of, q(x | y) with y = operator(x) + noise eps.

    The draws of one measurement are one population, whose members are weighed against one another on the way, so that
    modes have their shares: ask for some dozens, also where a few are wanted. A call of the network a step, and no
    derivative of it, is all that a draw costs.

    Args:
        denoiser: any `Denoiser`; its samples are what is expected before the measurement.
        observation: (B, *into) measurements, in the units of the samples.
        operator: what was measured: a function from (B, *shape) to (B, *into), a matrix (M, D) of the D values of a
            sample, an `Operator`, or a name: "mask=0.5" (a share of the places, the same in all channels), "blur=1.5"
            (Gaussian, circular, its deviation in pixels), "down=4" (means of blocks of 4 x 4), "sums=4" (sums of them),
            "fourier=0.25" (a share of the Fourier coefficients), "grey" (mean of the channels), "mean" (along the last
            side).
        noise: standard deviation of the measurement's noise, >= 0.
        count: draws for each measurement.
        nfe: budget of network calls a draw.
        seed: of the draws, which for a measurement do not depend on the others beside it.
        condition: as for `ornstein.sample`, one for all or one for each measurement.
        guidance: as for `ornstein.sample`.
        progress: as for `ornstein.sample`.

    Returns:
        (B * count, *shape) draws, those of one measurement adjacent, in the dtype and on the device of the observation:
        with draws.unflatten(0, (-1, count)) their mean is .mean(1), their spread .std(1).

    Raises:
        ValueError: an operator that is not linear, measurements of another shape or not finite, noise below 0, or more
            draws than there is memory for.
    """
    count, nfe = budget(count, nfe, seed)
    if not 0 <= require_float("noise", noise) <= LOUDEST:
        raise ValueError(f"noise is {noise:g}; it must be a standard deviation, from 0 to {LOUDEST:g}")
    measured = read_operator(operator, denoiser.shape, getattr(observation, "device", "cpu"))
    noise, y = float(noise), samples_of("observation", observation, measured.into)
    fits(len(y), count, denoiser.shape, y)
    denoiser.read_condition(condition, len(y), "cpu")
    data = denoiser.gaussian()
    warn_of_unlikely(data, y, measured, noise)
    with progress_callback(progress, "restoring") as tell:
        return posterior(denoiser, data, y, measured, noise, count, nfe, seed, condition, guidance, tell=tell)


def budget(count: int, nfe: int, seed: int) -> tuple[int, int]:
    """Count and network calls, with the seed checked to be whole numbers in their ranges."""
    require_int("seed", seed, 0, MAX_SEED)
    return require_int("count", count), require_int("nfe", nfe, maximum=MOST_STEPS)


def samples_of(name: str, x: Any, shape: Sequence[int], finite: bool = True) -> Tensor:
    """A batch (B, *shape) of numbers that are finite, unless anything will do; ValueError for all else."""
    if not isinstance(x, Tensor):
        raise TypeError(f"{name} is a {type(x).__name__}; it must be a tensor (torch.as_tensor makes one of an array)")
    if x.shape[1:] != tuple(shape) or not x.ndim or not len(x) or not x.is_floating_point():
        alone = f"; of a single one give {name}[None]" if x.shape == tuple(shape) else ""
        raise ValueError(f"{name} has shape {tuple(x.shape)} and dtype {x.dtype}; it must be a floating-point tensor "
                         f"(B, {', '.join(map(str, shape))}) with B >= 1{alone}")
    if finite and (lost := int((~x.isfinite()).sum())):
        raise ValueError(f"{name} holds {lost} values that are not finite; every value must be a finite number")
    return x.detach()


def fits(samples: int, count: int, shape: Sequence[int], like: Tensor) -> None:
    """Refuse more draws than the device has memory for."""
    need, there = samples * count * math.prod(shape) * like.element_size(), total_memory(like.device.type)
    if need > there:
        raise ValueError(f"count is {count}; {samples * count:,} draws of shape {tuple(shape)} need "
                         f"{need / 2**30:,.0f} GiB of memory, and {there / 2**30:,.0f} are there; at most "
                         f"{max(0, count * there // (2 * need)):,} for each of the {samples} samples fit well")


def warn_of_unlikely(data: Gaussian | None, y: Tensor, operator: Operator, noise: float,
                     numbers: Sequence[int] | None = None) -> None:
    """Warn of measurements (B, *into) that no data can have given, by the Gaussian with the moments of the data, of
    which DRAWS are measured too; where it is not known, nothing is.
    """
    if data is None or not y.numel():
        return
    white = per_sample(0, "edit", range(DRAWS), 0, data.mean.new_empty(DRAWS, len(data.mean)))
    typical = data.back(data.variance.sqrt() * white).reshape(DRAWS, *operator.shape)
    likely, observed = operator(typical).flatten(1).double(), y.flatten(1).double().to(typical.device)
    deviation = likely.std(0)
    deviation = deviation.clamp(min=LEAST * float(deviation.square().mean().sqrt()))
    deviation = torch.hypot(deviation, deviation.new_tensor(noise)).clamp(min=torch.finfo(torch.float64).tiny)
    off = (observed - likely.mean(0)) / deviation
    far = off.square().mean(1).sqrt()
    if (lost := (far > FAR).nonzero()[:, 0].tolist()):
        first = max(lost, key=lambda row: float(far[row]))
        density = -0.5 * (off[first].square() + (2 * math.pi * deviation.square()).log()).sum()
        usual = -0.5 * (1 + (2 * math.pi * deviation.square()).log()).sum()
        number = first if numbers is None else numbers[first]
        warnings.warn(f"{len(lost)} of {len(y)} observations are unlike anything that the model knows: number {number} "
                      f"lies {float(far[first]):.3g} standard deviations (root mean square) from what a Gaussian "
                      f"with the moments of the data gives, its log-likelihood is {float(density):.4g} nats where "
                      f"{float(usual):.4g} is usual; is it in the units of the samples?", RuntimeWarning, stacklevel=3)
