"""Variations of samples: noise them to a level, and walk back."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ornstein.arguments import require_float
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.editing.draws import Draws
from ornstein.diffusion.editing.restore import NFE, check_budget, check_memory, check_samples
from ornstein.diffusion.grid import walk_moments
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers import sample
from ornstein.diffusion.samplers.loop import plan_walk
from ornstein.display import progress_callback, rescaled
from ornstein.isolation import isolated

__all__ = ["vary"]

ROWS = 1024  # draws that are computed at a time


@isolated(gradients=False, evaluating=True)
def vary(denoiser: Denoiser, x: Tensor, strength: float, count: int = 1, *, nfe: int = NFE, seed: int = 0,
         condition: Condition = None, guidance: float | None = None,
         progress: bool | Callable[[float], None] = False) -> Tensor:
    """Draw variations of samples: noise them to a level and return from there (Meng et al. 2022, SDEdit).

    The level is where the flow has rotated by `strength` times its full angle, atan2(noise, signal) = strength *
    angle(1), the same level for every schedule. The walk back takes the calls that `ornstein.sample` with `nfe` calls
    takes below that level.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) samples.
        strength: how much changes: 0 returns x, 1 gives new samples with the same condition.
        count: variations per sample.
        nfe: network calls of a full walk from pure noise; shorter walks take fewer.
        seed: of the noise; that of a sample does not depend on the other samples.
        condition: as for `ornstein.sample`, one for all or one per sample.
        guidance: as for `ornstein.sample`.
        progress: as for `ornstein.sample`.

    Returns:
        (B * count, *shape) variations, those of one sample adjacent, in the dtype and on the device of x.

    Raises:
        ValueError: a strength outside [0, 1], samples of another shape or not finite, or more variations than fit into
            memory.
    """
    count, nfe = check_budget(count, nfe, seed)
    if not 0 <= require_float("strength", strength) <= 1:
        raise ValueError(f"strength is {strength:g}; it must lie in [0, 1]")
    x = check_samples("x", x, denoiser.shape)
    check_memory(len(x), count, denoiser.shape, x)
    conditions = denoiser.read_condition(condition, len(x), "cpu")
    if strength == 0:
        return x.repeat_interleave(count, 0)
    schedule = denoiser.schedule
    start = schedule.time_at(float(strength) * schedule.level(as_time(1.0)).angle) if strength < 1 else as_time(1.0)
    rule, all_times = plan_walk(denoiser, "auto", nfe, None, None)
    times = torch.cat([start.reshape(1), all_times[all_times < start]])
    first = walk_moments(schedule, times, x)[0]
    draws, varied = Draws(len(x), count, seed), x.new_empty(len(x) * count, *denoiser.shape)
    with progress_callback(progress, "varying") as on_progress:
        for rows in draws.blocks(ROWS):
            sources = draws.samples_of(rows)
            z = first.signal * x[sources.to(x.device)] + first.noise * draws.noise(rows, 0, varied)
            varied[rows.start:rows.stop] = sample(
                denoiser, z=z, times=times, sampler=rule, guidance=guidance,
                condition=None if conditions is None else conditions[sources],
                progress=rescaled(on_progress, rows.start / len(varied), rows.stop / len(varied)))
    return varied
