"""Inpainting: fill the unknown values of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.arguments import short_repr
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.editing.operator import selection
from ornstein.diffusion.editing.posterior import posterior
from ornstein.diffusion.editing.restore import NFE, check_budget, check_memory, check_samples, warn_if_unlikely
from ornstein.display import progress_callback, rescaled
from ornstein.isolation import isolated

__all__ = ["inpaint", "known_part"]


@isolated(gradients=False, evaluating=True)
def inpaint(denoiser: Denoiser, x: Tensor, mask: Tensor | np.ndarray | None = None, count: int = 1, *, nfe: int = NFE,
            seed: int = 0, condition: Condition = None, guidance: float | None = None,
            progress: bool | Callable[[float], None] = False) -> Tensor:
    """Draw the unknown part of samples from the posterior given the known part.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) samples; unknown values may be anything.
        mask: true, or 1, where x is known; it broadcasts against x, so that (H, W) is one mask for all pictures. None
            means known where x is not NaN.
        count: draws per sample.
        nfe: budget of network calls per draw.
        seed: of the draws; those of a sample do not depend on the other samples.
        condition: as for `ornstein.sample`, one for all or one per sample.
        guidance: as for `ornstein.sample`.
        progress: as for `ornstein.sample`.

    Returns:
        (B * count, *shape) draws, those of one sample adjacent, in the dtype and on the device of x; known values
        are unchanged.

    Raises:
        ValueError: a mask that does not broadcast against x or is neither bool nor 0 and 1, values that are not finite
            where x is known, or more draws than fit into memory.
    """
    count, nfe = check_budget(count, nfe, seed)
    x, known = known_part(check_samples("x", x, denoiser.shape, finite=False), mask)
    check_memory(len(x), count, denoiser.shape, x)
    conditions, data = denoiser.read_condition(condition, len(x), "cpu"), denoiser.gaussian()
    drawn = x.repeat_interleave(count, 0).unflatten(0, (-1, count))
    masks, group = known.flatten(1).cpu().unique(dim=0, return_inverse=True)
    done = 0
    with progress_callback(progress, "filling") as on_progress:
        for index, mask_values in enumerate(masks):
            rows = (group == index).nonzero()[:, 0]
            first, done = done, done + len(rows)
            if mask_values.all():
                continue
            group_conditions = None if conditions is None else conditions[rows]
            operator, indices = selection(mask_values.reshape(denoiser.shape)), rows.tolist()
            rows = rows.to(x.device)
            y = operator(x[rows])
            warn_if_unlikely(data, y, operator, 0.0, indices)
            new = posterior(denoiser, data, y, operator, 0.0, count, nfe, seed, group_conditions, guidance, indices,
                            rescaled(on_progress, first / len(x), done / len(x)))
            unknown = (~known[rows])[:, None]
            drawn[rows] = torch.where(unknown, new.unflatten(0, (-1, count)), drawn[rows])
    return drawn.flatten(0, 1)


def known_part(x: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
    """x with 0 where it is unknown, and the mask of known values, bool of its shape; ValueError for an invalid mask."""
    if mask is None:
        known = ~x.isnan()
    else:
        try:
            known = torch.as_tensor(mask, device=x.device)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(f"mask is {short_repr(mask)}; it must be a tensor or an array, true where x is "
                            "known") from None
        if known.is_complex():
            raise ValueError(f"mask is {known.dtype}; it must be bool, or 0 and 1, true where x is known")
        if known.dtype != torch.bool and not ((known == 0) | (known == 1)).all():
            raise ValueError(f"mask is {known.dtype} with values from {float(known.min()):g} to {float(known.max()):g};"
                             " it must be bool, or 0 and 1, true where x is known")
        try:
            known = known.bool().expand(x.shape)
        except RuntimeError:
            raise ValueError(f"mask has shape {tuple(known.shape)}; it must broadcast against x, which has shape "
                             f"{tuple(x.shape)}") from None
    if lost := int((known & ~x.isfinite()).sum()):
        raise ValueError(f"x holds {lost} values that are not finite where the mask says that it is known; every known "
                         "value must be a finite number")
    return torch.where(known, x, 0), known
