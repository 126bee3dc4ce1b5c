"""Interpolation between samples."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.editing.draws import Draws
from ornstein.diffusion.editing.invert import invert
from ornstein.diffusion.editing.restore import NFE, check_budget, check_memory, check_samples
from ornstein.diffusion.samplers import sample
from ornstein.display import progress_callback, rescaled
from ornstein.isolation import isolated

__all__ = ["interpolate"]

ROWS = 1024  # samples that are computed at a time
MIN_SINE = 1e-6  # of an angle, below which interpolation is linear


@isolated(gradients=False, evaluating=True)
def interpolate(denoiser: Denoiser, a: Tensor, b: Tensor, count: int = 8, *, nfe: int = NFE,
                condition: Condition = None, condition_b: Condition = None, guidance: float | None = None,
                progress: bool | Callable[[float], None] = False) -> Tensor:
    """Interpolate between samples: spherically between their latents, linearly between their conditions.

    Args:
        denoiser: any `Denoiser`.
        a: (B, *shape) first samples.
        b: (B, *shape) last samples.
        count: samples per interpolation, including both ends, >= 2.
        nfe: network calls per sample, to its latent and back each.
        condition: of a, one for all or one per row, as for `ornstein.sample`.
        condition_b: of b, if it is another vector than that of a.
        guidance: as for `ornstein.sample`, in both directions.
        progress: as for `ornstein.sample`.

    Returns:
        (B * count, *shape), those of one interpolation adjacent, in the dtype and on the device of a; the first of each
        is a and the last one b.

    Raises:
        ValueError: samples of another shape or not finite, fewer than 2, or classes that differ.
    """
    check_budget(count, nfe, 0)
    if count < 2:
        raise ValueError(f"count is {count}; it must be at least 2, since the two ends are included")
    a, b = check_samples("a", a, denoiser.shape), check_samples("b", b, denoiser.shape).to(a)
    if len(a) != len(b):
        raise ValueError(f"a has {len(a)} samples and b {len(b)}; they must have the same number")
    check_memory(len(a), count, denoiser.shape, a)
    condition_a = denoiser.read_condition(condition, len(a), "cpu")
    other = condition_a if condition_b is None else denoiser.read_condition(condition_b, len(a), "cpu")
    if (condition_a is not None and other is not None and not condition_a.is_floating_point()
            and not torch.equal(condition_a, other)):
        raise ValueError(f"condition_b is {other[:4].tolist()} and condition {condition_a[:4].tolist()}; classes "
                         "cannot be interpolated, so give one class for both, or none")
    both = None if condition_a is None or other is None else torch.cat([condition_a, other])
    walk = a.new_empty(len(a), count, *denoiser.shape)
    walk[:, 0], walk[:, -1] = a, b
    inner, total = Draws(len(a), count - 2, 0), len(a) * (count - 2)
    inverting = 2 / count  # share of the work, as inverting a sample takes as long as drawing one
    with progress_callback(progress, "interpolating") as on_progress:
        z, w = invert(denoiser, torch.cat([a, b]), nfe=nfe, condition=both, guidance=guidance,
                      progress=rescaled(on_progress, 0, inverting)).chunk(2)
        for rows in inner.blocks(ROWS):
            sources = inner.samples_of(rows)
            step = 1 + torch.arange(rows.start, rows.stop, device="cpu") - sources * (count - 2)
            share = (step / (count - 1)).double()
            if condition_a is None or other is None:
                between = None
            elif condition_a.is_floating_point():
                between = torch.lerp(condition_a[sources].double(), other[sources].double(), share[:, None])
            else:
                between = condition_a[sources]
            on_device = sources.to(a.device)
            walk[on_device, step.to(a.device)] = sample(
                denoiser, z=slerp(z[on_device], w[on_device], share.to(a.device)), nfe=nfe, condition=between,
                guidance=guidance, progress=rescaled(rescaled(on_progress, inverting, 1), rows.start / total,
                                                     rows.stop / total))
    return walk.flatten(0, 1)


def slerp(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    """Spherical interpolation from a to b, (B, ...) each, at shares (B,) of the way (Shoemake 1985); linear where both
    have the same direction.
    """
    p, q = a.flatten(1).double(), b.flatten(1).double()
    cosine = (p * q).sum(1) / (p.norm(dim=1) * q.norm(dim=1)).clamp(min=1e-300)
    angle = torch.acos(cosine.clamp(-1, 1))
    near = angle.sin() < MIN_SINE
    sine = angle.sin().masked_fill(near, 1)
    first = torch.where(near, 1 - share, torch.sin((1 - share) * angle) / sine)
    second = torch.where(near, share, torch.sin(share * angle) / sine)
    return (first[:, None] * p + second[:, None] * q).reshape(a.shape).to(a)
