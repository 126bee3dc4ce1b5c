"""Samples between two samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.editing.draws import Draws
from ornstein.diffusion.editing.invert import invert
from ornstein.diffusion.editing.restore import NFE, budget, fits, samples_of
from ornstein.diffusion.samplers import sample
from ornstein.display import progress_callback, rescaled
from ornstein.isolation import isolated

__all__ = ["interpolate"]

ROWS = 1024  # samples that are in memory beside the result
NEAR = 1e-6  # sine of an angle that is as good as none


@isolated(gradients=False, evaluating=True)
def interpolate(denoiser: Denoiser, a: Tensor, b: Tensor, count: int = 8, *, nfe: int = NFE,
                condition: Condition = None, condition_b: Condition = None, guidance: float | None = None,
                progress: bool | Callable[[float], None] = False) -> Tensor:
    """Walk from samples to others, over samples: spherically between their latents, straight between their conditions.

    Args:
        denoiser: any `Denoiser`.
        a: (B, *shape) samples at the beginnings.
        b: (B, *shape) samples at the ends.
        count: samples of each walk, its two ends included, >= 2.
        nfe: network calls a sample, for the way to its latent and for the way back each.
        condition: of a, one for all or one for each row, as for `ornstein.sample`.
        condition_b: of b, where it is another vector than that of a.
        guidance: as for `ornstein.sample`, both ways.
        progress: as for `ornstein.sample`.

    Returns:
        (B * count, *shape), those of one walk adjacent, in the dtype and on the device of a; the first of each is a and
        the last one b.

    Raises:
        ValueError: samples of another shape or not finite, fewer than 2, or classes that differ.
    """
    budget(count, nfe, 0)
    if count < 2:
        raise ValueError(f"count is {count}; it must be at least 2, for the two ends are among them")
    a, b = samples_of("a", a, denoiser.shape), samples_of("b", b, denoiser.shape).to(a)
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} samples and b {len(b)}; they must be as many")
    fits(len(a), count, denoiser.shape, a)
    told = denoiser.read_condition(condition, len(a), "cpu")
    other = told if condition_b is None else denoiser.read_condition(condition_b, len(a), "cpu")
    if told is not None and other is not None and not told.is_floating_point() and not torch.equal(told, other):
        raise ValueError(f"condition_b is {other[:4].tolist()} and condition {told[:4].tolist()}; between two classes "
                         "there is nothing, so give one class for both, or none")
    both = None if told is None or other is None else torch.cat([told, other])
    walk = a.new_empty(len(a), count, *denoiser.shape)
    walk[:, 0], walk[:, -1] = a, b
    inner, many = Draws(len(a), count - 2, 0), len(a) * (count - 2)
    known = 2 / count  # share of the ways to the latents, each as long as one back
    with progress_callback(progress, "interpolating") as tell:
        z, w = invert(denoiser, torch.cat([a, b]), nfe=nfe, condition=both, guidance=guidance,
                      progress=rescaled(tell, 0, known)).chunk(2)
        for rows in inner.blocks(ROWS):
            of = inner.samples_of(rows)
            step = 1 + torch.arange(rows.start, rows.stop, device="cpu") - of * (count - 2)
            share = (step / (count - 1)).double()
            between = told if told is None or other is None else told[of] if not told.is_floating_point() else (
                torch.lerp(told[of].double(), other[of].double(), share[:, None]))
            here = of.to(a.device)
            walk[here, step.to(a.device)] = sample(
                denoiser, z=slerp(z[here], w[here], share.to(a.device)), nfe=nfe, condition=between, guidance=guidance,
                progress=rescaled(rescaled(tell, known, 1), rows.start / many, rows.stop / many))
    return walk.flatten(0, 1)


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Along the great circles from a to b, (B, ...) each, by the shares (B,) of the way (Shoemake 1985); straight where
    the two point the same way.
    """
    p, q = a.flatten(1).double(), b.flatten(1).double()
    cosine = (p * q).sum(1) / (p.norm(dim=1) * q.norm(dim=1)).clamp(min=1e-300)
    angle = torch.acos(cosine.clamp(-1, 1))
    near = angle.sin() < NEAR
    whole = angle.sin().masked_fill(near, 1)
    first = torch.where(near, 1 - share, torch.sin((1 - share) * angle) / whole)
    second = torch.where(near, share, torch.sin(share * angle) / whole)
    return (first[:, None] * p + second[:, None] * q).reshape(a.shape).to(a)
