"""The sampler and the times that suit one model at one number of network calls, found on the model's own paths."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from ornstein import noise
from ornstein.diffusion.condition import Condition
from ornstein.diffusion.damping import Damped
from ornstein.diffusion.denoiser import Denoiser, kind_of, pure_noise
from ornstein.diffusion.grid import SPACINGS, grid
from ornstein.diffusion.samplers.choice import MOST, Choice
from ornstein.diffusion.samplers.loop import ROWS, SAMPLERS, NotFinite, automatic, plan, sample
from ornstein.diffusion.samplers.rule import Rule
from ornstein.isolation import isolated
from ornstein.names import whole

__all__ = ["tune"]

PLAIN = "auto"
FINALISTS = 4  # rules whose times are fitted
KNOTS = 6  # of the factor by which the steps of a grid are stretched
CALLS, LEAST, LARGEST = 3000, 60, 400  # evaluations of a fit: CALLS / nfe, at least and at most
ACCURATE, STEPS, FINER = "adams-moulton", 200, 8  # the reference: rule, least steps, steps a call
OTHERS = 8  # rules on their best grids whose distance to data is asked for as well
DAMPING, FURTHEST = 0.01, 0.1  # steps of the damping, and where they end
# It must lessen the distance by half a per cent on each of so many sets of other noise: by chance, 1 in 16. A distance
# that is only the smallness of a set of samples falls by less, for a step of 0.01 takes some 0.3 % of their variance.
SURE, BLOCKS = 0.995, 4
ALIKE = 1.001  # of the least distance to data: what lies within is told apart by the error on the paths
SAMPLES, SMALL = (2000, 500), 256  # that a distance is taken of, where they have at most SMALL values and else


@dataclass(frozen=True)
class _Starts:
    """Noise with the end of its exact path."""

    z: Tensor
    condition: Tensor | None
    end: Tensor


@isolated(gradients=False, evaluating=True)
def tune(model: Denoiser, nfe: int, *, starts: int = 128, condition: Condition = None, seed: int = 0,
         distance: Callable[[Tensor], float] | None = None, progress: Callable[[str], None] | None = None) -> Choice:
    """Find the rule and the times with the least error at a number of network calls, and keep them in the model.

    The error is that against the end of the exact path (probability flow) from the same noise, followed in many steps.
    Every rule walks every kind of grid; the steps of the best ones are then stretched by a smooth factor of the log
    SNR, whose values at a few knots are found by Nelder and Mead's method. What was found is confirmed on as many
    starts again, which the search has not seen. With a distance to data, what is nearest is chosen, and among what is
    as near to 0.1 % what has the least error: a model's own flow is not its data, and an error may lead nearer to
    them. Then the velocity is damped (`Damped`) in steps of 0.01 while that brings the samples nearer, which must hold
    on other noise too. Where nothing is better than `sampler="auto"` without tuning, that is the choice.

    Args:
        model: any `Denoiser`; its `tuned` gets the choice.
        nfe: network calls a sample, 1 to 1,000.
        starts: noises to search with, >= 16; as many again confirm.
        condition: a class or vector for all, (2 starts,) classes or (2 starts, K) vectors, or None.
        seed: of the noise, which is other noise than that of samples.
        distance: of a set of samples to the data, smaller is better, called with (B, *shape) samples of the same noise.
        progress: called with a line of text now and then.

    Returns:
        The choice, with the median error on unseen starts of all that was confirmed.

    Raises:
        ValueError: nfe or starts out of range.
    """
    if whole("nfe", nfe) > MOST:
        raise ValueError(f"nfe is {nfe}; it must be at most {MOST}")
    if whole("starts", starts) < 16:
        raise ValueError(f"starts is {starts}; it must be at least 16")
    tell = progress or (lambda _: None)
    conditions = model.read_condition(condition, 2 * starts, "cpu")
    search, unseen = _starts(model, nfe, starts, conditions, seed, tell)
    rules = _candidates(model, nfe, search, distance is not None, tell)
    errors = {what: float(_errors(model, *walk, unseen).median()) for what, walk in rules.items()}
    errors = {what: error for what, error in errors.items() if math.isfinite(error)}
    judge = None if distance is None else _Judge(model, distance, starts, conditions, seed)
    far = {} if judge is None else {what: judge(*rules[what]) for what in errors}
    tell(f"distance to data of each of {len(far)}")
    near = [what for what in errors if not far or far[what] <= ALIKE * min(far.values())]
    chosen = min(near, key=errors.__getitem__)
    apart, damping = "" if not far else f"; distance to data {far[chosen]:.4g}, of auto {far[PLAIN]:.4g}", 0.0
    if judge is not None:
        damping, least = _damped(*rules[chosen], judge, far[chosen])
        apart += f", {least:.4g} with the velocity damped by {damping:.2f}" if damping else ""
    if chosen != PLAIN or damping:
        rule, times = rules[chosen]
        name = rule if isinstance(rule, str) else automatic(nfe)
        angles = model.schedule.level(times).angle
        choice = Choice(nfe, name, tuple(times.tolist()), tuple(angles.tolist()), errors,
                        f"{chosen}: median error {errors[chosen]:.3g} on unseen starts, where auto without tuning has "
                        f"{errors[PLAIN]:.3g}{apart}", damping, noise.VERSION)
    else:
        choice = Choice(nfe, PLAIN, errors=errors, why="nothing was better than auto without tuning, which has a "
                        f"median error of {errors[PLAIN]:.3g} on unseen starts{apart}", noise=noise.VERSION)
    model.tuned[nfe] = choice
    return choice


def _starts(model: Denoiser, nfe: int, starts: int, conditions: Tensor | None, seed: int,
            tell: Callable[[str], None]) -> Iterator[_Starts]:
    """Starts to search with and starts to confirm on."""
    steps = max(STEPS, FINER * nfe)
    z = pure_noise(model, seed, "tune", range(2 * starts), kind_of(model))
    for part in (slice(None, starts), slice(starts, None)):
        mine = None if conditions is None else conditions[part]
        end = sample(model, z=z[part], condition=mine, sampler=ACCURATE, times=grid(model.schedule, steps, "power"))
        yield _Starts(z[part], mine, end)
        tell(f"{starts} exact paths of {steps} steps")


def _candidates(model: Denoiser, nfe: int, search: _Starts, judged: bool,
                tell: Callable[[str], None]) -> dict[str, tuple[str | Rule, Tensor]]:
    """What is to be confirmed, by words for it: "auto", the best rules on fitted times and, if judged, on grids."""
    tried: list[tuple[float, str, str, Tensor]] = []
    for name, rule in SAMPLERS.items():
        if rule.stochastic or rule.calls > nfe:
            continue
        for spacing in SPACINGS:
            times = grid(model.schedule, nfe // rule.calls, spacing)
            tried.append((_cost(model, name, times, search), name, spacing, times))
    tell(f"{len(tried)} pairs of a rule and a grid tried")
    best: dict[str, tuple[str, Tensor]] = {}
    for _, name, spacing, times in sorted(tried, key=lambda entry: entry[0]):
        best.setdefault(name, (spacing, times))
    rules: dict[str, tuple[str | Rule, Tensor]] = {PLAIN: plan(model, PLAIN, nfe, None, None)}
    for name, (_, times) in list(best.items())[:FINALISTS]:
        rules[f"{name}, fitted times"] = name, _stretched(model, name, times, search, nfe)
        tell(f"times of {name} fitted")
    if judged:  # a distance may prefer a rule whose error is of another kind
        rules |= {f"{name}, times {spacing}": (name, times) for name, (spacing, times) in list(best.items())[:OTHERS]}
    return rules


class _Judge:
    """The distance to data of what a rule makes of a set of noise, the same for every rule."""

    def __init__(self, model: Denoiser, distance: Callable[[Tensor], float], starts: int, conditions: Tensor | None,
                 seed: int) -> None:
        self.model, self.distance, self.first, self.seed = model, distance, 2 * starts, seed
        self.count = max(starts, SAMPLES[math.prod(model.shape) > SMALL])
        self.conditions = None if conditions is None else conditions[
            torch.arange(self.count, device="cpu") % len(conditions)]

    def __call__(self, rule: str | Rule, times: Tensor, damping: float = 0.0, block: int = 0) -> float:
        first = self.first + block * self.count
        z = pure_noise(self.model, self.seed, "tune", range(first, first + self.count), kind_of(self.model))
        model = Damped(self.model, damping) if damping else self.model
        try:
            return self.distance(sample(model, z=z, condition=self.conditions, sampler=rule, times=times))
        except NotFinite:
            return math.inf


def _damped(rule: str | Rule, times: Tensor, judge: _Judge, plain: float) -> tuple[float, float]:
    """The damping that brings samples nearest to the data, on other noise too, and their distance; `plain` is 0's."""
    damping, least = 0.0, plain
    for step in (DAMPING, -DAMPING):
        while abs(damping) < FURTHEST:
            there = judge(rule, times, damping + step)
            if not there < least:
                break
            damping, least = round(damping + step, 2), there
        if damping:
            break
    sure = damping and all(judge(rule, times, damping, block) < SURE * judge(rule, times, 0.0, block)
                           for block in range(1, 1 + BLOCKS))
    return (damping, least) if sure else (0.0, plain)


def _errors(model: Denoiser, rule: str | Rule, times: Tensor, starts: _Starts) -> Tensor:
    """Root mean square error of each sample, infinite where it is not finite."""
    few = len(starts.z) if len(starts.z) < ROWS else None  # no rows to fill up with
    try:
        x = sample(model, z=starts.z, condition=starts.condition, sampler=rule, times=times, batch=few)
    except NotFinite as error:
        x = error.samples
    return (x - starts.end).double().square().flatten(1).mean(1).sqrt().nan_to_num(math.inf, math.inf)


def _cost(model: Denoiser, name: str, times: Tensor, starts: _Starts) -> float:
    """Mean logarithm of the errors of the samples, as smooth in the times as they are, and as robust as a median."""
    return float(_errors(model, name, times, starts).clamp(1e-12, 1e6).log().mean())


def _stretched(model: Denoiser, name: str, times: Tensor, starts: _Starts, nfe: int) -> Tensor:
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
        return _cost(model, name, walk, starts)

    first = np.zeros(1 + knots)
    simplex = np.vstack([first, first + np.eye(len(first)) * np.where(np.arange(len(first)) == 0, 0.5, 0.3)])
    budget = int(np.clip(CALLS / nfe, LEAST, LARGEST))
    fit = minimize(cost, first, method="Nelder-Mead",
                   options={"maxfev": budget, "initial_simplex": simplex, "adaptive": True})
    return moved(fit.x) if fit.fun < math.inf else times
