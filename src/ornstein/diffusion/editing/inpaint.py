"""Fill what is unknown of samples."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ornstein.arguments import short_repr
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.editing.operator import places
from ornstein.diffusion.editing.posterior import posterior
from ornstein.diffusion.editing.restore import NFE, budget, fits, samples_of, warn_of_unlikely
from ornstein.display import progress_callback, rescaled
from ornstein.isolation import isolated

__all__ = ["inpaint", "known_part"]


@isolated(gradients=False, evaluating=True)
def inpaint(denoiser: Denoiser, x: Tensor, mask: Tensor | np.ndarray | None = None, count: int = 1, *, nfe: int = NFE,
            seed: int = 0, condition: Condition = None, guidance: float | None = None,
            progress: bool | Callable[[float], None] = False) -> Tensor:
    """Draw the unknown part of samples from what the model holds likely given the known part.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) samples; where they are unknown they may hold anything.
        mask: true, or 1, where x is known; it broadcasts against x, so that (H, W) is one for all pictures. None is
            known where x is not NaN.
        count: draws for each sample.
        nfe: budget of network calls a draw.
        seed: of the draws, which for a sample do not depend on the others beside it.
        condition: as for `ornstein.sample`, one for all or one for each sample.
        guidance: as for `ornstein.sample`.
        progress: as for `ornstein.sample`.

    Returns:
        (B * count, *shape) draws, those of one sample adjacent, in the dtype and on the device of x; what is known is
        in all of them as it was.

    Raises:
        ValueError: a mask that does not broadcast against x or is neither bool nor 0 and 1, values that are not finite
            where x is known, or more draws than there is memory for.
    """
    count, nfe = budget(count, nfe, seed)
    x, known = known_part(samples_of("x", x, denoiser.shape, finite=False), mask)
    fits(len(x), count, denoiser.shape, x)
    conditions, data = denoiser.read_condition(condition, len(x), "cpu"), denoiser.gaussian()
    drawn = x.repeat_interleave(count, 0).unflatten(0, (-1, count))
    masks, group = known.flatten(1).cpu().unique(dim=0, return_inverse=True)
    done = 0
    with progress_callback(progress, "filling") as tell:
        for number, one in enumerate(masks):
            rows, told = (group == number).nonzero()[:, 0], None
            first, done = done, done + len(rows)
            if one.all():
                continue
            if conditions is not None:
                told = conditions[rows]
            operator, numbers = places(one.reshape(denoiser.shape)), rows.tolist()
            rows = rows.to(x.device)
            seen = operator(x[rows])
            warn_of_unlikely(data, seen, operator, 0.0, numbers)
            new = posterior(denoiser, data, seen, operator, 0.0, count, nfe, seed, told, guidance, numbers,
                            rescaled(tell, first / len(x), done / len(x)))
            hole = (~known[rows])[:, None]
            drawn[rows] = torch.where(hole, new.unflatten(0, (-1, count)), drawn[rows])
    return drawn.flatten(0, 1)


def known_part(x: Tensor, mask: Any) -> tuple[Tensor, Tensor]:
    """x with 0 where it is unknown, and where it is known, bool of its shape; ValueError for what is no mask."""
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
