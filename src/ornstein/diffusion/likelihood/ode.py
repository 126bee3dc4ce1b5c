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
from ornstein.diffusion.level import as_time, spread
from ornstein.diffusion.likelihood.bound import ROWS, Reader, flat
from ornstein.diffusion.likelihood.levels import on_levels
from ornstein.isolation import isolated
from ornstein.workers import run_pieces, shared_tensor

__all__ = ["DIVERGENCES", "EXACT", "Flow", "divergence_of", "ode_likelihood", "ode_log_prob",
           "random_signs"]

DIVERGENCES = ("auto", "exact", "hutchinson")
EXACT = 64  # dimensions up to which "auto" takes the exact divergence: one backward pass each


@dataclass(frozen=True)
class Flow:
    """What following the flow from data to noise tells, one entry a sample, float64.

    Args:
        log_prob: (B,) nats, base + change.
        error: (B,) standard error of log_prob from the random probes; 0 with the exact divergence, NaN with one probe.
        base: (B,) log density, at t = 1, of where the path ends, in units of the data.
        change: (B,) integral of the divergence along the path.
        latent: (B, *shape) z at t = 1.
        calls: (B,) how often the denoiser was asked.
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
    """log p(x) of the flow's samples, (B,) nats; arguments and errors are those of `ode_likelihood`."""
    return ode_likelihood(denoiser, x, divergence, t=t, tolerance=tolerance, probes=probes, seed=seed,
                          condition=condition, base=base).log_prob


@isolated(gradients=True, evaluating=True)
def ode_likelihood(denoiser: Denoiser, x: Tensor, divergence: str = "auto", *, t: float = 0.0,
                   tolerance: float = 1e-5, probes: int = 2, seed: int = 0, condition: Condition = None,
                   base: Callable[[Tensor], Tensor] | None = None, nats: float | None = None) -> Flow:
    """The log density of what the probability-flow ODE makes of noise (Song et al. 2021, section 4.3).

    With y = z / r, r = hypot(signal, noise), the flow is the rotation dy / d(angle) = v, along which
    d log p(y) / d(angle) = -div_y v; so  log p(x) = log p_1(y_1) + integral of div_y v d(angle) - D log r.

    Args:
        denoiser: any `Denoiser` whose answer can be differentiated in z.
        x: (B, *shape) data; with t > 0 latents z_t, whose density at t is then meant.
        divergence: "exact", one backward pass a value; "hutchinson", the mean of e.J e over random signs e
            (Hutchinson 1990); "auto" is exact up to 64 values.
        t: time at which the path begins, in [0, 1).
        tolerance: error that a step may make: of y, absolute and relative, and of log p in nats.
        probes: random signs a sample, >= 1, kept along the path; two or more give a standard error.
        seed: of the probes.
        condition: as for the denoiser.
        base: log density of z at t = 1, (B, *shape) to (B,); N(0, (signal^2 + noise^2) I) unless given. Where the
            schedule keeps some signal at t = 1, the difference from the true one is the prior gap.
        nats: error that a step may make of log p, in place of `tolerance`.

    Returns:
        `Flow`.

    Raises:
        ValueError: a denoiser that cannot be differentiated; data on levels (they have no density: `dequantise` them
            first), an unknown divergence, a time
            outside [0, 1), a tolerance <= 0, fewer than 1 probe, a base of another shape, shapes that do not fit.
        RuntimeError: a field that the tolerance cannot be reached on.
    """
    read = Reader(denoiser, x, condition)
    require("divergence", divergence, DIVERGENCES)
    begin = as_time(t)
    if begin.ndim or begin == 1:
        raise ValueError(f"t is {t}; it must be one number in [0, 1)")
    if not require_float("tolerance", tolerance) > 0:
        raise ValueError(f"tolerance is {tolerance}; it must be greater than 0")
    probes = require_int("probes", probes)
    levels = getattr(getattr(denoiser, "data", None), "bins", None)
    if levels is not None and begin == 0 and on_levels(x, levels):
        raise ValueError(f"x lies on the {levels} levels of the model's data, and a density says nothing of single "
                         "points; spread them over their bins first (ornstein.dequantise), or take a bound with levels")
    size = math.prod(denoiser.shape)
    exact = divergence == "exact" or (divergence == "auto" and size <= EXACT)
    signs = [] if exact else random_signs(seed, probes, len(x), size)
    ends = [denoiser.schedule.level(as_time(value)) for value in (begin, 1.0)]
    width = size + (1 if exact else len(signs))

    def scale(before: Tensor, after: Tensor) -> Tensor:
        allowed = torch.full_like(before, tolerance)
        allowed[:, :size] *= 1 + torch.maximum(before.abs(), after.abs())[:, :size]
        # One number beside many: it must not drown in their mean.
        allowed[:, size:] = (tolerance if nats is None else nats) / math.sqrt(width)
        return allowed

    slope = _slope(denoiser, read, signs, width)
    start = torch.cat([flat(read.x) / ends[0].radius.to(read.x), read.x.new_zeros(len(x), width - size)], 1)
    state, calls = integrate(slope, start, ends[0].angle.to(read.x), ends[1].angle.to(read.x), scale)
    radius, changes = float(ends[1].radius), state[:, size:]
    latent = (radius * state[:, :size]).reshape(read.x.shape)
    if base is None:
        reached = -0.5 * (state[:, :size] ** 2 + math.log(2 * math.pi)).sum(1)
    else:
        reached = base(latent).double()
        if reached.shape != (len(x),):
            raise ValueError(f"base gives shape {tuple(reached.shape)}; it must give ({len(x)},) log densities")
        reached = reached + size * math.log(radius)
    reached = reached - size * math.log(float(ends[0].radius))
    change = changes.mean(1)
    if exact:
        error = torch.zeros_like(change)
    else:
        error = changes.std(1) / math.sqrt(len(signs)) if len(signs) > 1 else torch.full_like(change, math.nan)
    return Flow(reached + change, error, reached, change, latent, calls)


def random_signs(seed: int, count: int, rows: int, size: int) -> list[Tensor]:
    """`count` probes of a divergence, each (rows, size) of -1 and 1, float64."""
    return [torch.from_numpy(noise.generator(seed, "probe", number).choice((-1.0, 1.0), (rows, size)))
            for number in range(count)]


def _slope(denoiser: Denoiser, read: Reader, signs: list[Tensor], width: int) -> Slope:
    """v and its divergences in y, (b, width) float64, at states whose first values are y; blocks of rows by workers."""
    schedule, conditions, size = read.schedule, read.batched.conditions, math.prod(denoiser.shape)

    def slope(state: Tensor, angle: Tensor, rows: Tensor) -> Tensor:
        blocks, parts = torch.arange(len(rows), device="cpu").split(ROWS), shared_tensor((len(rows), width), state)

        def ask(number: int) -> None:
            block = blocks[number]
            among = rows[block].cpu()
            time, leaf = schedule.time_at(angle[block]), state[block, :size].detach().to(read.like.dtype)
            y = leaf.requires_grad_().reshape(-1, *denoiser.shape)
            v = flat(denoiser(spread(schedule.level(time).radius, y) * y, time,
                              None if conditions is None else conditions[among].to(y.device)).v)
            parted = divergence_of(v, leaf, [sign[among].to(state) for sign in signs])
            parts[block] = torch.cat([v.detach().double(), parted], 1)

        for _ in run_pieces(ask, len(blocks), state.device):
            pass
        return parts

    return slope


def divergence_of(v: Tensor, y: Tensor, signs: list[Tensor], create_graph: bool = False) -> Tensor:
    """The divergence of v(y), float64, for (B, D) v and leaf y: exact, (B, 1), or e.J e for each e in `signs`, (B, n).
    """
    def back(of: Tensor, last: bool) -> Tensor:
        """The gradient of a scalar in y."""
        gradient = None
        if of.requires_grad:
            gradient, = torch.autograd.grad(of, y, retain_graph=create_graph or not last, create_graph=create_graph,
                                            allow_unused=True)
        if gradient is None:
            raise ValueError("denoiser gives an estimate that cannot be differentiated in z (calculated under no_grad, "
                             "or detached?); the flow's likelihood needs its divergence")
        return gradient

    if not signs:
        size = v.shape[1]
        parts = [back(v[:, d].sum(), d + 1 == size)[:, d] for d in range(size)]
        return torch.stack(parts, 1).double().sum(1, keepdim=True)
    parts = [(back((v * e.to(v)).sum(), number + 1 == len(signs)).double() * e).sum(1)
             for number, e in enumerate(signs)]
    return torch.stack(parts, 1)
