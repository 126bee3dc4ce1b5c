"""The known rules on the times that suit them best, which a learned rule has to beat."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ornstein.diffusion.denoiser import Denoiser
from ornstein.diffusion.grid import SPACINGS, grid
from ornstein.diffusion.samplers.loop import ROWS, SAMPLERS, NotFinite, plan_walk, sample
from ornstein.diffusion.samplers.rule import Rule
from ornstein.tuning.paths import Starts

__all__ = ["PLAIN", "Walk", "errors", "known_walks", "log_errors"]

Walk = tuple[str | Rule, Tensor]  # a rule, by its name if it has one, and its times

PLAIN = "auto"
SCREENING_STARTS, SHORTLIST = 16, 24  # starts on which all pairs of a rule and a grid are compared; pairs kept
FITTED_RULES = 2  # rules whose times are fitted
KNOTS = 6  # of the factor by which the steps of a grid are stretched
FIT_EVALUATIONS, MIN_EVALUATIONS, MAX_EVALUATIONS = 1200, 40, 200  # a fit takes FIT_EVALUATIONS / nfe within limits
GRID_RULES = 3  # rules on their best grids that are confirmed too


def known_walks(model: Denoiser, nfe: int, search: Starts, grids: bool, fitted: bool,
                on_progress: Callable[[str], None]) -> dict[str, Walk]:
    """The candidates by description: "auto", and the best rules on their best `grids` and on `fitted` times."""
    pairs = [(name, spacing, grid(model.schedule, nfe // rule.calls, spacing)) for name, rule in SAMPLERS.items()
             if not rule.stochastic and rule.calls <= nfe for spacing in SPACINGS]
    few = search.first(SCREENING_STARTS)
    pairs.sort(key=lambda pair: log_errors(model, pair[0], pair[2], few))
    on_progress(f"{len(pairs)} pairs of a rule and a grid tried")
    best: dict[str, tuple[str, Tensor]] = {}
    for name, spacing, times in sorted(pairs[:SHORTLIST], key=lambda pair: log_errors(model, pair[0], pair[2], search)):
        best.setdefault(name, (spacing, times))
    plain = plan_walk(model, PLAIN, nfe, None, None)
    walks: dict[str, Walk] = {PLAIN: plain}
    for name, (spacing, times) in list(best.items())[:GRID_RULES if grids else 0]:
        # A distance may prefer a rule with another kind of error; auto is itself one of these pairs.
        if SAMPLERS[name] is not plain[0] or not times.equal(plain[1]):
            walks[f"{name}, times {spacing}"] = name, times
    for name, (_, times) in list(best.items())[:FITTED_RULES if fitted else 0]:
        walks[f"{name}, fitted times"] = name, _fit_times(model, name, times, search, nfe)
        on_progress(f"times of {name} fitted")
    return walks


def errors(model: Denoiser, rule: str | Rule, times: Tensor, starts: Starts) -> Tensor:
    """Root mean square error of each sample, infinite where it is not finite."""
    batch = len(starts.z) if len(starts.z) < ROWS else None  # without padding
    try:
        x = sample(model, z=starts.z, condition=starts.condition, sampler=rule, times=times, batch=batch)
    except NotFinite as error:
        x = error.samples
    return (x - starts.end).double().square().flatten(1).mean(1).sqrt().nan_to_num(math.inf, math.inf)


def log_errors(model: Denoiser, rule: str | Rule, times: Tensor, starts: Starts) -> float:
    """Mean logarithm of the samples' errors: a smooth function of the times, and as robust as a median."""
    return float(errors(model, rule, times, starts).clamp(1e-12, 1e6).log().mean())


def _fit_times(model: Denoiser, name: str, times: Tensor, starts: Starts, nfe: int) -> Tensor:
    """Fit the inner times for the smallest error."""
    inner = len(times) - 2
    if inner < 1:
        return times
    base = model.schedule.log_snr(times[1:-1]).numpy()
    gaps = np.diff(base)
    knots = min(KNOTS, inner - 1)

    def stretched(shift: np.ndarray) -> Tensor:
        stretch = np.interp(np.linspace(0, 1, inner - 1), np.linspace(0, 1, knots), shift[1:]) if knots else 0.0
        log_snr = base[0] + shift[0] + np.concatenate([[0.0], np.cumsum(gaps * np.exp(stretch))])
        return torch.cat([times[:1], model.schedule.time(torch.from_numpy(log_snr)), times[-1:]])

    def cost(shift: np.ndarray) -> float:
        walk = stretched(shift)
        if not np.isfinite(shift).all() or not (walk.diff() < 0).all():
            return math.inf
        return log_errors(model, name, walk, starts)

    first = np.zeros(1 + knots)
    simplex = np.vstack([first, first + np.eye(len(first)) * np.where(np.arange(len(first)) == 0, 0.5, 0.3)])
    budget = int(np.clip(FIT_EVALUATIONS / nfe, MIN_EVALUATIONS, MAX_EVALUATIONS))
    fit = minimize(cost, first, method="Nelder-Mead",
                   options={"maxfev": budget, "initial_simplex": simplex, "adaptive": True})
    return stretched(fit.x) if fit.fun < math.inf else times
