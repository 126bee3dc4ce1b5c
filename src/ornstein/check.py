"""Checks of the installation, or of a user's own schedule or sampler, against closed forms."""

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

LOW_LOG_SNR, HIGH_LOG_SNR = -40.0, 7.0  # between which the order of rules on a log-SNR grid is measured


@dataclass(frozen=True)
class Result:
    """The outcome of one check, and a line with what was measured and what is allowed."""

    holds: bool
    line: str


def certify(name: str | None = None) -> Iterator[Result]:
    """Check the installation, or the class that path.py:Class names."""
    if name is None:
        for schedule in (Chain.linear(), Cosine(), Linear(), Exploding()):
            yield from certify_schedule(schedule)
        for sampler, rule in SAMPLERS.items():
            yield from certify_rule(rule, sampler)
        return
    instance = load_class(name)()
    yield from certify_rule(instance, name) if isinstance(instance, Rule) else certify_schedule(instance)


def certify_schedule(schedule: Schedule) -> Iterator[Result]:
    """Check a schedule: ends, monotonicity, composition of steps, Bayes' rule, and the score of an exact denoiser."""
    name = type(schedule).__name__
    start, end = schedule.level(as_time(0.0)), schedule.level(as_time(1.0))
    error = max(abs(float(start.signal) - 1), float(start.noise))
    yield _check_error(name, "at t = 0 a latent is the data", error, 1e-12)
    t = torch.linspace(0, 1, 1001, dtype=torch.float64)
    decrease = -schedule.log_snr(t)[1:-1].diff()
    yield Result(bool((decrease > 0).all()),
                 f"{name}: log SNR decreases strictly (smallest decrease {float(decrease.min()):.2g})")
    s, r, t = 0.2, 0.5, 0.9
    (_, _, keep, added), (_, _, keep1, added1), (_, _, keep2, added2) = (
        transition(schedule, *pair) for pair in ((s, t), (s, r), (r, t)))
    yield _check_error(name, "two steps are one", max(
        abs(float(keep1 * keep2 - keep)), abs(float(keep2**2 * added1 + added2 - added)) / float(added)), 1e-10)
    x, z = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
    encoder = Encoder(schedule)
    law, prior = encoder.posterior(x, z, s, t), encoder.kernel(x, s)
    # Bayes' rule for Gaussians: precisions add.
    precision = 1 / prior.variance + keep**2 / added
    mean = (prior.mean / prior.variance + keep * z / added) / precision
    yield _check_error(name, "the posterior is Bayes' rule", max(
        float((law.mean - mean).abs()), float((law.variance * precision - 1).abs())), 1e-9)
    error = abs(float(schedule.time(schedule.log_snr(0.37))) - 0.37)
    yield _check_error(name, "time and log SNR are inverse", error, 1e-9)
    mixture = _mixture(schedule)
    z = draw(encoder.kernel(mixture.draw(16), 0.6), noise.normal(0, "exact", 9, 0, (16, 2))).requires_grad_()
    gradient, = torch.autograd.grad(mixture.log_prob_at(z, 0.6).sum(), z)
    error = float((mixture(z.detach(), 0.6).score - gradient).abs().max() / gradient.abs().max())
    yield _check_error(name, "the score is the gradient of the log density", error, 1e-8)
    yield Result(bool(end.signal / end.radius < 0.2),
                 f"{name}: little of the data is left at t = 1 (share of signal {float(end.signal / end.radius):.2g}, "
                 "at most 0.2)")


def certify_rule(rule: Rule, name: str) -> Iterator[Result]:
    """Check a rule: that it is exact on a single point, and its order or, if it is stochastic, its variance."""
    point = ExactGaussian(torch.tensor([0.3, -0.8]), torch.zeros(2), Cosine())
    error = float((sample(point, 8, sampler=rule, steps=3) - point.mean).abs().max())
    yield _check_error(name, "data that are a single point are sampled exactly", error, 1e-9)
    if rule.stochastic:
        # Ten values of each variance in 400 samples are 4,000 draws of each.
        variance = torch.tensor([0.25, 1.0]).repeat(10)
        x = sample(ExactGaussian(torch.zeros(20), variance, Cosine()), 400, sampler=rule, steps=200)
        error = float((x.reshape(-1, 2).var(0) / variance[:2] - 1).abs().max())
        # The rule's own error is a few per cent, of order 1 / steps; the standard error of the draws is 2 %.
        yield _check_error(name, "a Gaussian keeps its variance over 200 steps", error, 0.2)
        return
    model, errors = _mixture(Cosine()), []
    z = noise.normal(0, "exact", 8, 0, (64, 2))
    # On other grids than angle, the first and the last step do not shrink with the others: the order is measured on
    # times even in log SNR, at the last time before clean data.
    end = 0.0 if rule.spacing == "angle" else float(model.schedule.time(HIGH_LOG_SNR))
    exact = _exact_flow(end)
    for steps in (96, 192):
        times = grid(model.schedule, steps) if not end else [
            1.0, *model.schedule.time(torch.linspace(LOW_LOG_SNR, HIGH_LOG_SNR, steps, dtype=torch.float64)).tolist(),
            0.0]
        frames = generate(model, z=z, sampler=rule, times=times)
        latent = next(frame.latent for frame in frames if frame.time == end)
        errors.append(float((latent - exact).square().mean().sqrt()))
    order = math.log2(errors[0] / errors[1])
    yield Result(order > rule.order - 0.45, f"{name}: order {order:.2f} on a mixture, stated {rule.order}, at least "
                                            f"{rule.order - 0.45:.2f}")


@functools.cache
def _exact_flow(end: float) -> Tensor:
    """The latents of `certify_rule` carried to a time by the exact flow."""
    model = _mixture(Cosine())

    def slope(y: Tensor, angle: Tensor, _: Tensor) -> Tensor:
        return model(y, model.schedule.time_at(angle)).v

    first, last = (model.schedule.level(as_time(time)).angle for time in (1.0, end))
    z = noise.normal(0, "exact", 8, 0, (64, 2))
    return integrate(slope, z, first, last, lambda y, _: torch.full_like(y, 1e-11), max_steps=20_000)[0]


def _mixture(schedule: Schedule) -> ExactMixture:
    return ExactMixture(torch.tensor([0.5, 0.3, 0.2]), torch.tensor([[-1.0, 0.2], [0.8, 0.9], [0.4, -1.0]]),
                        torch.tensor([0.2, 0.15, 0.25]), schedule)


def _check_error(name: str, statement: str, error: float, allowed: float) -> Result:
    return Result(error <= allowed, f"{name}: {statement} (error {error:.2g}, at most {allowed:g})")
