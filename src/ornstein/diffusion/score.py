"""Score matching: three losses of one score field, and how they differ (section 20.3).

All three are differentiable in the denoiser's weights. For training, `denoising_loss` with weighting "eps" is the
second of them without float64.
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
from ornstein.diffusion.likelihood.bound import Float64Model, flat
from ornstein.diffusion.likelihood.ode import EXACT, divergences, random_signs
from ornstein.isolation import isolated

__all__ = ["denoising_score_loss", "explicit_score_loss", "implicit_score_loss", "level_losses"]


@isolated()
def explicit_score_loss(denoiser: Denoiser, exact: Denoiser, z: Tensor, t: Tensor | float,
                        condition: Condition = None) -> Tensor:
    """noise^2 / 2 |score(z) - grad log q(z_t)|^2, (B,): the error of a score field whose true score is known.

    Weighted by the noise variance, so that all levels count equally (Song & Ermon 2019); without the weight low noise
    would dominate. The means of the three losses over q(z_t) differ by constants of the data.

    Args:
        denoiser: the denoiser of the score.
        exact: a denoiser in closed form on the same schedule: `ExactDataset` for the field's error on a training set.
        z: (B, *shape) latents.
        t: () or (B,) times > 0.
        condition: as for both denoisers.

    Returns:
        (B,) float64, >= 0.

    Raises:
        ValueError: a time without noise, schedules that differ at t, shapes that do not fit.
    """
    model, true = Float64Model(denoiser, z, condition), Float64Model(exact, z, condition)
    time = _noisy_time(model, t)
    level, other = model.schedule.level(time), true.schedule.level(time)
    if not (torch.allclose(level.signal, other.signal) and torch.allclose(level.noise, other.noise)):
        raise ValueError("exact is on another schedule than the denoiser; build it on denoiser.schedule")
    # noise * score = -eps.
    return 0.5 * flat((_eps(denoiser, model, model.x, time) - true(true.x, time).eps) ** 2).sum(1)


@isolated()
def denoising_score_loss(denoiser: Denoiser, x: Tensor, t: Tensor | float, eps: Tensor,
                         condition: Condition = None) -> Tensor:
    """noise^2 / 2 |score(z) - grad log q(z_t | x)|^2 = |eps - eps-hat|^2 / 2 at z = signal x + noise eps, (B,).

    Its mean is that of `explicit_score_loss` plus a constant, noise^2 / 2 E |grad log q(z_t | x) - grad log q(z_t)|^2
    (Vincent 2011), so it trains the same field without the true score.

    Args:
        denoiser: the denoiser of the score.
        x: (B, *shape) clean data.
        t: () or (B,) times > 0.
        eps: (B, *shape) standard normal noise.
        condition: as for the denoiser.

    Returns:
        (B,) float64, >= 0.

    Raises:
        ValueError: a time without noise, shapes that do not fit.
    """
    model = Float64Model(denoiser, x, condition)
    time, eps = _noisy_time(model, t), eps.to(model.x)
    predicted = _eps(denoiser, model, draw(model.encoder.kernel(model.x, time), eps), time)
    return 0.5 * flat((eps - predicted) ** 2).sum(1)


@isolated()
def implicit_score_loss(denoiser: Denoiser, z: Tensor, t: Tensor | float, condition: Condition = None, *,
                        probes: int = 0, seed: int = 0) -> Tensor:
    """noise^2 (div score(z) + |score(z)|^2 / 2), (B,): Hyvärinen's loss (2005), without x or the true score.

    Its mean is that of `explicit_score_loss` minus noise^2 / 2 E |grad log q(z_t)|^2, by integration by parts.

    Args:
        denoiser: whose score is judged; its estimate must be differentiable in z.
        z: (B, *shape) latents.
        t: () or (B,) times > 0.
        condition: as for the denoiser.
        probes: random signs per sample for the divergence (Hutchinson 1990); 0 for the exact one.
        seed: of the probes.

    Returns:
        (B,) float64.

    Raises:
        ValueError: a time without noise, more than 64 values per sample without probes, shapes that do not fit.
    """
    model = Float64Model(denoiser, z, condition)
    time, size, probes = _noisy_time(model, t), math.prod(denoiser.shape), require_int("probes", probes, 0)
    if not probes and size > EXACT:
        raise ValueError(f"probes is 0, the exact divergence, and samples have {size} values; above {EXACT}, give "
                         "probes")
    signs = [sign.to(model.x) for sign in random_signs(seed, probes, len(z), size)]
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        leaf = flat(model.x).requires_grad_()
        eps = flat(_eps(denoiser, model, leaf.reshape(z.shape), time))
        # noise^2 score = -noise eps-hat, and noise^2 |score|^2 = |eps-hat|^2.
        scaled = -model.schedule.level(time).fit(leaf).noise * eps
        loss = divergences(scaled, leaf, signs, create_graph=create_graph).mean(1) + 0.5 * (eps**2).sum(1)
    return loss if create_graph else loss.detach()


@isolated(gradients=False, evaluating=True)
def level_losses(denoiser: Denoiser, x: Tensor, log_snr: Sequence[float] | Tensor, draws: int = 1, seed: int = 0,
                 condition: Condition = None) -> Tensor:
    """E |eps - eps-hat|^2 / (2 D) by noise level: what each unit of log SNR adds to the bound, in nats per value.

    The area under the curve is the diffusion term of `continuous_elbo` divided by D. On a training set no denoiser lies
    below its `ExactDataset`.

    Args:
        denoiser: any `Denoiser`.
        x: (B, *shape) clean data.
        log_snr: (n,) levels, finite.
        draws: latents per sample and level, >= 1.
        seed: of the noise.
        condition: as for the denoiser.

    Returns:
        (n, B) float64.

    Raises:
        ValueError: no levels, levels that are not finite, draws < 1, shapes that do not fit.
    """
    model, rows, draws = Float64Model(denoiser, x, condition), [], require_int("draws", draws)
    levels = torch.as_tensor(log_snr, dtype=torch.float64, device="cpu")
    if levels.ndim != 1 or not len(levels) or not levels.isfinite().all():
        raise ValueError(f"log_snr is {levels.tolist()}; it must be a list of at least one finite number")
    for k, t in enumerate(denoiser.schedule.time(levels)):
        row = torch.zeros(len(x), dtype=torch.float64, device=model.x.device)
        for index in range(draws):
            eps = model.eps(seed, "levels", index, k)
            estimate = model(draw(model.encoder.kernel(model.x, t), eps), t)
            row += flat((eps - estimate.eps) ** 2).mean(1) / (2 * draws)
        rows.append(row)
    return torch.stack(rows)


def _eps(denoiser: Denoiser, model: Float64Model, z: Tensor, time: Tensor) -> Tensor:
    """eps-hat at float64 latents, in float64, differentiable in them and in the denoiser's weights."""
    conditions = model.batched.conditions
    v = denoiser(z.to(model.like.dtype), time, None if conditions is None else conditions.to(z.device)).v.double()
    return Estimate.from_v(v, z, model.schedule.level(time)).eps


def _noisy_time(model: Float64Model, t: Tensor | float) -> Tensor:
    time = as_time(t)
    if (model.schedule.level(time).noise == 0).any():
        raise ValueError(f"t is {time.flatten()[:4].tolist()}; a score needs noise, so every time must be above 0")
    return time
