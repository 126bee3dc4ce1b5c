"""Linear multistep rules in three frames: high order from one call a step, by remembering the calls before."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ornstein.arguments import require, require_int
from ornstein.diffusion.grid import Moment
from ornstein.diffusion.samplers.rule import Rule, Step

__all__ = ["FINE", "FRAMES", "NEAR", "Multistep", "adams", "response"]

GROWTH = {"v": 0.0, "x": 1.0, "eps": -1.0}  # of the density of each frame in its place
FRAMES = tuple(GROWTH)
NEAR, FINE = 1e-6, 1e-12  # gaps between two places, over the last step and as such, that are rounding
LONG = 5.0  # steps in log(signal / noise) that are as good as infinite: a polynomial says nothing over them
HIGHEST = 4  # order; higher ones are stable on fewer and fewer problems
# Gauss and Legendre's rule: 3 points are exact for polynomials up to degree 5, 8 are for those times an exponential.
THREE, EIGHT = (np.transpose(np.polynomial.legendre.leggauss(count)).tolist() for count in (3, 8))


class View(NamedTuple):
    """A moment as a frame sees it: z = scale Y, dY / d(place) = density slope, slope = of_x x-hat + of_eps eps-hat."""

    scale: float
    place: float
    of_x: float
    of_eps: float

    def usable(self) -> bool:
        return 0 < self.scale < math.inf and math.isfinite(self.place)


def view(frame: str, variance: float, at: Moment) -> View:
    """What a moment is in a frame; a place is +-inf where the frame has none."""
    if frame == "v":
        signal = math.sqrt(variance) * at.signal
        scale = math.hypot(signal, at.noise)
        return View(scale, math.atan2(at.noise, signal), -at.noise / math.sqrt(variance) / scale, signal / scale)
    return View(at.noise, at.log_ratio, 1.0, 0.0) if frame == "x" else View(at.signal, at.log_ratio, 0.0, -1.0)


def adams(places: Sequence[Any], start: Any, end: Any, growth: float = 0.0) -> list[Any]:
    """Weights of values at `places` in the integral, from start to end, of exp(growth p) times their polynomial in p.

    Places are numbers or, without growth, tensors () that a gradient may go through; weights are what they are.
    """
    middle, half = (start + end) / 2, (end - start) / 2
    weights = [0.0] * len(places)
    for point, share in EIGHT if growth else THREE:
        p = middle + half * point
        weight = half * share * (math.exp(growth * p) if growth else 1.0)
        for j, place in enumerate(places):
            basis = weight
            for k, other in enumerate(places):
                if k != j:
                    basis = basis * ((p - other) / (place - other))
            weights[j] = weights[j] + basis
    return weights


def response(moved: Tensor, noise: Tensor, ratio: float) -> Tensor:
    """How much of a small change of z / signal is found again in x-hat, value by value, in [0, 1].

    For a value that is Gaussian with variance g times (noise / signal)^2 it is g / (1 + g), and along the flow x-hat
    moves by moved = g noise (1 - sqrt((g + 1) / (g + 1 / p))) from a level with 1 / ratio times the noise, p = ratio^2.
    Squared, that is a quadratic equation in g, and with k = moved / noise its answer is

        g / (1 + g) = k / (k + 2 (1 - p - 2 p k) / (2 - p k + sqrt((p k)^2 + 4 p (1 + k)))),

    0 for k <= 0, as in data of one point, and 1 from 2 p k = 1 - p on, where g is infinite. Here `noise` is eps-hat
    times noise / signal, and `ratio` that of noise / signal now to the level before.
    """
    p = ratio**2
    k = (moved / noise).nan_to_num_(nan=0.0).clamp_(min=0.0)
    share = p * k
    root = (share + 4).mul_(share).add_(4 * p).sqrt_()
    rest = (1 - p - 2 * share).clamp_(min=0.0).mul_(2).div_(root.sub_(share).add_(2)).add_(k)
    return k / rest.clamp_(min=torch.finfo(rest.dtype).tiny)


class Multistep(Rule):
    """Adams' rules for steps of any sizes, in a frame where some part of the flow is solved exactly.

    A frame writes z = scale Y with dY / dp = density(p) slope, and the slope is taken to be the polynomial in p through
    this call and those before, `order` (1 to 4) in all.

    - "v": scale = hypot(a signal, noise) and p = atan2(noise, a signal) with a^2 = `variance`; the slope is the
    velocity of data divided by a. It is 0 for N(0, variance I), which is therefore solved exactly (the idea of Zheng et
    al. 2023, with one number for the statistics of the model). - "x": scale = noise, p = log(signal / noise), density
    e^p and slope x-hat: DPM-Solver++ (Lu et al. 2022). - "eps": scale = signal, the same p, density -e^-p and slope
    eps-hat: DEIS in log rho (Zhang & Chen 2023) and DPM-Solver.

    With `corrected`, the step before is taken again with this call's slope in its polynomial (UniC of Zhao et al. 2023:
    predict, evaluate, correct, and no second call), one order higher.

    The step to clean data takes x-hat, and adds the correction of z times `response`. Where a frame has no place for a
    time (pure noise, two levels that float64 cannot tell apart), and over steps longer than 5 in log(signal / noise) in
    "x" and "eps", the step is one of `DDIM`. The first steps have fewer calls to look at: the order is reached where a
    schedule ends in noise, where x-hat hardly moves.
    """

    def __init__(self, frame: str = "v", order: int = 3, corrected: bool = False, variance: float = 2.0) -> None:
        self.frame = require("frame", frame, FRAMES)
        if require_int("order", order) > HIGHEST:
            raise ValueError(f"order is {order}; it must be at most {HIGHEST}")
        if not 0 < variance < math.inf:
            raise ValueError(f"variance is {variance}; it must be greater than 0")
        self.predicts, self.corrected, self.variance = int(order), bool(corrected), float(variance)
        self.order = self.predicts + self.corrected
        self.memory = self.order - 1
        self.spacing = "power" if frame == "v" else "log_snr"

    def advance(self, step: Step) -> Tensor:
        goal, *nodes = (view(self.frame, self.variance, at) for at in (step.s, *(call.at for call in step.calls)))
        known = self._known(goal, nodes)
        if not step.last:
            ahead = abs(goal.place - nodes[0].place)
            if not known or not goal.usable() or ahead <= FINE or (self.frame != "v" and ahead > LONG):
                return step.turn(1.0)
            x, eps = _ahead(self.frame, self.predicts, self.corrected, goal, tuple(nodes), known)
            return step.mix(z=goal.scale / nodes[0].scale, x=x, eps=eps)
        x = step.estimate.x
        if not self.corrected or not step.past:
            return x
        now, then = step.t, step.past[0].at
        ratio = now.noise * then.signal / (now.signal * then.noise)
        change = _change(self.frame, self.predicts, self.corrected, nodes, known)
        of_x, of_eps = _mixed(nodes[0].scale / now.signal, change, nodes)
        moved, noise = x - step.past[0].estimate.x, step.estimate.eps * (now.noise / now.signal)
        return x + response(moved, noise, ratio) * step.mix(x=of_x, eps=of_eps)

    def _known(self, goal: View, nodes: Sequence[View]) -> int:
        """How many calls can be looked at: two levels too near each other to tell a slope from rounding end them."""
        known = 0
        for node, before in zip(nodes, [goal, *nodes], strict=False):
            gap = abs(node.place - before.place)
            near = known and gap <= max(NEAR * abs(nodes[0].place - nodes[1].place), FINE)
            if not node.usable() or near or (known and self.frame != "v" and gap > LONG):
                break
            known += 1
        return known


@functools.lru_cache(4096)  # a walk's steps are those of the next walk
def _ahead(frame: str, predicts: int, corrected: bool, goal: View, nodes: tuple[View, ...],
           known: int) -> tuple[list[float], list[float]]:
    """Weights of x-hat and eps-hat of each call in what a step adds."""
    total = _change(frame, predicts, corrected, nodes, known)
    places = [node.place for node in nodes[:min(predicts, known)]]
    for j, weight in enumerate(adams(places, places[0], goal.place, GROWTH[frame])):
        total[j] += weight
    return _mixed(goal.scale, total, nodes)


def _change(frame: str, predicts: int, corrected: bool, nodes: Sequence[View], known: int) -> list[float]:
    """Weights of the slopes by which the step before is corrected."""
    change = [0.0] * len(nodes)
    if corrected and known > 1:
        places, growth = [node.place for node in nodes], GROWTH[frame]
        predicted = adams(places[1:min(predicts + 1, known)], places[1], places[0], growth)
        for j, weight in enumerate(adams(places[:min(predicts + 1, known)], places[1], places[0], growth)):
            change[j] = weight - (predicted[j - 1] if 0 < j <= len(predicted) else 0.0)
    return change


def _mixed(scale: float, weights: Sequence[float], nodes: Sequence[View]) -> tuple[list[float], list[float]]:
    """Weights of x-hat and eps-hat of each call in a weighted sum of slopes."""
    of_x = [scale * weight * node.of_x for weight, node in zip(weights, nodes, strict=True)]
    return of_x, [scale * weight * node.of_eps for weight, node in zip(weights, nodes, strict=True)]
