"""Linear multistep rules in three frames: high order with one call per step, by reusing earlier calls."""

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

__all__ = ["FRAMES", "LONG_STEP", "MIN_GAP", "RELATIVE_GAP", "Multistep", "adams", "response"]

GROWTH = {"v": 0.0, "x": 1.0, "eps": -1.0}  # exponent of each frame's density in p
FRAMES = tuple(GROWTH)
RELATIVE_GAP, MIN_GAP = 1e-6, 1e-12  # gaps between two p, relative to the last step and absolute, that are rounding
LONG_STEP = 5.0  # in log(signal / noise), beyond which a polynomial extrapolation is useless
MAX_ORDER = 4  # higher orders are stable on fewer problems
# Gauss-Legendre quadrature: 3 points are exact for polynomials up to degree 5; 8 are for those times an exponential.
THREE, EIGHT = (np.transpose(np.polynomial.legendre.leggauss(count)).tolist() for count in (3, 8))


class View(NamedTuple):
    """A moment in a frame: z = scale Y, dY / dp = density slope, slope = weight_x x-hat + weight_eps eps-hat."""

    scale: float
    p: float
    weight_x: float
    weight_eps: float

    def is_usable(self) -> bool:
        return 0 < self.scale < math.inf and math.isfinite(self.p)


def view(frame: str, variance: float, at: Moment) -> View:
    """A moment in a frame; p is +-inf where the frame is singular."""
    if frame == "v":
        signal = math.sqrt(variance) * at.signal
        scale = math.hypot(signal, at.noise)
        return View(scale, math.atan2(at.noise, signal), -at.noise / math.sqrt(variance) / scale, signal / scale)
    return View(at.noise, at.log_ratio, 1.0, 0.0) if frame == "x" else View(at.signal, at.log_ratio, 0.0, -1.0)


def adams(nodes: Sequence[Any], start: Any, end: Any, growth: float = 0.0) -> list[Any]:
    """Weights of values at `nodes` in the integral, from start to end, of exp(growth p) times their polynomial in p.

    Nodes are numbers or, without growth, differentiable tensors (); the weights are of the same kind.
    """
    middle, half = (start + end) / 2, (end - start) / 2
    weights = [0.0] * len(nodes)
    for point, share in EIGHT if growth else THREE:
        p = middle + half * point
        weight = half * share * (math.exp(growth * p) if growth else 1.0)
        for j, node in enumerate(nodes):
            basis = weight
            for k, other in enumerate(nodes):
                if k != j:
                    basis = basis * ((p - other) / (node - other))
            weights[j] = weights[j] + basis
    return weights


def response(moved: Tensor, noise: Tensor, ratio: float) -> Tensor:
    """The derivative of x-hat in z / signal, value by value, in [0, 1].

    For a Gaussian value with variance g times (noise / signal)^2 it is g / (1 + g), and along the flow x-hat changes by
    moved = g noise (1 - sqrt((g + 1) / (g + 1 / p))) from a level with 1 / ratio times the noise, p = ratio^2.
    Squared, this is a quadratic equation in g, and with k = moved / noise its solution gives

        g / (1 + g) = k / (k + 2 (1 - p - 2 p k) / (2 - p k + sqrt((p k)^2 + 4 p (1 + k)))),

    0 for k <= 0, as for data of one point, and 1 from 2 p k = 1 - p on, where g is infinite. Here `noise` is eps-hat
    times noise / signal, and `ratio` is noise / signal now over that of the level before.
    """
    p = ratio**2
    k = (moved / noise).nan_to_num_(nan=0.0).clamp_(min=0.0)
    share = p * k
    root = (share + 4).mul_(share).add_(4 * p).sqrt_()
    rest = (1 - p - 2 * share).clamp_(min=0.0).mul_(2).div_(root.sub_(share).add_(2)).add_(k)
    return k / rest.clamp_(min=torch.finfo(rest.dtype).tiny)


class Multistep(Rule):
    """Adams' rules for variable step sizes, in a frame where some part of the flow is solved exactly.

    A frame writes z = scale Y with dY / dp = density(p) slope, and the slope is approximated by the polynomial in p
    through the last `order` (1 to 4) calls.

    - "v": scale = hypot(a signal, noise) and p = atan2(noise, a signal) with a^2 = `variance`; the slope is the
    velocity of data divided by a. It is 0 for N(0, variance I), which is therefore solved exactly (the idea of Zheng et
    al. 2023, with one number for the statistics of the model). - "x": scale = noise, p = log(signal / noise), density
    e^p and slope x-hat: DPM-Solver++ (Lu et al. 2022). - "eps": scale = signal, the same p, density -e^-p and slope
    eps-hat: DEIS in log rho (Zhang & Chen 2023) and DPM-Solver.

    With `corrected`, the previous step is repeated with this call's slope in its polynomial (UniC of Zhao et al. 2023:
    predict, evaluate, correct, without a second call), which raises the order by one.

    The step to clean data takes x-hat, and adds the correction of z times `response`. Where a frame is singular (pure
    noise, two levels that float64 cannot distinguish), and over steps longer than 5 in log(signal / noise) in "x" and
    "eps", the step is one of `DDIM`. The first steps have fewer calls: the order is reached if a schedule ends in
    noise, where x-hat hardly changes.
    """

    def __init__(self, frame: str = "v", order: int = 3, corrected: bool = False, variance: float = 2.0) -> None:
        self.frame = require("frame", frame, FRAMES)
        if require_int("order", order) > MAX_ORDER:
            raise ValueError(f"order is {order}; it must be at most {MAX_ORDER}")
        if not 0 < variance < math.inf:
            raise ValueError(f"variance is {variance}; it must be greater than 0")
        self.predicts, self.corrected, self.variance = int(order), bool(corrected), float(variance)
        self.order = self.predicts + self.corrected
        self.memory = self.order - 1
        self.spacing = "power" if frame == "v" else "log_snr"

    def advance(self, step: Step) -> Tensor:
        target, *nodes = (view(self.frame, self.variance, at) for at in (step.s, *(call.at for call in step.calls)))
        count = self._usable_calls(target, nodes)
        if not step.last:
            h = abs(target.p - nodes[0].p)
            if not count or not target.is_usable() or h <= MIN_GAP or (self.frame != "v" and h > LONG_STEP):
                return step.turn(1.0)
            x, eps = _step_weights(self.frame, self.predicts, self.corrected, target, tuple(nodes), count)
            return step.mix(z=target.scale / nodes[0].scale, x=x, eps=eps)
        x = step.estimate.x
        if not self.corrected or not step.past:
            return x
        t, before = step.t, step.past[0].at
        ratio = t.noise * before.signal / (t.signal * before.noise)
        correction = _correction(self.frame, self.predicts, self.corrected, nodes, count)
        weight_x, weight_eps = _estimate_weights(nodes[0].scale / t.signal, correction, nodes)
        moved, noise = x - step.past[0].estimate.x, step.estimate.eps * (t.noise / t.signal)
        return x + response(moved, noise, ratio) * step.mix(x=weight_x, eps=weight_eps)

    def _usable_calls(self, target: View, nodes: Sequence[View]) -> int:
        """The number of calls, latest first, that are far enough apart for a slope that is not rounding error."""
        count = 0
        for node, before in zip(nodes, [target, *nodes], strict=False):
            gap = abs(node.p - before.p)
            near = count and gap <= max(RELATIVE_GAP * abs(nodes[0].p - nodes[1].p), MIN_GAP)
            if not node.is_usable() or near or (count and self.frame != "v" and gap > LONG_STEP):
                break
            count += 1
        return count


@functools.lru_cache(4096)  # all walks of a run take the same steps
def _step_weights(frame: str, predicts: int, corrected: bool, target: View, nodes: tuple[View, ...],
                  count: int) -> tuple[list[float], list[float]]:
    """Weights of x-hat and eps-hat of each call in the increment of a step."""
    total = _correction(frame, predicts, corrected, nodes, count)
    p = [node.p for node in nodes[:min(predicts, count)]]
    for j, weight in enumerate(adams(p, p[0], target.p, GROWTH[frame])):
        total[j] += weight
    return _estimate_weights(target.scale, total, nodes)


def _correction(frame: str, predicts: int, corrected: bool, nodes: Sequence[View], count: int) -> list[float]:
    """Weights of the slopes in the correction of the previous step."""
    correction = [0.0] * len(nodes)
    if corrected and count > 1:
        p, growth = [node.p for node in nodes], GROWTH[frame]
        predicted = adams(p[1:min(predicts + 1, count)], p[1], p[0], growth)
        for j, weight in enumerate(adams(p[:min(predicts + 1, count)], p[1], p[0], growth)):
            correction[j] = weight - (predicted[j - 1] if 0 < j <= len(predicted) else 0.0)
    return correction


def _estimate_weights(scale: float, weights: Sequence[float],
                      nodes: Sequence[View]) -> tuple[list[float], list[float]]:
    """Weights of x-hat and eps-hat of each call in a weighted sum of slopes."""
    weight_x = [scale * weight * node.weight_x for weight, node in zip(weights, nodes, strict=True)]
    return weight_x, [scale * weight * node.weight_eps for weight, node in zip(weights, nodes, strict=True)]
