"""The denoising loss: four weightings of one error, its expectation in closed form, and times drawn by strata."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

import ornstein as orn
from conftest import SCHEDULES, normal
from ornstein.diffusion.loss import DENSITIES, WEIGHTINGS, Density, draw_times

F64 = torch.float64
any_schedule = st.sampled_from(sorted(SCHEDULES)).map(SCHEDULES.get)
some_times = st.lists(st.floats(1e-3, 1), min_size=4, max_size=4).map(lambda t: torch.tensor(t, dtype=F64))
POWER = torch.tensor([0.3, 1.7], dtype=F64)


class Guess(orn.Denoiser):
    """A denoiser that is wrong in a way of its own: x-hat = a fixed function of z, shifted by the condition."""

    def forward(self, z, t, condition=None):
        shift = 0.0 if condition is None else torch.as_tensor(condition).reshape(-1, 1)
        return orn.Estimate.from_v(torch.sin(z) - 0.3 * z + shift, z, self.level(z, t))


@given(any_schedule, some_times, st.floats(0.1, 4))
def test_the_four_weightings_are_four_squared_errors(schedule, t, std):
    """eps, x, v, and the network's own v' of data scaled to unit variance, each computed from its definition."""
    x, eps = normal(4, 3), normal(4, 3, seed=1)
    denoiser, level = Guess(schedule, (3,)), schedule.level(t).fit(x)
    estimate = denoiser(level.signal * x + level.noise * eps, t)
    angle = torch.atan2(level.noise, level.signal)
    inner = torch.atan2(level.noise, level.signal * std)  # of z = (signal std) x' + noise eps
    errors = {
        "eps": eps - estimate.eps, "x": x - estimate.x,
        "v": (angle.cos() * eps - angle.sin() * x) - (angle.cos() * estimate.eps - angle.sin() * estimate.x),
        "unit": (inner.cos() * eps - inner.sin() * x / std)
        - (inner.cos() * estimate.eps - inner.sin() * estimate.x / std),
    }
    assert set(errors) == set(WEIGHTINGS)
    for name, error in errors.items():
        loss = orn.denoising_loss(denoiser, x, t, eps, weighting=name, data_std=std)
        assert_close(loss, (error**2).mean(1), rtol=1e-8, atol=1e-12)


def test_the_loss_of_the_unit_weighting_takes_a_scale_for_each_value():
    """With a data_std of one entry a value the error is that of x' = x / data_std, value by value."""
    std, t, schedule = torch.tensor([0.5, 2.0, 1.0], dtype=F64), torch.tensor([0.1, 0.5, 0.9], dtype=F64), orn.Cosine()
    x, eps = normal(3, 3), normal(3, 3, seed=1)
    denoiser, level = Guess(schedule, (3,)), schedule.level(t).fit(x)
    estimate = denoiser(level.signal * x + level.noise * eps, t)
    inner = torch.atan2(level.noise, level.signal * std)
    error = inner.cos() * (eps - estimate.eps) - inner.sin() * (x - estimate.x) / std
    assert_close(orn.denoising_loss(denoiser, x, t, eps, data_std=std), (error**2).mean(1), rtol=1e-10, atol=0)


@pytest.mark.parametrize("weighting", WEIGHTINGS)
@pytest.mark.parametrize("name", ["chain-linear", "cosine", "linear", "exploding", "own"])
def test_the_least_loss_of_gaussian_data_is_the_posterior_variance(name, weighting):
    """E |x - x-hat|^2 = p noise^2 / (signal^2 p + noise^2) a direction; the error is normal, so draws say how sure.

    4,000 pairs at each of 5 times, within 5 standard errors; false alarm 3e-6 each.
    """
    schedule, n, std = SCHEDULES[name], 4000, 0.7
    denoiser = orn.ExactGaussian(torch.tensor([1.0, -2.0]), POWER, schedule)
    for t in (0.05, 0.3, 0.6, 0.9, 1.0):
        c, s = (float(entry / schedule.level(t).radius) for entry in schedule.level(t))
        least = POWER * s**2 / (c**2 * POWER + s**2)  # of x
        r = math.hypot(c * std, s)  # the error of eps is -c / s that of x, and v' = (c std / r) eps - (s / r) x / std
        factor = {"x": 1, "eps": (c / s) ** 2, "v": s**-2, "unit": (c * std / r * c / s + s / r / std) ** 2}[weighting]
        x, eps = denoiser.draw(n, seed=1), normal(n, 2, seed=2)
        loss = orn.denoising_loss(denoiser, x, torch.full((n,), t, dtype=F64), eps, weighting=weighting, data_std=std)
        assert abs(float(loss.mean() - factor * least.mean())) <= 5 * float(loss.std()) / math.sqrt(n)


def test_no_denoiser_beats_the_exact_one():
    """Pythagoras: loss(any) = loss(exact) + E |difference|^2, so a perturbed exact denoiser is worse by its square."""
    schedule, n = orn.Cosine(), 20_000
    exact = orn.ExactGaussian(torch.zeros(2), POWER, schedule)

    class Off(orn.Denoiser):
        def forward(self, z, t, condition=None):
            estimate = exact(z, t, condition)
            return orn.Estimate(z, estimate.level, estimate.v + 0.5)

    x, eps, t = exact.draw(n), normal(n, 2, seed=2), torch.full((n,), 0.5, dtype=F64)
    extra = (orn.denoising_loss(Off(schedule, (2,)), x, t, eps, weighting="v")
             - orn.denoising_loss(exact, x, t, eps, weighting="v"))
    assert abs(float(extra.mean()) - 0.25) < 5 * float(extra.std()) / math.sqrt(n)  # false alarm 6e-7


def test_the_condition_reaches_the_denoiser():
    schedule, x, eps, t = orn.Cosine(), normal(3, 2), normal(3, 2, seed=1), torch.tensor([0.2, 0.5, 0.8], dtype=F64)
    told = orn.denoising_loss(Guess(schedule, (2,)), x, t, eps, torch.tensor([0, 1, 2]), "v")
    for row, k in enumerate((0, 1, 2)):
        alone = orn.denoising_loss(Guess(schedule, (2,)), x, t, eps, k, "v")
        assert_close(told[row], alone[row], rtol=1e-12, atol=0)
    assert (told[1:] != orn.denoising_loss(Guess(schedule, (2,)), x, t, eps, weighting="v")[1:]).all()


def test_arguments_that_do_not_fit_are_refused():
    denoiser, x, t = Guess(orn.Cosine(), (2,)), normal(3, 2), torch.tensor([0.2, 0.5, 0.8], dtype=F64)
    for ask, message in (
        (lambda: orn.denoising_loss(denoiser, x, t, x, weighting="vv"), "weighting 'vv' is unknown"),
        (lambda: orn.denoising_loss(denoiser, x, t, x[:2]), "eps has shape"),
        (lambda: orn.denoising_loss(denoiser, x, t[:2], x), "time or level"),
        (lambda: orn.denoising_loss(denoiser, x, t + 1, x), "t is"),
        (lambda: orn.denoising_loss(denoiser, normal(3, 4), t, normal(3, 4)), "z has shape"),
        (lambda: draw_times(3, 0, 0, "stratifed"), "did you mean 'stratified'"),
        (lambda: Density(orn.Cosine(), "snr"), "did you mean 'log_snr'"),
    ):
        with pytest.raises(ValueError, match=message):
            ask()


@given(st.integers(1, 300), st.integers(0, 2**64 - 1), st.integers(0, 10**9))
def test_stratified_times_have_one_in_every_stratum(rows, seed, step):
    places = draw_times(rows, seed, step)
    assert ((places >= 0) & (places < 1)).all()
    assert (places.sort().values * rows).floor().tolist() == list(range(rows))


def test_stratified_and_uniform_times_have_one_expectation():
    """Each row alone is uniform either way (so every average over times has the same mean); false alarm 2e-6 each."""
    n = 4000
    for how in ("stratified", "uniform"):
        places = torch.stack([draw_times(8, 1, step, how) for step in range(n)])
        for power in (1, 2, 3):
            spread = math.sqrt(1 / (2 * power + 1) - 1 / (power + 1) ** 2)
            assert ((places**power).mean(0) - 1 / (power + 1)).abs().max() < 5.2 * spread / math.sqrt(n)


def test_stratified_times_vary_less():
    """The variance of a batch mean of t is 1 / (12 n) uniform and 1 / (12 n^3) stratified: 64 times less at n = 8."""
    means = {how: torch.stack([draw_times(8, 1, step, how).mean() for step in range(2000)])
             for how in ("stratified", "uniform")}
    assert float(means["uniform"].var()) == pytest.approx(1 / (12 * 8), rel=0.2)
    assert float(means["stratified"].var()) == pytest.approx(1 / (12 * 8**3), rel=0.2)


@pytest.mark.parametrize("how", DENSITIES)
def test_times_have_the_density_that_they_are_named_after(schedule, how):
    """Equal parts of [0, 1) are equal parts of time, of angle, or of a logistic log SNR of scale 2, cut at 12;
    or two thirds of angle and a third of log SNR from 10 to -6, or to where the schedule ends."""
    place = torch.linspace(0.002, 0.998, 500, dtype=F64)
    t = Density(schedule, how)(place)
    assert (t.diff() >= 0).all()
    if how == "time":
        assert_close(t, place, rtol=0, atol=1e-12)
    elif how == "angle":
        assert_close(schedule.level(t).angle, place * schedule.level(1.0).angle, rtol=0, atol=2e-3)
    elif how == "mixed":
        level = schedule.level(t)
        low = max(-6.0, float(schedule.log_snr(1.0)))
        even = ((10 - 2 * torch.log(level.signal / level.noise)) / (10 - low)).clamp(0, 1)
        assert_close((2 * level.angle / schedule.level(1.0).angle + even) / 3, place, rtol=0, atol=2e-3)
    else:
        free = (t < 1) & (t > 0)
        expected = (-2 * torch.logit(place)).clamp(-12, 12)
        inside = free & (expected > float(schedule.log_snr(1.0)) + 0.1)
        np.testing.assert_allclose(schedule.log_snr(t)[inside], expected[inside], atol=2e-2)
        assert inside.sum() > 100
