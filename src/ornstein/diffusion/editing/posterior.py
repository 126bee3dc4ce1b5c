"""Draws of samples given a linear measurement of them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Batched, Denoiser
from ornstein.diffusion.editing.draws import Draws
from ornstein.diffusion.editing.operator import Operator
from ornstein.diffusion.grid import grid, moments
from ornstein.diffusion.guidance import Guided

__all__ = ["posterior"]

ROWS = 64  # of one network call
NONE = 1e-10  # of the largest singular value, below which a direction is not measured


@torch.no_grad()
def posterior(denoiser: Denoiser, y: Tensor, operator: Operator, noise: float, count: int, nfe: int, seed: int,
              condition: Condition = None, guidance: float | None = None,
              numbers: Sequence[int] | None = None) -> Tensor:
    """Draw x of q(x | y) for y = operator(x) + noise eps; all arguments are checked already.

    At falling times the law of x given z is taken for N(x-hat, c I) with c = noise^2 / (signal^2 + noise^2), which
    with y is a Gaussian again; a draw of it is noised to the next time.

    Args:
        denoiser: any.
        y: (B, *into), gives dtype and device.
        operator: from samples to `into`.
        noise: deviation of the measurement, >= 0.
        count: draws for each measurement.
        nfe: calls a draw.
        seed: of the noise.
        condition: one for all, or one for each measurement.
        guidance: scale of classifier-free guidance.
        numbers: which of the caller's measurements these are, by which their noise is known; 0, 1, ... unless given.

    Returns:
        (B * count, *shape), those of one measurement adjacent.
    """
    conditions = denoiser.read_condition(condition, len(y), "cpu")
    if guidance is not None and guidance != 1:
        denoiser = Guided(denoiser, guidance)
    u, s, vh = (part.to(y.device) for part in torch.linalg.svd(operator.matrix(), full_matrices=False))
    rank = int((s > NONE * s[:1]).sum())
    u, s, vh = u[:, :rank], s[:rank], vh[:rank]
    draws = Draws(len(y), count, seed, numbers)
    drawn = y.new_empty(len(y) * count, *denoiser.shape)
    times = grid(denoiser.schedule, nfe, "log_snr")
    walk = moments(denoiser.schedule, times, y)
    for rows in draws.blocks(ROWS):
        observed = y[draws.samples_of(rows).to(y.device)].flatten(1).double()
        told = None if conditions is None else conditions[draws.samples_of(rows)]
        ask = Batched(denoiser, told, ROWS)
        z = draws.noise(rows, 0, drawn) * walk[0].radius
        for step, (t, later) in enumerate(itertools.pairwise(walk), 1):
            c = (t.noise / t.radius) ** 2
            x = ask(z, t.clock).x.flatten(1).double()
            x = x + c**0.5 * draws.noise(rows, 3 * step, drawn).flatten(1).double()
            error = noise * draws.noise(rows, 3 * step + 1, y.new_empty(0, *operator.into)).flatten(1).double()
            gap = (observed + error) @ u - x @ vh.T * s
            x = x + (gap * (c * s / (c * s**2 + noise**2).clamp(min=1e-300))) @ vh
            x = x.reshape(z.shape).to(z)
            z = later.signal * x + later.noise * draws.noise(rows, 3 * step + 2, drawn) if later > 0 else x
        drawn[rows.start:rows.stop] = z
    return drawn
