"""Certificates of every rule in the table: what random ones draw, every number of steps, and coarse arithmetic."""

from __future__ import annotations

import dataclasses
import functools
import math

import pytest
import torch
from scipy.stats import ks_2samp

import ornstein as orn
from conftest import SCHEDULES, normal
from oracles import mixture
from ornstein.diffusion.samplers.loop import SAMPLERS

RANDOM = [name for name, rule in SAMPLERS.items() if rule.stochastic]
EXACT = [name for name, rule in SAMPLERS.items() if not rule.stochastic]
COUNT, STEPS = 1000, 80  # samples and steps of a test of what is drawn
ANGLES = [0.0, math.pi / 4, math.pi / 2, 3 * math.pi / 4]  # of the lines that samples are looked at along
PATHS, START = {"cosine": orn.Cosine(), "chain": orn.Chain.linear()}, normal(64, 2, seed=3)
ALARM = 1e-4 / (len(RANDOM) * (len(ANGLES) + 5))  # each of all comparisons; one false alarm in 10,000 runs of the file


def least_p(x: torch.Tensor, denoiser: orn.ExactMixture) -> float:
    """The smallest p-value that x is a draw of the mixture: Kolmogorov and Smirnov along lines, and five moments."""
    real = denoiser.draw(4 * COUNT, seed=99)
    found = []
    for angle in ANGLES:
        line = torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)
        found.append(float(ks_2samp((x @ line).numpy(), (real @ line).numpy()).pvalue))
    mean = denoiser.weight @ denoiser.mean
    moments = []
    for part in (x, real):
        apart = part - mean
        moments.append(torch.cat([apart, apart**2, apart[:, :1] * apart[:, 1:]], 1))
    gap = moments[0].mean(0) - moments[1].mean(0)
    error = sum(moment.var(0) / len(moment) for moment in moments).sqrt()
    return min(*found, *torch.erfc(gap.abs() / error / math.sqrt(2)).tolist())


class Louder(orn.Rule):
    """A rule whose noise is too large by a factor."""

    def __init__(self, inner: orn.Rule, factor: float) -> None:
        self.inner, self.factor = inner, factor
        self.order, self.stochastic, self.calls = inner.order, True, inner.calls
        self.memory, self.spacing = inner.memory, inner.spacing

    def advance(self, step: orn.Step) -> torch.Tensor:
        return self.inner.advance(dataclasses.replace(step, noise=lambda: self.factor * step.noise()))


@pytest.mark.parametrize("sampler", RANDOM)
def test_a_random_rule_draws_the_data(sampler):
    """1,000 samples of 80 steps against 4,000 of the law itself, along four lines and in five moments.

    The bias of 80 steps is below what so many samples show. False alarm of all rules together: 1e-4.
    """
    denoiser = mixture(orn.Cosine(), 2)
    x = orn.sample(denoiser, COUNT, sampler=sampler, steps=STEPS, seed=5, batch=COUNT)
    assert least_p(x, denoiser) > ALARM


@pytest.mark.parametrize("sampler", ["ancestral", "edm", "sa"])
def test_the_same_test_finds_a_rule_whose_noise_is_too_large(sampler):
    """With noise larger by a half what is drawn is wrong, and the test above says so."""
    denoiser = mixture(orn.Cosine(), 2)
    x = orn.sample(denoiser, COUNT, sampler=Louder(SAMPLERS[sampler], 1.5), steps=STEPS, seed=5, batch=COUNT)
    assert least_p(x, denoiser) < ALARM


def ends(sampler: str, steps: int, schedule: orn.Schedule, z: torch.Tensor) -> torch.Tensor:
    return orn.sample(mixture(schedule, 2), sampler=sampler, steps=steps, z=z, batch=len(z))


def error(sampler: str, steps: int, schedule: orn.Schedule, z: torch.Tensor, truth: torch.Tensor) -> float:
    """Median over samples of each one's root mean square; below 1e-9 only rounding is compared."""
    x = ends(sampler, steps, schedule, z)
    return max(float((x - truth).square().mean(1).sqrt().median()), 1e-9)


@functools.cache
def finest(name: str, steps: int) -> torch.Tensor:
    """Where the flow leads, by a rule of order 4."""
    return ends("adams-moulton", steps, PATHS[name], START)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_samples_are_finite_and_soon_as_large_as_data(sampler):
    """1, 2 and 5 steps; from 5 on half of all values lie within 3, where those of data have deviation 1."""
    for schedule in SCHEDULES.values():
        z = schedule.level(1.0).radius * normal(32, 2)
        for steps in (1, 2, 5):
            x = ends(sampler, steps, schedule, z)
            assert x.isfinite().all()
            assert steps < 5 or float(x.abs().median()) < 3


@pytest.mark.parametrize("sampler", EXACT)
@pytest.mark.parametrize("name", PATHS)
def test_twice_the_steps_are_at_least_as_near(name, sampler):
    schedule, z, truth = PATHS[name], START, finest(name, 400)  # nearer by a thousand than any below
    errors = {steps: error(sampler, steps, schedule, z, truth) for steps in (16, 23, 32, 46)}
    for steps in (16, 23):
        assert errors[2 * steps] <= errors[steps]


@pytest.mark.slow
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_every_number_of_steps_to_200_and_1000(sampler):
    """All are finite; of rules without noise, twice the steps from 16 on are at least as near."""
    schedule, z = PATHS["cosine"], START
    counts = [*range(1, 201), 1000]
    if sampler in RANDOM:
        assert all(ends(sampler, steps, schedule, z).isfinite().all() for steps in counts)
        return
    truth = finest("cosine", 1500)
    errors = {steps: error(sampler, steps, schedule, z, truth) for steps in [*counts, 500]}
    assert all(map(math.isfinite, errors.values()))
    for steps in [*range(16, 101), 500]:
        assert errors[2 * steps] <= errors[steps]


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_bfloat16_follows_single_precision(sampler):
    """The same z and seed in bf16, which keeps 8 bits: the median difference is below 4 of its last places of 1."""
    z = normal(256, 2)
    denoiser = orn.ExactGaussian(torch.tensor([0.5, -1.0]), torch.tensor([0.3, 1.7]), orn.Cosine())
    single = orn.sample(denoiser, sampler=sampler, nfe=16, z=z.float())
    coarse = orn.sample(denoiser, sampler=sampler, nfe=16, z=z.bfloat16())
    assert coarse.dtype == torch.bfloat16
    assert float((coarse.float() - single).abs().median()) < 4 * 2**-7
