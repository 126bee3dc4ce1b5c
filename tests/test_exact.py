"""Closed-form denoisers, (20.11), (20.12): they agree with one another, their densities and brute force."""

from __future__ import annotations

import math
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch.distributions import Categorical, Independent, MixtureSameFamily, MultivariateNormal, Normal
from torch.testing import assert_close

import ornstein as orn
from conftest import SCHEDULES, normal

F64 = torch.float64
TIMES = (0.01, 0.3, 0.7, 0.99, 1.0)
MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
COVARIANCE = torch.tensor([[1.5, 0.4, -0.2], [0.4, 0.3, 0.1], [-0.2, 0.1, 0.6]], dtype=F64)
WEIGHT = torch.tensor([0.2, 0.5, 0.3], dtype=F64)
CENTRES = torch.tensor([[0.0, 1.0], [-1.0, -1.0], [2.0, 0.5]], dtype=F64)
SPREADS = torch.tensor([0.1, 0.4, 1.3], dtype=F64)


def gaussian(schedule=None):
    return orn.ExactGaussian(MEAN, COVARIANCE, schedule or orn.Cosine())


def mixture(schedule=None):
    return orn.ExactMixture(WEIGHT, CENTRES, SPREADS, schedule or orn.Cosine())


def points(schedule, count=5, labels=None):
    return orn.ExactDataset(normal(count, 2, seed=4), schedule, labels)


@pytest.fixture(scope="module")
def digits():
    bunch = load_digits()
    return torch.from_numpy(bunch.data) / 8 - 1, torch.from_numpy(bunch.target)


@pytest.mark.parametrize("build", [gaussian, mixture, points], ids=["gaussian", "mixture", "dataset"])
def test_the_score_is_the_gradient_of_the_log_density(schedule, build):
    """Tweedie: the score read from the estimate is d log q(z_t) / dz, by automatic differentiation."""
    denoiser = build(schedule)
    x, eps = normal(6, *denoiser.shape), normal(6, *denoiser.shape, seed=1)
    for t in TIMES:
        level = schedule.level(t)
        z = (level.signal * x + level.noise * eps).requires_grad_()
        gradient, = torch.autograd.grad(denoiser.log_prob_at(z, t).sum(), z)
        score = denoiser(z.detach(), t).score
        assert_close(score, gradient, rtol=1e-9, atol=1e-9 * float(gradient.abs().max()))


def test_the_estimate_of_gaussian_data_is_a_linear_regression(schedule):
    """E[x | z] = mean + signal C (signal^2 C + noise^2)^-1 (z - signal mean), by a plain matrix inverse."""
    for t in TIMES:
        level, z = schedule.level(t), normal(5, 3, seed=3)
        total = level.signal**2 * COVARIANCE + level.noise**2 * torch.eye(3, dtype=F64)
        gain = level.signal * COVARIANCE @ torch.linalg.inv(total)
        expected = MEAN + (z - level.signal * MEAN) @ gain.T
        assert_close(gaussian(schedule)(z, t).x, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("t", [0.3, 0.7, 0.99, 1.0])
def test_the_estimate_of_a_mixture_is_an_integral_over_its_density(t):
    """E[x | z] = integral of x q(z | x) p(x) / q(z) on a grid that resolves the narrowest of the three."""
    schedule, z = orn.Linear(), normal(3, 2, seed=3)
    level, side = schedule.level(t), torch.linspace(-9, 9, 451, dtype=F64)
    x = torch.cartesian_prod(side, side)
    log = mixture().log_prob(x)[:, None] + Independent(Normal(level.signal * x[:, None], level.noise), 1).log_prob(z)
    assert_close(mixture(schedule)(z, t).x, log.softmax(0).T @ x, rtol=0, atol=1e-8)


def test_a_mixture_of_one_component_is_a_gaussian(schedule):
    z = 3 * normal(6, 2)
    one = orn.ExactMixture(torch.tensor([2.0]), CENTRES[:1], SPREADS[:1], schedule)
    plain = orn.ExactGaussian(CENTRES[0], SPREADS[0].expand(2), schedule)
    for t in TIMES:
        assert_close(one(z, t).v, plain(z, t).v, rtol=1e-11, atol=1e-11)
        assert_close(one.log_prob_at(z, t), plain.log_prob_at(z, t), rtol=1e-11, atol=1e-11)


def test_diagonal_and_full_covariances_agree(schedule):
    variance, z = torch.tensor([0.0, 0.5, 2.0], dtype=F64), 3 * normal(6, 3)
    narrow, full = (orn.ExactGaussian(MEAN, v, schedule) for v in (variance, variance.diag()))
    for t in TIMES:
        assert_close(narrow(z, t).v, full(z, t).v, rtol=1e-11, atol=1e-11)
        assert_close(narrow.log_prob_at(z, t), full.log_prob_at(z, t), rtol=1e-11, atol=1e-11)


def test_a_gaussian_turned_is_the_gaussian_of_turned_data(schedule):
    """With Q orthogonal: denoising Q z under Q covariance Q^T is Q times denoising z."""
    turn, _ = torch.linalg.qr(normal(3, 3, seed=5))
    z = normal(6, 3)
    turned = orn.ExactGaussian(turn @ MEAN, turn @ COVARIANCE @ turn.T, schedule)
    for t in TIMES:
        assert_close(turned(z @ turn.T, t).v, gaussian(schedule)(z, t).v @ turn.T, rtol=1e-10, atol=1e-10)


def test_a_data_set_is_a_mixture_of_narrow_gaussians(schedule):
    data, z = points(schedule), normal(6, 2)
    narrow = orn.ExactMixture(torch.ones(5), data.points, torch.full((5,), 1e-13), schedule)
    for t in (0.3, 0.7, 1.0):
        assert_close(data(z, t).v, narrow(z, t).v, rtol=1e-8, atol=1e-8)
        assert_close(data.log_prob_at(z, t), narrow.log_prob_at(z, t), rtol=1e-8, atol=1e-8)


def test_log_densities_are_those_of_torch():
    x = 2 * normal(7, 3)
    assert_close(gaussian().log_prob(x), MultivariateNormal(MEAN, COVARIANCE).log_prob(x), rtol=1e-11, atol=1e-11)
    reference = MixtureSameFamily(Categorical(WEIGHT), Independent(Normal(CENTRES, SPREADS.sqrt()[:, None]), 1))
    assert_close(mixture().log_prob(x[:, :2]), reference.log_prob(x[:, :2]), rtol=1e-11, atol=1e-11)
    alone = Independent(Normal(CENTRES[2], SPREADS[2].sqrt()), 1)
    assert_close(mixture().log_prob(x[:, :2], 2), alone.log_prob(x[:, :2]), rtol=1e-11, atol=1e-11)


def test_densities_integrate_to_one(schedule):
    """Over a fine grid of one dimension, at every time (20.12)."""
    for t in (0.05, 0.5, 1.0):
        where, x = schedule.level(t), torch.tensor([[-1.0], [0.5], [2.0]], dtype=F64)
        reach = float(4 * where.signal + 12 * where.noise) + 12
        z = torch.linspace(-reach, reach, 100_001, dtype=F64)[:, None]
        for law in (orn.ExactGaussian(x[0], torch.tensor([0.3]), schedule), orn.ExactDataset(x, schedule),
                    orn.ExactMixture(torch.ones(3), x, torch.tensor([0.1, 0.2, 0.3]), schedule)):
            assert float(torch.trapezoid(law.log_prob_at(z, t).exp(), z[:, 0])) == pytest.approx(1, rel=1e-7)


@pytest.mark.parametrize("name", ["chain-linear", "linear", "exploding"])
def test_the_denoised_digits_are_a_softmax_over_the_digits(digits, name):
    """(20.11) for 1,797 pictures against a direct double sum, from low noise to t = 1."""
    x, _ = digits
    schedule = SCHEDULES[name]
    denoiser = orn.ExactDataset(x.reshape(-1, 1, 8, 8), schedule)
    for number, t in enumerate((1e-6, 1e-3, 0.05, 0.2, 0.5, 0.9, 1.0)):
        signal, sigma = (float(entry) for entry in schedule.level(t))
        z = signal * x[40:48] + sigma * normal(8, 64, seed=number)
        log = torch.stack([-((row - signal * x) ** 2).sum(1) / (2 * sigma**2) for row in z])
        mean = (log - log.amax(1, keepdim=True)).exp()
        mean = mean / mean.sum(1, keepdim=True) @ x
        assert_close(denoiser(z.reshape(8, 1, 8, 8), t).x.flatten(1), mean, rtol=0, atol=1e-10)


@pytest.mark.slow
def test_four_thousand_latents_of_digits_need_little_memory():
    """Blocks of pairwise distances: the peak grows by less than 500 MB (all at once would need 3.7 GB)."""
    code = """
import resource, torch, ornstein as orn
x = torch.rand(1797, 64, dtype=torch.float64)
denoiser, z = orn.ExactDataset(x, orn.Cosine(), torch.arange(len(x)) % 10), torch.randn(4000, 64)
denoiser(z[:10], 0.5)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
denoiser(z, 0.5, torch.arange(4000) % 10)
denoiser.log_prob_at(z, 0.5)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert float(done.stdout) < 500


@pytest.mark.parametrize("t", [0.0, 0.2, 0.9])
def test_a_condition_is_the_model_of_that_class_alone(schedule, t):
    """A label keeps its points, a component keeps itself with weight 1, -1 keeps all, and rows may differ."""
    labels, z = torch.tensor([0, 1, 1, 0, 2]), normal(4, 2)
    data, mix = points(schedule, labels=labels), mixture(schedule)
    every = torch.tensor([1, -1, 0, 2])
    for model, alone in (
        (data, lambda k: orn.ExactDataset(data.points[labels == k], schedule)),
        (mix, lambda k: orn.ExactMixture(torch.ones(1), CENTRES[k:k + 1], SPREADS[k:k + 1], schedule)),
    ):
        for row, k in enumerate(every.tolist()):
            expected = (model if k < 0 else alone(k))(z, t).v
            assert_close(model(z, t, k).v, expected, rtol=1e-12, atol=1e-12)
            assert_close(model(z, t, every).v[row], expected[row], rtol=1e-12, atol=1e-12)
            if t > 0:
                expected = (model if k < 0 else alone(k)).log_prob_at(z, t)
                assert_close(model.log_prob_at(z, t, k), expected, rtol=1e-12, atol=1e-12)


def test_a_component_of_no_weight_may_be_asked_for_by_name():
    """Its chance is 0 in the mixture, and it is still a Gaussian when it is the condition; never NaN."""
    mix, z = orn.ExactMixture(torch.tensor([1.0, 0.0]), CENTRES[:2], SPREADS[:2], orn.Cosine()), normal(4, 2)
    alone = [orn.ExactGaussian(CENTRES[k], SPREADS[k].expand(2), orn.Cosine()) for k in (0, 1)]
    assert_close(mix(z, 0.5).v, alone[0](z, 0.5).v, rtol=1e-12, atol=1e-12)
    assert_close(mix(z, 0.5, 1).v, alone[1](z, 0.5).v, rtol=1e-12, atol=1e-12)


def test_without_noise_a_data_set_answers_with_its_nearest_point(schedule):
    """At t = 0 the posterior is the nearest point; v = 0 there, so the estimate reads the latent itself."""
    data = points(schedule)
    z = data.points[[3, 0, 4]] + 1e-3
    estimate = data(z, 0.0)
    assert (estimate.v == 0).all()
    early = data(schedule.level(1e-9).signal * z, 1e-9)
    assert_close(early.x, data.points[[3, 0, 4]], rtol=0, atol=1e-9)


def test_without_noise_a_smooth_density_has_no_velocity(schedule):
    """At t = 0 E[eps | z] is 0 where the density is smooth, and x is z."""
    for model in (gaussian(schedule), mixture(schedule)):
        z = normal(4, *model.shape)
        estimate = model(z, 0.0)
        assert (estimate.v == 0).all()
        assert torch.equal(estimate.x, z)


def test_batches_of_times_are_answered_row_by_row(schedule):
    t = torch.tensor([0.0, 0.3, 0.8, 1.0], dtype=F64)
    for model in (gaussian(schedule), mixture(schedule), points(schedule)):
        z = normal(4, *model.shape)
        rows = torch.cat([model(z[i:i + 1], t[i]).v for i in range(4)])
        assert_close(model(z, t).v, rows, rtol=1e-12, atol=1e-12)


def test_single_precision_latents_get_the_rounding_of_the_exact_answer(schedule):
    """All work is in float64 whatever the latent, so only the latent and the answer are rounded."""
    for model in (gaussian(schedule), mixture(schedule), points(schedule)):
        for t in (0.001, 0.5, 1.0):
            z = (schedule.level(t).radius * normal(4, *model.shape)).float()
            assert torch.equal(model(z, t).v, model(z.double(), t).v.float())


def test_draws_have_the_moments_of_their_law():
    """Means and covariances of 40,000 draws within 5 standard errors; false alarm below 3e-5 in all."""
    n = 40_000
    mean = WEIGHT @ CENTRES
    covariance = (WEIGHT * SPREADS).sum() * torch.eye(2, dtype=F64) + (WEIGHT * (CENTRES - mean).T) @ (CENTRES - mean)
    for model, mu, cov in ((gaussian(), MEAN, COVARIANCE), (mixture(), mean, covariance)):
        x = model.draw(n, seed=2) - mu
        assert ((x.mean(0)).abs() < 5 * (cov.diag() / n).sqrt()).all()
        products = x[:, :, None] * x[:, None, :]
        assert ((products.mean(0) - cov).abs() < 5 * products.std(0) / math.sqrt(n)).all()
    data = points(orn.Cosine())
    drawn = data.draw(n, seed=2)
    counts = (drawn[:, None] == data.points).all(2).sum(0)
    assert counts.sum() == n
    assert ((counts / n - 0.2).abs() < 5 * math.sqrt(0.2 * 0.8 / n)).all()


def test_draws_are_a_function_of_their_seed():
    for model in (gaussian(), mixture(), points(orn.Cosine())):
        assert torch.equal(model.draw(5, seed=1), model.draw(5, seed=1))
        assert not torch.equal(model.draw(5, seed=1), model.draw(5, seed=2))


def test_data_of_one_point_are_denoised_to_it(schedule):
    """A Gaussian without variance and a data set of one point both answer with the point at every t > 0."""
    x, z = normal(1, 3, seed=6), normal(4, 3)
    for model in (orn.ExactGaussian(x[0], torch.zeros(3), schedule), orn.ExactDataset(x, schedule)):
        for t in TIMES:
            assert_close(model(z, t).x, x.expand(4, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("build", "message"), [
    (lambda c: orn.ExactGaussian(torch.zeros(3), torch.ones(2), c), "variance"),
    (lambda c: orn.ExactGaussian(torch.zeros(2, 2), torch.ones(2), c), "mean has shape"),
    (lambda c: orn.ExactGaussian(torch.zeros(2), torch.tensor([1.0, -0.1]), c), "variances must be >= 0"),
    (lambda c: orn.ExactGaussian(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.0, 1.0]]), c), "not symmetric"),
    (lambda c: orn.ExactGaussian(torch.zeros(2), torch.tensor([[1.0, 2.0], [2.0, 1.0]]), c), "variances must be >= 0"),
    (lambda c: orn.ExactGaussian(torch.zeros(1), torch.tensor([math.nan]), c), "variance"),
    (lambda c: orn.ExactMixture(torch.ones(2), torch.zeros(3, 2), torch.ones(3), c), "weight, mean and variance"),
    (lambda c: orn.ExactMixture(torch.tensor([1.0, -1]), torch.zeros(2, 2), torch.ones(2), c), "weight"),
    (lambda c: orn.ExactMixture(torch.zeros(2), torch.zeros(2, 2), torch.ones(2), c), "weight"),
    (lambda c: orn.ExactMixture(torch.ones(1), torch.zeros(1, 2), torch.zeros(1), c), "variance"),
    (lambda c: orn.ExactDataset(torch.zeros(0, 2), c), "x has shape"),
    (lambda c: orn.ExactDataset(torch.zeros(2), c), "x has shape"),
    (lambda c: orn.ExactDataset(torch.zeros(2, 2), c, torch.zeros(3)), "labels"),
])
def test_laws_that_cannot_be_are_refused(build, message):
    with pytest.raises(ValueError, match=message):
        build(orn.Cosine())


def test_questions_without_an_answer_are_refused(schedule):
    data, mix, z = points(schedule, labels=torch.tensor([0, 1, 1, 0, 3])), mixture(schedule), normal(2, 2)
    flat = orn.ExactGaussian(MEAN, torch.zeros(3), schedule)
    for ask, message in (
        (lambda: data.log_prob_at(z, 0.0), "noise is 0"), (lambda: flat.log_prob(normal(2, 3)), "variance"),
        (lambda: data(z, 0.5, 2), "condition is 2"), (lambda: data(z, 0.5, torch.tensor([0, 7])), "condition is 7"),
        (lambda: points(schedule)(z, 0.5, 0), "without labels"), (lambda: mix(z, 0.5, 3), "from 0 to 2"),
        (lambda: mix(z, 0.5, -2), "from 0 to 2"), (lambda: mix(normal(2, 3), 0.5), "z has shape"),
        (lambda: mix(z, 1.5), "t is"), (lambda: mix(z, torch.tensor([0.1, 0.2, 0.3])), "time or level"),
    ):
        with pytest.raises(ValueError, match=message):
            ask()


def test_numbers_given_as_lists_keep_all_their_digits():
    """0.1 in a list is the float64 0.1, not the float32 one."""
    model = orn.ExactDataset([[0.1, 0.2]], orn.Cosine())
    np.testing.assert_array_equal(model.points.numpy(), [[0.1, 0.2]])
