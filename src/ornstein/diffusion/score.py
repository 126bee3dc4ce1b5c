"""Score matching: three losses of one score field, and how they lie apart (section 20.3).

All three are differentiable in the denoiser's weights. For training, `denoising_loss` with weighting "eps" is the
second of them without its reading in float64.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ornstein.arguments import require_int
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.encoder import draw
from ornstein.diffusion.estimate import Estimate
from ornstein.diffusion.level import as_time
from ornstein.diffusion.likelihood.bound import Reader, flat
from ornstein.diffusion.likelihood.ode import EXACT, divergence_of, random_signs
from ornstein.isolation import isolated

__all__ = ["denoising_score_loss", "explicit_score_loss", "implicit_score_loss", "level_losses"]


@isolated()
def explicit_score_loss(denoiser: Denoiser, exact: Denoiser, z: Tensor, t: Tensor | float,
                        condition: Condition = None) -> Tensor:
    """noise^2 / 2 |score(z) - grad log q(z_t)|^2, (B,): the error of a score field, where the true one is known.

    Weighted by the noise variance, so that every level counts alike (Song & Ermon 2019); without the weight small
    noise would outweigh all else. Means over q(z_t) of the three losses differ by constants of the data alone.

    Args:
        denoiser: whose score is judged.
        exact: a denoiser in closed form on the same schedule: `ExactDataset` for the field's error on a training set.
        z: (B, *shape) latents.
        t: () or (B,) times > 0.
        condition: as for both denoisers.

    Returns:
        (B,) float64, >= 0.

    Raises:
        ValueError: a time without noise, schedules that differ at t, shapes that do not fit.
    """
    mine, true = Reader(denoiser, z, condition), Reader(exact, z, condition)
    time = _noisy(mine, t)
    level, other = mine.schedule.level(time), true.schedule.level(time)
    if not (torch.allclose(level.signal, other.signal) and torch.allclose(level.noise, other.noise)):
        raise ValueError("exact is on another schedule than the denoiser; build it on denoiser.schedule")
    # noise * score = -eps.
    return 0.5 * flat((_eps(denoiser, mine, mine.x, time) - true(true.x, time).eps) ** 2).sum(1)


@isolated()
def denoising_score_loss(denoiser: Denoiser, x: Tensor, t: Tensor | float, eps: Tensor,
                         condition: Condition = None) -> Tensor:
    """noise^2 / 2 |score(z) - grad log q(z_t | x)|^2 = |eps - eps-hat|^2 / 2 at z = signal x + noise eps, (B,).

    Its mean is that of `explicit_score_loss` and a constant, noise^2 / 2 E |grad log q(z_t | x) - grad log q(z_t)|^2
    (Vincent 2011), so that it trains the same field and needs no true score.

    Args:
        denoiser: whose score is judged.
        x: (B, *shape) clean data.
        t: () or (B,) times > 0.
        eps: (B, *shape) standard normal noise.
        condition: as for the denoiser.

    Returns:
        (B,) float64, >= 0.

    Raises:
        ValueError: a time without noise, shapes that do not fit.
    """
    read = Reader(denoiser, x, condition)
    time, eps = _noisy(read, t), eps.to(read.x)
    predicted = _eps(denoiser, read, draw(read.encoder.kernel(read.x, time), eps), time)
    return 0.5 * flat((eps - predicted) ** 2).sum(1)


@isolated()
def implicit_score_loss(denoiser: Denoiser, z: Tensor, t: Tensor | float, condition: Condition = None, *,
                        probes: int = 0, seed: int = 0) -> Tensor:
    """noise^2 (div score(z) + |score(z)|^2 / 2), (B,): Hyvärinen's loss (2005), which needs neither x nor a true score.

    Its mean is that of `explicit_score_loss` less noise^2 / 2 E |grad log q(z_t)|^2, by integration by parts.

    Args:
        denoiser: whose score is judged; its answer must be differentiable in z.
        z: (B, *shape) latents.
        t: () or (B,) times > 0.
        condition: as for the denoiser.
        probes: random signs a sample for the divergence (Hutchinson 1990); 0 takes it exactly, a backward pass a value.
        seed: of the probes.

    Returns:
        (B,) float64.

    Raises:
        ValueError: a time without noise, more than 64 values a sample without probes, shapes that do not fit.
    """
    read = Reader(denoiser, z, condition)
    time, size, probes = _noisy(read, t), math.prod(denoiser.shape), require_int("probes", probes, 0)
    if not probes and size > EXACT:
        raise ValueError(f"probes is 0, the exact divergence, and samples have {size} values; beyond {EXACT} give "
                         "probes")
    signs = [sign.to(read.x) for sign in random_signs(seed, probes, len(z), size)]
    onwards = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = flat(read.x).requires_grad_()
        eps = flat(_eps(denoiser, read, leaf.reshape(z.shape), time))
        # noise^2 score = -noise eps-hat, and noise^2 |score|^2 = |eps-hat|^2.
        scaled = -read.schedule.level(time).fit(leaf).noise * eps
        loss = divergence_of(scaled, leaf, signs, create_graph=onwards).mean(1) + 0.5 * (eps**2).sum(1)
    return loss if onwards else loss.detach()


@isolated(gradients=False, evaluating=True)
def level_losses(denoiser: Denoiser, x: Tensor, log_snr: Sequence[float] | Tensor, draws: int = 1, seed: int = 0,
                 condition: Condition = None) -> Tensor:
    """E |eps - eps-hat|^2 / (2 D) by noise level: what each unit of log SNR adds to the bound, in nats a value.

    The area under it is the diffusion term of `continuous_elbo` over D. On a training set nothing lies below the
    curve of its `ExactDataset`.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) clean data.
        log_snr: (n,) levels, finite.
        draws: latents a sample and level, >= 1.
        seed: of the noise.
        condition: as for the denoiser.

    Returns:
        (n, B) float64.

    Raises:
        ValueError: no levels, levels that are not finite, draws < 1, shapes that do not fit.
    """
    read, rows, draws = Reader(denoiser, x, condition), [], require_int("draws", draws)
    levels = torch.as_tensor(log_snr, dtype=torch.float64, device="cpu")
    if levels.ndim != 1 or not len(levels) or not levels.isfinite().all():
        raise ValueError(f"log_snr is {levels.tolist()}; it must be a list of at least one finite number")
    for k, t in enumerate(denoiser.schedule.time(levels)):
        row = torch.zeros(len(x), dtype=torch.float64, device=read.x.device)
        for number in range(draws):
            eps = read.eps(seed, "levels", number, k)
            estimate = read(draw(read.encoder.kernel(read.x, t), eps), t)
            row += flat((eps - estimate.eps) ** 2).mean(1) / (2 * draws)
        rows.append(row)
    return torch.stack(rows)


def _eps(denoiser: Denoiser, read: Reader, z: Tensor, time: Tensor) -> Tensor:
    """eps-hat at float64 latents, in float64, differentiable in them and in the denoiser's weights."""
    conditions = read.batched.conditions
    v = denoiser(z.to(read.like.dtype), time, None if conditions is None else conditions.to(z.device)).v.double()
    return Estimate.from_v(v, z, read.schedule.level(time)).eps


def _noisy(read: Reader, t: Tensor | float) -> Tensor:
    time = as_time(t)
    if (read.schedule.level(time).noise == 0).any():
        raise ValueError(f"t is {time.flatten()[:4].tolist()}; a score needs noise, so every time must be above 0")
    return time
