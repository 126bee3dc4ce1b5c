"""The likelihood of the probability-flow ODE, by the change of variables along its paths (section 20.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein import noise
from ornstein.arguments import require, require_float, require_int
from ornstein.diffusion.adaptive import Slope, integrate
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.level import as_time, per_row
from ornstein.diffusion.likelihood.bound import ROWS, Float64Model, flat
from ornstein.diffusion.likelihood.levels import on_levels
from ornstein.isolation import isolated
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["DIVERGENCES", "EXACT", "Flow", "divergences", "ode_likelihood", "ode_log_prob",
           "random_signs"]

DIVERGENCES = ("auto", "exact", "hutchinson")
EXACT = 64  # dimensions up to which "auto" computes the exact divergence, with a backward pass each


@dataclass(frozen=True)
class Flow:
    """The result of following the flow from data to noise, one entry per sample, float64.

    Args:
        log_prob: (B,) nats, base + change.
        error: (B,) standard error of log_prob from the random probes; 0 with the exact divergence, NaN with one probe.
        base: (B,) log density of the path's end at t = 1, in units of the data.
        change: (B,) integral of the divergence along the path.
        latent: (B, *shape) z at t = 1.
        calls: (B,) number of calls of the denoiser.
    """

    log_prob: Tensor
    error: Tensor
    base: Tensor
    change: Tensor
    latent: Tensor
    calls: Tensor


def ode_log_prob(denoiser: Denoiser, x: Tensor, divergence: str = "auto", *, t: float = 0.0,
                 tolerance: float = 1e-5, probes: int = 2, seed: int = 0, condition: Condition = None,
                 base: Callable[[Tensor], Tensor] | None = None) -> Tensor:
    """log p(x) under the flow, (B,) nats; arguments and errors are those of `ode_likelihood`."""
    return ode_likelihood(denoiser, x, divergence, t=t, tolerance=tolerance, probes=probes, seed=seed,
                          condition=condition, base=base).log_prob


@isolated(gradients=True, evaluating=True)
def ode_likelihood(denoiser: Denoiser, x: Tensor, divergence: str = "auto", *, t: float = 0.0,
                   tolerance: float = 1e-5, probes: int = 2, seed: int = 0, condition: Condition = None,
                   base: Callable[[Tensor], Tensor] | None = None, nats: float | None = None) -> Flow:
    """The log density of the samples of the probability-flow ODE (Song et al. 2021, section 4.3).

    With y = z / r, r = hypot(signal, noise), the flow is the rotation dy / d(angle) = v, along which
    d log p(y) / d(angle) = -div_y v; so  log p(x) = log p_1(y_1) + integral of div_y v d(angle) - D log r.

    Args:
        denoiser: any `Denoiser` whose estimate is differentiable in z.
        x: (B, *shape) data; with t > 0 latents z_t, for their density at t.
        divergence: "exact", one backward pass per value; "hutchinson", the mean of e.J e over random signs e
            (Hutchinson 1990); "auto" is exact up to 64 values.
        t: time at which the path begins, in [0, 1).
        tolerance: allowed error of a step: of y, absolute and relative, and of log p in nats.
        probes: random signs per sample, >= 1, fixed along the path; two or more give a standard error.
        seed: of the probes.
        condition: as for the denoiser.
        base: log density of z at t = 1, (B, *shape) to (B,); N(0, (signal^2 + noise^2) I) by default. If the
            schedule keeps some signal at t = 1, the difference from the true density is the prior gap.
        nats: allowed error of a step in log p, in place of `tolerance`.

    Returns:
        `Flow`.

    Raises:
        ValueError: a denoiser that cannot be differentiated; data on levels, which have no density (`dequantise`
            them first); an unknown divergence; a time outside [0, 1); a tolerance <= 0; fewer than 1 probe; a base of
            another shape; shapes that do not fit.
        RuntimeError: the tolerance cannot be reached.
    """
    model = Float64Model(denoiser, x, condition)
    require("divergence", divergence, DIVERGENCES)
    start_time = as_time(t)
    if start_time.ndim or start_time == 1:
        raise ValueError(f"t is {t}; it must be one number in [0, 1)")
    if not require_float("tolerance", tolerance) > 0:
        raise ValueError(f"tolerance is {tolerance}; it must be greater than 0")
    probes = require_int("probes", probes)
    levels = getattr(getattr(denoiser, "data", None), "bins", None)
    if levels is not None and start_time == 0 and on_levels(x, levels):
        raise ValueError(f"x lies on the {levels} levels of the model's data, and a density says nothing about "
                         "single points; spread them over their bins first (ornstein.dequantise), or take a bound with "
                         "levels")
    size = math.prod(denoiser.shape)
    exact = divergence == "exact" or (divergence == "auto" and size <= EXACT)
    signs = [] if exact else random_signs(seed, probes, len(x), size)
    ends = [denoiser.schedule.level(as_time(value)) for value in (start_time, 1.0)]
    width = size + (1 if exact else len(signs))

    def scale(before: Tensor, after: Tensor) -> Tensor:
        allowed = torch.full_like(before, tolerance)
        allowed[:, :size] *= 1 + torch.maximum(before.abs(), after.abs())[:, :size]
        # The error of log p must not be averaged away by that of the many values of y.
        allowed[:, size:] = (tolerance if nats is None else nats) / math.sqrt(width)
        return allowed

    slope = _slope(denoiser, model, signs, width)
    start = torch.cat([flat(model.x) / ends[0].radius.to(model.x), model.x.new_zeros(len(x), width - size)], 1)
    state, calls = integrate(slope, start, ends[0].angle.to(model.x), ends[1].angle.to(model.x), scale)
    radius, integrals = float(ends[1].radius), state[:, size:]
    latent = (radius * state[:, :size]).reshape(model.x.shape)
    if base is None:
        log_base = -0.5 * (state[:, :size] ** 2 + math.log(2 * math.pi)).sum(1)
    else:
        log_base = base(latent).double()
        if log_base.shape != (len(x),):
            raise ValueError(f"base gives shape {tuple(log_base.shape)}; it must give ({len(x)},) log densities")
        log_base = log_base + size * math.log(radius)
    log_base = log_base - size * math.log(float(ends[0].radius))
    change = integrals.mean(1)
    if exact:
        error = torch.zeros_like(change)
    else:
        error = integrals.std(1) / math.sqrt(len(signs)) if len(signs) > 1 else torch.full_like(change, math.nan)
    return Flow(log_base + change, error, log_base, change, latent, calls)


def random_signs(seed: int, count: int, rows: int, size: int) -> list[Tensor]:
    """`count` probes of a divergence, each (rows, size) of -1 and 1, float64."""
    return [torch.from_numpy(noise.generator(seed, "probe", number).choice((-1.0, 1.0), (rows, size)))
            for number in range(count)]


def _slope(denoiser: Denoiser, model: Float64Model, signs: list[Tensor], width: int) -> Slope:
    """v and its divergences in y, (b, width) float64, at states whose first values are y; in blocks of rows."""
    schedule, conditions, size = model.schedule, model.batched.conditions, math.prod(denoiser.shape)

    def slope(state: Tensor, angle: Tensor, rows: Tensor) -> Tensor:
        blocks, slopes = torch.arange(len(rows), device="cpu").split(ROWS), shared_tensor((len(rows), width), state)

        def evaluate(index: int) -> None:
            block = blocks[index]
            indices = rows[block].cpu()
            time, leaf = schedule.time_at(angle[block]), state[block, :size].detach().to(model.like.dtype)
            y = leaf.requires_grad_().reshape(-1, *denoiser.shape)
            v = flat(denoiser(per_row(schedule.level(time).radius, y) * y, time,
                              None if conditions is None else conditions[indices].to(y.device)).v)
            divergence = divergences(v, leaf, [sign[indices].to(state) for sign in signs])
            slopes[block] = torch.cat([v.detach().double(), divergence], 1)

        for _ in run_pieces(evaluate, len(blocks), state.device):
            pass
        return slopes

    return slope


def divergences(v: Tensor, y: Tensor, signs: list[Tensor], create_graph: bool = False) -> Tensor:
    """The divergence of v(y), float64, for (B, D) v and leaf y: exact, (B, 1), or e.J e for each e in `signs`, (B, n).
    """
    def gradient_of(scalar: Tensor, last: bool) -> Tensor:
        gradient = None
        if scalar.requires_grad:
            gradient, = torch.autograd.grad(scalar, y, retain_graph=create_graph or not last, create_graph=create_graph,
                                            allow_unused=True)
        if gradient is None:
            raise ValueError("denoiser returns an estimate that cannot be differentiated in z (computed under "
                             "no_grad, or detached?); the flow's likelihood needs its divergence")
        return gradient

    if not signs:
        size = v.shape[1]
        diagonal = [gradient_of(v[:, d].sum(), d + 1 == size)[:, d] for d in range(size)]
        return torch.stack(diagonal, 1).double().sum(1, keepdim=True)
    products = [(gradient_of((v * e.to(v)).sum(), index + 1 == len(signs)).double() * e).sum(1)
                for index, e in enumerate(signs)]
    return torch.stack(products, 1)
