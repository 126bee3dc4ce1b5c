"""The rules that are known, on the times that suit them best: what anything learned has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.grid import SPACINGS, grid
from ornstein.diffusion.samplers.loop import ROWS, SAMPLERS, NotFinite, plan, sample
from ornstein.diffusion.samplers.rule import Rule
from ornstein.tuning.paths import Starts

__all__ = ["PLAIN", "Walk", "errors", "known_walks", "log_errors"]

Walk = tuple[str | Rule, Tensor]  # a rule, by its name if it has one, and its times

PLAIN = "auto"
FEW, LEFT = 16, 24  # starts of a first look at every pair of a rule and a grid, and pairs that are looked at again
FINALISTS = 2  # rules whose times are fitted
KNOTS = 6  # of the factor by which the steps of a grid are stretched
CALLS, LEAST, LARGEST = 1200, 40, 200  # evaluations of a fit: CALLS / nfe, at least and at most
OTHERS = 3  # rules on their best grids whose distance to data is asked for as well


def known_walks(model: Denoiser, nfe: int, search: Starts, grids: bool, fitted: bool,
                tell: Callable[[str], None]) -> dict[str, Walk]:
    """What is to be confirmed, by words for it: "auto", the best rules on their `grids` and on `fitted` times."""
    pairs = [(name, spacing, grid(model.schedule, nfe // rule.calls, spacing)) for name, rule in SAMPLERS.items()
             if not rule.stochastic and rule.calls <= nfe for spacing in SPACINGS]
    first = search.first(FEW)
    pairs.sort(key=lambda pair: log_errors(model, pair[0], pair[2], first))
    tell(f"{len(pairs)} pairs of a rule and a grid tried")
    best: dict[str, tuple[str, Tensor]] = {}
    for name, spacing, times in sorted(pairs[:LEFT], key=lambda pair: log_errors(model, pair[0], pair[2], search)):
        best.setdefault(name, (spacing, times))
    plain = plan(model, PLAIN, nfe, None, None)
    walks: dict[str, Walk] = {PLAIN: plain}
    for name, (spacing, times) in list(best.items())[:OTHERS if grids else 0]:
        # A distance may prefer a rule whose error is of another kind; auto is one of these pairs itself.
        if SAMPLERS[name] is not plain[0] or not times.equal(plain[1]):
            walks[f"{name}, times {spacing}"] = name, times
    for name, (_, times) in list(best.items())[:FINALISTS if fitted else 0]:
        walks[f"{name}, fitted times"] = name, _stretched(model, name, times, search, nfe)
        tell(f"times of {name} fitted")
    return walks


def errors(model: Denoiser, rule: str | Rule, times: Tensor, starts: Starts) -> Tensor:
    """Root mean square error of each sample, infinite where it is not finite."""
    few = len(starts.z) if len(starts.z) < ROWS else None  # no rows to fill up with
    try:
        x = sample(model, z=starts.z, condition=starts.condition, sampler=rule, times=times, batch=few)
    except NotFinite as error:
        x = error.samples
    return (x - starts.end).double().square().flatten(1).mean(1).sqrt().nan_to_num(math.inf, math.inf)


def log_errors(model: Denoiser, rule: str | Rule, times: Tensor, starts: Starts) -> float:
    """Mean logarithm of the errors of the samples, as smooth in the times as they are, and as robust as a median."""
    return float(errors(model, rule, times, starts).clamp(1e-12, 1e6).log().mean())


def _stretched(model: Denoiser, name: str, times: Tensor, starts: Starts, nfe: int) -> Tensor:
    """The inner times moved for the least error."""
    inner = len(times) - 2
    if inner < 1:
        return times
    base = model.schedule.log_snr(times[1:-1]).numpy()
    gaps = np.diff(base)
    knots = min(KNOTS, inner - 1)

    def moved(shift: np.ndarray) -> Tensor:
        stretch = np.interp(np.linspace(0, 1, inner - 1), np.linspace(0, 1, knots), shift[1:]) if knots else 0.0
        inside = base[0] + shift[0] + np.concatenate([[0.0], np.cumsum(gaps * np.exp(stretch))])
        return torch.cat([times[:1], model.schedule.time(torch.from_numpy(inside)), times[-1:]])

    def cost(shift: np.ndarray) -> float:
        walk = moved(shift)
        if not np.isfinite(shift).all() or not (walk.diff() < 0).all():
            return math.inf
        return log_errors(model, name, walk, starts)

    first = np.zeros(1 + knots)
    simplex = np.vstack([first, first + np.eye(len(first)) * np.where(np.arange(len(first)) == 0, 0.5, 0.3)])
    budget = int(np.clip(CALLS / nfe, LEAST, LARGEST))
    fit = minimize(cost, first, method="Nelder-Mead",
                   options={"maxfev": budget, "initial_simplex": simplex, "adaptive": True})
    return moved(fit.x) if fit.fun < math.inf else times
