"""Closed forms that hold on a working installation, and on a schedule or sampler of the user's own."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ornstein import noise
from ornstein.diffusion.adaptive import integrate
from ornstein.diffusion.encoder import Encoder, draw, transition
from ornstein.diffusion.exact import ExactGaussian, ExactMixture
from ornstein.diffusion.grid import grid
from ornstein.diffusion.level import as_time
from ornstein.diffusion.samplers import generate, sample
from ornstein.diffusion.samplers.loop import SAMPLERS
from ornstein.diffusion.samplers.rule import Rule
from ornstein.diffusion.schedule import Chain, Cosine, Exploding, Linear, Schedule
from ornstein.user_classes import load_class

__all__ = ["Result", "certify", "certify_rule", "certify_schedule"]

NOISY, CLEAR = -40.0, 7.0  # log SNR between which the order of rules of the log SNR is measured


@dataclass(frozen=True)
class Result:
    """One fact: whether it holds, and a line that says what was measured and what is allowed."""

    holds: bool
    line: str


def certify(place: str | None = None) -> Iterator[Result]:
    """Every fact about the installation, or about the class that path.py:Class names."""
    if place is None:
        for schedule in (Chain.linear(), Cosine(), Linear(), Exploding()):
            yield from certify_schedule(schedule)
        for name, rule in SAMPLERS.items():
            yield from certify_rule(rule, name)
        return
    made = load_class(place)()
    yield from certify_rule(made, place) if isinstance(made, Rule) else certify_schedule(made)


def certify_schedule(schedule: Schedule) -> Iterator[Result]:
    """Ends, monotony, composition of steps, Bayes' rule, and an exact denoiser's score, on one schedule."""
    name = type(schedule).__name__
    start, end = schedule.level(as_time(0.0)), schedule.level(as_time(1.0))
    yield _fact(name, "at t = 0 a latent is the data", max(abs(float(start.signal) - 1), float(start.noise)), 1e-12)
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    fall = -schedule.log_snr(t)[1:-1].diff()
    yield Result(bool((fall > 0).all()), f"{name}: log SNR falls strictly (smallest fall {float(fall.min()):.2g})")
    s, r, t = 0.2, 0.5, 0.9
    (_, _, keep, added), (_, _, keep1, added1), (_, _, keep2, added2) = (
        transition(schedule, *pair) for pair in ((s, t), (s, r), (r, t)))
    scale = float(added)
    yield _fact(name, "two steps are one", max(abs(float(keep1 * keep2 - keep)),
                                              abs(float(keep2**2 * added1 + added2 - added)) / scale), 1e-10)
    x, z = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
    encoder = Encoder(schedule)
    law, prior = encoder.posterior(x, z, s, t), encoder.kernel(x, s)
    # Bayes' rule for Gaussians: precisions add.
    precision = 1 / prior.variance + keep**2 / added
    mean = (prior.mean / prior.variance + keep * z / added) / precision
    yield _fact(name, "the posterior is Bayes' rule", max(
        float((law.mean - mean).abs()), float((law.variance * precision - 1).abs())), 1e-9)
    yield _fact(name, "time and log SNR are inverse", abs(float(schedule.time(schedule.log_snr(0.37))) - 0.37), 1e-9)
    mixture = _mixture(schedule)
    z = draw(encoder.kernel(mixture.draw(16), 0.6), noise.normal(0, "exact", 9, 0, (16, 2))).requires_grad_()
    slope, = torch.autograd.grad(mixture.log_prob_at(z, 0.6).sum(), z)
    apart = float((mixture(z.detach(), 0.6).score - slope).abs().max() / slope.abs().max())
    yield _fact(name, "the score is the gradient of the log density", apart, 1e-8)
    yield Result(bool(end.signal / end.radius < 0.2),
                 f"{name}: little of the data is left at t = 1 (share of signal {float(end.signal / end.radius):.2g}, "
                 "at most 0.2)")


def certify_rule(rule: Rule, name: str) -> Iterator[Result]:
    """A rule's exactness on a point, and its order or, if it is random, its moments."""
    point = ExactGaussian(torch.tensor([0.3, -0.8]), torch.zeros(2), Cosine())
    apart = float((sample(point, 8, sampler=rule, steps=3) - point.mean).abs().max())
    yield _fact(name, "data that are one point are found", apart, 1e-9)
    if rule.stochastic:
        # 400 samples of ten values of each kind are 4,000 of each, and noise is drawn sample by sample.
        power = torch.tensor([0.25, 1.0]).repeat(10)
        x = sample(ExactGaussian(torch.zeros(20), power, Cosine()), 400, sampler=rule, steps=200)
        ratio = float((x.reshape(-1, 2).var(0) / power[:2] - 1).abs().max())
        # A few per cent are the rule's own, of order 1 / steps; the draws' standard deviation is 2 %.
        yield _fact(name, "a Gaussian keeps its variance over 200 steps", ratio, 0.2)
        return
    model, errors = _mixture(Cosine()), []
    z = noise.normal(0, "exact", 8, 0, (64, 2))
    # The steps of other grids to pure noise and to clean data do not shrink as those between: there the order is that
    # on times even in the log SNR, and what is compared is the latent at the last but one of them.
    end = 0.0 if rule.spacing == "angle" else float(model.schedule.time(CLEAR))
    truth = _flow(end)
    for steps in (96, 192):
        times = grid(model.schedule, steps) if not end else [
            1.0, *model.schedule.time(torch.linspace(NOISY, CLEAR, steps, dtype=torch.float64)).tolist(), 0.0]
        frames = generate(model, z=z, sampler=rule, times=times)
        there = next(frame.latent for frame in frames if frame.time == end)
        errors.append(float((there - truth).square().mean().sqrt()))
    order = math.log2(errors[0] / errors[1])
    yield Result(order > rule.order - 0.45, f"{name}: order {order:.2f} on a mixture, stated {rule.order}, at least "
                                            f"{rule.order - 0.45:.2f}")


@functools.cache
def _flow(end: float) -> Tensor:
    """Where the flow has the latents of `certify_rule` at a time, the same for every rule."""
    model = _mixture(Cosine())

    def slope(y: Tensor, angle: Tensor, _: Tensor) -> Tensor:
        return model(y, model.schedule.time_at(angle)).v

    first, last = (model.schedule.level(as_time(time)).angle for time in (1.0, end))
    z = noise.normal(0, "exact", 8, 0, (64, 2))
    return integrate(slope, z, first, last, lambda y, _: torch.full_like(y, 1e-11), most=20_000)[0]


def _mixture(schedule: Schedule) -> ExactMixture:
    return ExactMixture(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[-1.0, 0.2], [0.8, 0.9], [0.4, -1.0]]),
                        torch.tensor([0.2, 0.15, 0.25]), schedule)


def _fact(name: str, what: str, error: float, allowed: float) -> Result:
    return Result(error <= allowed, f"{name}: {what} (error {error:.2g}, at most {allowed:g})")
