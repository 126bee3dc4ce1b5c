"""The bound is below log p, by amounts that are known in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

import ornstein as orn
from oracles import Shifted, Viewed, error_of, mixture, snr
from ornstein.diffusion.level import as_time
from ornstein.diffusion.likelihood.levels import bin_log_prob

SCHEDULES = {"cosine": orn.Cosine(), "linear": orn.Linear(), "chain": orn.Chain.linear(), "exploding": orn.Exploding()}
SIGMAS = 4.5  # of a mean of thousands: one false alarm in 150,000 at each place


@pytest.mark.parametrize(("name", "dim"), [
    *(pytest.param(name, dim, marks=[pytest.mark.slow] * (dim == 64 and name != "chain"))
      for name in SCHEDULES for dim in (1, 64)), ("cosine", 2), ("chain", 8)])
def test_the_bound_is_below_log_p_and_its_gap_falls_as_one_over_steps(name, dim):
    model = mixture(SCHEDULES[name], dim)
    x = model.draw(600)
    true, gaps = model.log_prob(x), []
    for steps in (8, 32, 64):
        bound = orn.elbo(model, x, orn.bound_times(model.schedule, steps))
        gap = true - bound.log_prob
        assert gap.mean() > -SIGMAS * error_of(gap), steps
        # At log SNR 12 a component of deviation 0.2 is known to 1e-4: the reconstruction gap is nothing beside this.
        gaps.append((float((gap - bound.prior).mean()), error_of(gap)))
    (_, _), (at_32, error_32), (at_64, error_64) = gaps
    # A gap c / T + d / T^2 with d > 0 halves or more; by how much less than 2.6 the errors decide.
    slack = SIGMAS * math.hypot(error_32, 2.4 * error_64)
    assert 1.9 * at_64 - slack < at_32 < 2.6 * at_64 + slack


def test_on_an_even_grid_of_times_the_gap_does_not_vanish_but_any_grid_stays_below():
    model = mixture(orn.Cosine(), 2)
    x = model.draw(1500)
    for times in (np.linspace(0, 1, 17), np.linspace(0, 1, 65), np.linspace(0, 0.9, 30), np.linspace(0, 1, 12) ** 2):
        gap = model.log_prob(x) - orn.elbo(model, x, times).log_prob
        assert gap.mean() > SIGMAS * error_of(gap)


def test_the_terms_of_a_gaussian_are_those_of_the_closed_form():
    """E |x - x-hat|^2 = D p noise^2 / (signal^2 p + noise^2), so every term of the bound is known."""
    schedule, variance, size = orn.Chain.linear(), 0.3, 3
    model = orn.ExactGaussian(torch.full((size,), 0.4), torch.full((size,), variance), schedule)
    x, times = model.draw(6000), torch.linspace(0, 1, 13, dtype=torch.float64)
    bound = orn.elbo(model, x, times)
    level = schedule.level(times[1:])
    left = size * variance * level.noise**2 / (level.signal**2 * variance + level.noise**2)
    wanted = 0.5 * (snr(schedule, times[1:-1]) - snr(schedule, times[2:])) * left[1:]
    for step, value in zip(bound.steps.T, wanted, strict=True):
        assert abs(float(step.mean() - value)) < SIGMAS * error_of(step)
    ratio = (level.noise[0] / level.signal[0]) ** 2
    first = -0.5 * (left[0] / ratio + size * torch.log(2 * math.pi * ratio))
    assert abs(float(bound.reconstruction.mean() - first)) < SIGMAS * error_of(bound.reconstruction)
    signal, spread = level.signal[-1], level.noise[-1] ** 2
    prior = 0.5 * (signal**2 * x.square().sum(1) + size * (spread - 1 - spread.log()))
    assert torch.allclose(bound.prior, prior, atol=1e-12)
    assert torch.equal(bound.diffusion, bound.steps.sum(1))
    assert torch.equal(bound.log_prob, bound.reconstruction - bound.prior - bound.diffusion)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_step_of_a_denoiser_that_knows_nothing_is_exact(name):
    """x-hat = 0 always: the divergence is (SNR_s - SNR_t) |x|^2 / 2 to rounding, whatever the noise was."""

    class Blind(orn.Denoiser):
        def forward(self, z, t, condition=None):
            return orn.Estimate.from_x(torch.zeros_like(z), z, self.level(z, t))

    schedule = SCHEDULES[name]
    x, times = mixture(schedule, 4).draw(8), torch.linspace(0, 0.95, 20, dtype=torch.float64)
    found = orn.elbo(Blind(schedule, (4,)), x, times, draws=2)
    ratios = snr(schedule, times[1:])
    wanted = 0.5 * (ratios[:-1] - ratios[1:]) * x.square().sum(1, keepdim=True)
    assert torch.allclose(found.steps, wanted, rtol=1e-6)


@pytest.mark.parametrize("shift", [pytest.param(0.05, marks=pytest.mark.slow), 0.3])
def test_a_wrong_denoiser_costs_what_theory_gives(shift):
    """x-hat off by d adds (SNR_s - SNR_t) |d|^2 / 2 a step on average, for E[x - x-hat | z] = 0."""
    model = mixture(orn.Cosine(), 8)
    x, times = model.draw(1500), orn.bound_times(orn.Cosine(), 40)
    right, wrong = (orn.elbo(one, x, times) for one in (model, Shifted(model, shift)))
    noise = model.schedule.level(times[2:]).noise  # x-hat moves by noise * shift at each step's noisier end
    steps = 0.5 * (snr(model.schedule, times[1:-1]) - snr(model.schedule, times[2:])) * 8 * (noise * shift) ** 2
    for k, value in enumerate(steps):
        more = wrong.steps[:, k] - right.steps[:, k]
        assert abs(float(more.mean() - value)) < SIGMAS * error_of(more) + 1e-12
    worse = right.diffusion - wrong.diffusion
    assert abs(float(worse.mean() + steps.sum())) < SIGMAS * error_of(worse)


@pytest.mark.parametrize("dim", [1, 2, 8, 64])
@pytest.mark.parametrize("proposal", ["uniform", "importance"])
def test_in_continuous_time_nothing_is_lost_with_an_exact_denoiser(dim, proposal):
    model = mixture(orn.Cosine(), dim)
    x = model.draw(2500)
    gap = model.log_prob(x) - orn.continuous_elbo(model, x, proposal=proposal, draws=8).log_prob
    assert abs(float(gap.mean())) < SIGMAS * error_of(gap) + 0.01 * dim  # what log SNR beyond +-12 holds


def test_importance_sampling_lessens_the_variance():
    model = mixture(orn.Cosine(), 64)
    x = model.draw(800)
    even, chosen = (orn.continuous_elbo(model, x, proposal=name, draws=8).diffusion.var()
                    for name in ("uniform", "importance"))
    assert chosen < even / 3


def test_a_wrong_denoiser_in_continuous_time():
    """eps-hat off by signal * shift adds the integral of D shift^2 signal^2 / 2 over log SNR: Shifted moves v alone."""
    model, shift = mixture(orn.Cosine(), 8), 0.2
    x = model.draw(2500)
    right, wrong = (orn.continuous_elbo(one, x, proposal="uniform", draws=8) for one in (model, Shifted(model, shift)))
    log_snr = torch.linspace(-12, 12, 4001, dtype=torch.float64)
    more = torch.trapezoid(0.5 * 8 * shift**2 * torch.sigmoid(log_snr), log_snr)
    differ = wrong.diffusion - right.diffusion
    assert abs(float(differ.mean() - more)) < SIGMAS * error_of(differ)


@pytest.mark.parametrize("steps", [1, 3, 10])
def test_with_optimal_variances_a_gaussian_loses_nothing_in_few_steps(steps):
    """q(z_s | z_t) is Gaussian then, and the decoder that matches its moments is exact (Bao et al. 2022)."""
    schedule = orn.Cosine()
    model = orn.ExactGaussian(torch.zeros(4), torch.full((4,), 0.3), schedule)
    times = torch.linspace(0, 1, steps + 2, dtype=torch.float64)
    level_s, level_t = schedule.level(times[:-1]), schedule.level(times[1:])
    keep = level_t.signal / level_s.signal
    added = level_t.noise**2 - keep**2 * level_s.noise**2
    left = 0.3 * level_t.noise**2 / (0.3 * level_t.signal**2 + level_t.noise**2)
    closed = level_s.noise**2 * added / level_t.noise**2 + (added * level_s.signal / level_t.noise**2) ** 2 * left
    fitted = orn.optimal_variance(model, model.draw(4000, seed=1), times)
    assert torch.allclose(fitted, closed, rtol=0.06)  # 16,000 squares: deviation 1.1 %
    x = model.draw(4000)
    gap = model.log_prob(x) - orn.elbo(model, x, times, variance=closed).log_prob
    assert abs(float(gap.mean())) < SIGMAS * error_of(gap)
    worse = model.log_prob(x) - orn.elbo(model, x, times).log_prob
    assert worse.mean() > 10 * abs(float(gap.mean()))


def test_optimal_variances_by_value():
    variance = torch.tensor([0.05, 0.5, 1.5])
    model = orn.ExactGaussian(torch.zeros(3), variance, orn.Cosine())
    times = torch.linspace(0, 1, 4, dtype=torch.float64)
    own = orn.optimal_variance(model, model.draw(3000, seed=1), times, per_value=True)
    x = model.draw(3000)
    gap = model.log_prob(x) - orn.elbo(model, x, times, variance=own).log_prob
    assert abs(float(gap.mean())) < SIGMAS * error_of(gap) + 0.01  # 3,000 rows say a variance to 2.6 %
    one = orn.elbo(model, x, times, variance=orn.optimal_variance(model, x, times)).log_prob
    assert (model.log_prob(x) - one).mean() > gap.mean()


def test_a_sample_may_be_a_single_number():
    flat = mixture(orn.Cosine(), 1)
    model, x = Viewed(flat, ()), flat.draw(12)
    for bound in (orn.elbo, orn.continuous_elbo):
        assert torch.allclose(bound(model, x[:, 0]).log_prob, bound(flat, x).log_prob, rtol=1e-10)
    assert torch.allclose(orn.ode_log_prob(model, x[:, 0]), flat.log_prob(x), atol=1e-4)
    assert torch.allclose(orn.level_losses(model, x[:, 0], [0.0]), orn.level_losses(flat, x, [0.0]))
    assert torch.allclose(orn.implicit_score_loss(model, x[:, 0], 0.5), orn.implicit_score_loss(flat, x, 0.5))
    values = torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)
    assert orn.elbo(model, values, levels=3).bits_per_dim.isfinite().all()


def test_a_sample_of_any_shape_has_the_bound_of_its_values():
    flat, times = mixture(orn.Cosine(), 8), orn.bound_times(orn.Cosine(), 8)
    x = flat.draw(16)
    wanted = orn.elbo(flat, x, times).log_prob, orn.continuous_elbo(flat, x).log_prob
    for shape in ((2, 4), (2, 2, 2), (1, 2, 2, 2)):
        model, rows = Viewed(flat, shape), x.reshape(16, *shape)
        found = orn.elbo(model, rows, times).log_prob, orn.continuous_elbo(model, rows).log_prob
        assert all(torch.allclose(*pair, rtol=1e-10) for pair in zip(found, wanted, strict=True))


@given(mean=st.floats(-1.5, 1.5), std=st.floats(1e-4, 30), levels=st.sampled_from([2, 3, 17, 256]))
def test_the_bins_of_all_levels_share_out_one(mean, std, levels):
    x = torch.linspace(-1, 1, levels, dtype=torch.float64)
    mass = bin_log_prob(x, torch.full_like(x, mean), torch.tensor(std, dtype=torch.float64), levels)
    assert mass.isfinite().all()
    assert float(mass.exp().sum()) == pytest.approx(1, abs=1e-9)


def test_a_bin_is_the_difference_of_two_normal_tails():
    for x, mean, std in ((0.0, 0.03, 0.1), (0.125, -0.5, 0.2), (-0.25, 0.4, 0.05)):
        half = 1 / 16
        wanted = norm.cdf(x + half, mean, std) - norm.cdf(x - half, mean, std)
        found = bin_log_prob(*(torch.tensor(value, dtype=torch.float64) for value in (x, mean, std)), 17)
        assert float(found) == pytest.approx(math.log(wanted), rel=1e-9)
    far = bin_log_prob(torch.tensor(0.5, dtype=torch.float64), torch.tensor(-1.0), torch.tensor(1e-3), 17)
    assert float(far) == pytest.approx(-0.5 * ((1.5 - 1 / 16) / 1e-3) ** 2, rel=1e-3)


def test_data_on_levels_have_a_probability_that_the_bound_comes_down_to():
    """The data set is the law: P(x) is how often x is in it."""
    points = torch.tensor([[-1.0, 0.5]] * 5 + [[0.5, 0.5]] * 2 + [[1.0, -1.0]], dtype=torch.float64)
    model = orn.ExactDataset(points, orn.Cosine())
    x = points.repeat(60, 1)
    true = torch.tensor([5 / 8] * 5 + [2 / 8] * 2 + [1 / 8], dtype=torch.float64).log().repeat(60)
    gaps = []
    for steps in (16, 64, 256):
        # To a log SNR of 8, where half a bin is 13 deviations of the noise.
        bound = orn.elbo(model, x, orn.bound_times(orn.Cosine(), steps, log_snr=(-12, 8)), levels=5)
        gap = true - bound.log_prob
        assert gap.mean() > -SIGMAS * error_of(gap)
        gaps.append(float(gap.mean()))
        assert torch.allclose(bound.bits_per_dim, -bound.log_prob / (2 * math.log(2)))
    assert gaps[0] > 2 * gaps[1] > 4 * gaps[2]
    assert gaps[2] < 0.1
    # By default the noise of the first level is 2 / 3 of half a bin: what it scatters into other bins is known.
    at_end, inside = -norm.logcdf(1.5), -math.log(1 - 2 * norm.sf(1.5))
    lost = torch.tensor([at_end + inside] * 5 + [2 * inside] * 2 + [2 * at_end])
    still = true - orn.continuous_elbo(model, x, levels=5).log_prob
    assert abs(float(still.mean() - lost.mean())) < SIGMAS * error_of(still)


def test_the_same_seed_gives_the_same_bound_and_a_row_does_not_depend_on_later_rows():
    model, times = mixture(orn.Cosine(), 4), orn.bound_times(orn.Cosine(), 8)
    x = model.draw(40)
    once = orn.elbo(model, x, times, draws=2, seed=3)
    assert torch.equal(once.log_prob, orn.elbo(model, x, times, draws=2, seed=3).log_prob)
    assert torch.allclose(once.log_prob[:7], orn.elbo(model, x[:7], times, draws=2, seed=3).log_prob, rtol=1e-12)
    assert not torch.equal(once.log_prob, orn.elbo(model, x, times, draws=2, seed=4).log_prob)


def test_conditions_choose_the_law():
    model = mixture(orn.Cosine(), 2, components=3)
    x = model.draw(1500)
    for k in range(3):
        gap = model.log_prob(x, k) - orn.continuous_elbo(model, x, condition=k).log_prob
        assert abs(float(gap.mean())) < SIGMAS * error_of(gap) + 0.02 * abs(float(model.log_prob(x, k).mean()))


def test_dequantised_data_fill_their_bins_evenly():
    x = torch.linspace(-1, 1, 17).repeat(400, 1)
    spread = (orn.dequantise(x, 17) - x) * 16
    assert spread.abs().max() <= 1 + 1e-5
    # Moments of 6,800 uniform numbers, five deviations.
    assert abs(float(spread.mean())) < 5 * 0.577 / 6800**0.5
    assert abs(float(spread.var()) - 1 / 3) < 5 * 0.298 / 6800**0.5
    assert torch.equal(orn.dequantise(x, 17, seed=2)[:5], orn.dequantise(x[:5], 17, seed=2))


def test_a_grid_is_named():
    chain = orn.Chain.linear()
    model = mixture(chain, 1)
    assert orn.elbo(model, model.draw(2)).grid == "128 steps even in log SNR, log SNR 12 to -10.1"
    assert orn.elbo(model, model.draw(2), np.linspace(0, 1, 101)).grid.startswith("99 steps even in time")


MODEL, X = mixture(orn.Cosine(), 2), torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: orn.elbo(MODEL, X, [0.1, 1]), "times is .*must increase strictly from 0"),
    (lambda: orn.elbo(MODEL, X, [0, 0.5, 0.5, 1]), "must increase strictly"),
    (lambda: orn.elbo(MODEL, X, [0, 1.5]), "at most 1"),
    (lambda: orn.elbo(MODEL, X, [0, 1]), r"times\[1\] is 1.0, where the signal is 0"),
    (lambda: orn.elbo(MODEL, X[:, :1]), r"x has shape \(2, 1\); it must be \(B, 2\)"),
    (lambda: orn.elbo(MODEL, X[:0]), "B >= 1"),
    (lambda: orn.elbo(MODEL, X * math.nan), "4 values that are not finite"),
    (lambda: orn.elbo(MODEL, X, draws=0), "draws is 0; it must be a whole number, at least 1"),
    (lambda: orn.elbo(MODEL, X, draws=math.nan), "draws is nan"),
    (lambda: orn.elbo(MODEL, X, draws="2"), "draws is '2'"),
    (lambda: orn.elbo(MODEL, X, [0, 1e-320, 1]), "float64 holds no noise"),
    (lambda: orn.elbo(MODEL, X, variance=torch.tensor(0.1)), r"variance has shape \(\)"),
    (lambda: orn.optimal_variance(MODEL, X, [0, 0.5, 1], draws=0), "draws is 0"),
    (lambda: orn.continuous_elbo(MODEL, X, log_snr=(-12, math.inf)), "must be finite"),
    (lambda: orn.bound_times(orn.Chain.linear(), 4, log_snr=(-10.5, 5)), "the schedule ends at -10.1"),
    (lambda: orn.elbo(MODEL, X, levels=17), "between the 17 levels"),
    (lambda: orn.elbo(MODEL, X, levels=1), "levels is 1"),
    (lambda: orn.elbo(MODEL, X, variance="postrior"), "did you mean 'posterior'"),
    (lambda: orn.elbo(MODEL, X, variance=torch.ones(3)), r"variance has shape \(3,\); it must be \(129,\)"),
    (lambda: orn.elbo(MODEL, X).bits_per_dim, "levels is None"),
    (lambda: orn.continuous_elbo(MODEL, X, proposal="even"), "proposal 'even' is unknown"),
    (lambda: orn.continuous_elbo(mixture(orn.Chain.linear(), 2), X, log_snr=(-20, 5)), "the schedule ends at -10.1"),
    (lambda: orn.bound_times(orn.Cosine(), 0), "steps is 0"),
    (lambda: orn.bound_times(orn.Cosine(), 4, log_snr=(3, 2)), "must be finite and increasing"),
    (lambda: orn.dequantise(X, 17), "nothing to dequantise"),
])
def test_what_no_bound_can_be_taken_of_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_array_is_no_tensor():
    with pytest.raises(TypeError, match="x is a ndarray; it must be a tensor"):
        orn.elbo(MODEL, X.numpy())


def test_the_prior_is_that_of_the_schedule():
    """For an exploding schedule N(0, (1 + sigma_max^2) I); data with the matching moments lose almost nothing."""
    schedule = orn.Exploding(sigma_max=5.0)
    model = orn.ExactGaussian(torch.zeros(2), torch.ones(2), schedule)
    x = model.draw(4000)
    bound = orn.elbo(model, x, orn.bound_times(schedule, 8))
    noise = float(schedule.level(as_time(1.0)).noise)
    ratio = noise**2 / (1 + noise**2)
    wanted = 0.5 * (x.square().sum(1) / (1 + noise**2) + 2 * (ratio - 1 - math.log(ratio)))
    assert torch.allclose(bound.prior, wanted, atol=1e-12)
