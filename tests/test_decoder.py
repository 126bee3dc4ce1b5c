"""The reverse decoder: on Gaussian data ancestral sampling is a chain of affine maps, known in closed form."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch.distributions import kl_divergence
from torch.testing import assert_close

import ornstein as orn
from conftest import SCHEDULES, normal

F64 = torch.float64
MEAN = torch.tensor([0.5, -1.0, 2.0], dtype=F64)
COVARIANCE = torch.tensor([[1.5, 0.4, -0.2], [0.4, 0.3, 0.1], [-0.2, 0.1, 0.6]], dtype=F64)
EYE = torch.eye(3, dtype=F64)
VARIANCES = {"posterior": "posterior", "beta": "beta", "tensor": torch.tensor([0.01, 0.02, 0.0], dtype=F64)}


def gaussian(schedule):
    return orn.ExactGaussian(MEAN, COVARIANCE, schedule)


def affine(schedule, s, t, variance):
    """(A, b, variances) of p(z_s | z_t) = N(A z_t + b, diag), from levels, Bayes' rule and a matrix inverse alone.

    x-hat = mean + G (z - signal_t mean); the posterior mean of z_s is its conditional mean in the joint Gaussian of
    (z_s, z_t) given x, of covariance keep noise_s^2: m = signal_s x + keep noise_s^2 / noise_t^2 (z - signal_t x).
    """
    a, b = schedule.level(s), schedule.level(t)
    gain = b.signal * COVARIANCE @ torch.linalg.inv(b.signal**2 * COVARIANCE + b.noise**2 * EYE)
    pull = b.signal / a.signal * a.noise**2 / b.noise**2
    on_x = a.signal - pull * b.signal
    added = b.noise**2 - (b.signal / a.signal) ** 2 * a.noise**2
    spread = {"posterior": a.noise**2 * added / b.noise**2, "beta": added}.get(variance) \
        if isinstance(variance, str) else variance
    return pull * EYE + on_x * gain, on_x * (MEAN - b.signal * gain @ MEAN), spread.expand(3)


def moments(schedule, times, variance):
    """Mean and covariance of ancestral samples that start from N(0, (signal^2 + noise^2) I), last step by its mean."""
    mean, covariance = torch.zeros(3, dtype=F64), schedule.level(1.0).radius ** 2 * EYE
    for t, s in pairwise(times):
        A, b, spread = affine(schedule, s, t, variance)
        mean, covariance = A @ mean + b, A @ covariance @ A.T + (s > 0) * spread.diag()
    return mean, covariance


@pytest.mark.parametrize("name", VARIANCES)
def test_a_reverse_step_on_gaussian_data_is_affine(schedule, name):
    """Mean and variance of p(z_s | z_t) at every stride, against the closed form; a tensor is its own variance."""
    decoder, z = orn.Decoder(gaussian(schedule), VARIANCES[name]), normal(5, 3)
    for s, t in ((0.0, 0.01), (0.1, 0.4), (0.5, 0.51), (0.3, 1.0), (0.9, 1.0)):
        law = decoder.reverse(z, s, t)
        A, b, spread = affine(schedule, s, t, VARIANCES[name])
        assert_close(law.mean, z @ A.T + b, rtol=1e-10, atol=1e-10)
        assert_close(law.variance, spread.expand(5, 3), rtol=1e-9, atol=1e-15)
        assert law.event_shape == (3,)


@pytest.mark.parametrize("sampler", ["ancestral", "ancestral-beta"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_ancestral_samples_are_an_affine_map_of_start_and_noise(name, sampler):
    """12 steps: the map from z is the product of the 12 matrices, and each step's noise enters with its own std."""
    schedule, variance = SCHEDULES[name], "beta" if sampler == "ancestral-beta" else "posterior"
    times = orn.grid(schedule, 12, "log_snr")
    start = torch.cat([torch.zeros(1, 3, dtype=F64), EYE])
    # One sample a run, so that every run has the noise of sample 0 of the seed.
    ends = torch.cat([orn.sample(gaussian(schedule), sampler=sampler, times=times, z=row[None], seed=5)
                      for row in start])
    expected = start
    product = EYE
    for number, (t, s) in enumerate(pairwise(times)):
        A, b, spread = affine(schedule, s, t, variance)
        eps = orn.noise.normal(5, "sample", 0, number, (3,))
        expected = expected @ A.T + b + (s > 0) * spread.sqrt() * eps
        product = A @ product
    assert_close((ends[1:] - ends[0]).T, product, rtol=0, atol=1e-10)
    assert_close(ends, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("name", ["chain-linear", "cosine", "own"])
def test_steps_of_a_tensor_variance_compose_as_stated(name):
    """Drawing p(z_s | z_t) by hand with a tensor of variances gives the affine chain with those variances."""
    schedule = SCHEDULES[name]
    decoder, z = orn.Decoder(gaussian(schedule), VARIANCES["tensor"]), normal(4, 3)
    expected = z
    for number, (t, s) in enumerate(pairwise(orn.grid(schedule, 20))):
        eps = normal(4, 3, seed=number)
        z = orn.draw(decoder.reverse(z, s, t), eps)
        A, b, spread = affine(schedule, s, t, VARIANCES["tensor"])
        expected = expected @ A.T + b + spread.sqrt() * eps
    assert_close(z, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("variance", ["posterior", "beta"])
@pytest.mark.parametrize("name", ["cosine", "linear", "own"])
def test_ancestral_samples_become_the_data_as_steps_grow(name, variance):
    """The error of the samples' covariance falls as 1 / N: order 1 within 0.25, and below 2 % at 512 steps."""
    schedule = SCHEDULES[name]
    errors = []
    for steps in (128, 256, 512):
        mean, covariance = moments(schedule, orn.grid(schedule, steps, "angle"), variance)
        errors.append(float((covariance - COVARIANCE).norm() / COVARIANCE.norm()))
    if name != "own":  # the start N(0, r^2 I) is the true marginal at t = 1 only where no signal is left
        assert_close(mean, MEAN, rtol=0, atol=1e-2)
        assert errors[-1] < 0.02
        orders = [torch.tensor(a / b).log2() for a, b in pairwise(errors)]
        assert all(abs(float(order) - 1) < 0.25 for order in orders)
    else:
        assert abs(errors[1] - errors[2]) < abs(errors[0] - errors[1])


@pytest.mark.parametrize("variance", ["posterior", "beta"])
def test_the_reverse_marginals_follow_the_forward_ones(schedule, variance):
    """From the true marginal at t = 1 the walk stays on N(signal mean, signal^2 C + noise^2): its error halves."""
    worst = []
    for steps in (50, 100):
        now, errors = schedule.level(1.0), []
        mean, covariance = now.signal * MEAN, now.signal**2 * COVARIANCE + now.noise**2 * EYE
        for t, s in pairwise(orn.grid(schedule, steps, "angle")):
            A, b, spread = affine(schedule, s, t, variance)
            mean, covariance, now = A @ mean + b, A @ covariance @ A.T + (s > 0) * spread.diag(), schedule.level(s)
            true = now.signal**2 * COVARIANCE + now.noise**2 * EYE
            errors.append(float((covariance - true).norm() / true.norm()
                                + (mean - now.signal * MEAN).norm() / true.trace().sqrt()))
        worst.append(max(errors))
    assert worst[1] < 0.65 * worst[0]


def test_on_data_of_one_point_the_decoder_is_the_posterior(schedule):
    """No term of the bound is lost: KL(q(z_s | z_t, x) || p(z_s | z_t)) = 0."""
    x, z = normal(1, 3), normal(6, 3, seed=1)
    decoder = orn.Decoder(orn.ExactDataset(x, schedule))
    for s, t in ((0.1, 0.4), (0.5, 0.51), (0.3, 1.0)):
        q = orn.Encoder(schedule).posterior(x.expand(6, 3), z, s, t)
        assert_close(kl_divergence(q, decoder.reverse(z, s, t)), torch.zeros(6, dtype=F64), rtol=0, atol=1e-12)


def test_on_standard_normal_data_the_beta_decoder_is_the_true_reverse():
    """For data N(0, I) the true p(z_s | z_t) has variance `added` where variance is preserved (Ho et al. 2020)."""
    z = normal(6, 3)
    for name in ("chain-linear", "chain-1000", "cosine"):
        schedule = SCHEDULES[name]
        law = orn.Decoder(orn.ExactGaussian(torch.zeros(3), torch.ones(3), schedule), "beta").reverse(z, 0.2, 0.6)
        keep = schedule.level(0.6).signal / schedule.level(0.2).signal
        assert_close(law.mean, keep * z, rtol=1e-12, atol=1e-14)
        assert_close(law.variance, (1 - keep**2).expand(6, 3), rtol=1e-12, atol=0)


def test_the_gap_to_the_posterior_is_the_error_of_x(schedule):
    """KL(q || p) = (added signal_s / noise_t^2)^2 |x - x-hat|^2 / (2 variance): a term of the bound in closed form."""
    x, z, s, t = normal(6, 3, seed=2), normal(6, 3, seed=1), 0.004, 0.008
    denoiser, a, b = gaussian(schedule), schedule.level(s), schedule.level(t)
    added = b.noise**2 - (b.signal / a.signal) ** 2 * a.noise**2
    q, p = orn.Encoder(schedule).posterior(x, z, s, t), orn.Decoder(denoiser).reverse(z, s, t)
    shift = (added * a.signal / b.noise**2) ** 2 * ((x - denoiser(z, t).x) ** 2).sum(1)
    assert_close(kl_divergence(q, p), shift / (2 * a.noise**2 * added / b.noise**2), rtol=1e-8, atol=0)


def test_a_batch_of_times_and_a_condition_reach_the_denoiser(schedule):
    weight, centres = torch.ones(2), torch.tensor([[-1.0, 0.0], [1.0, 0.0]])
    denoiser = orn.ExactMixture(weight, centres, torch.tensor([0.1, 0.2]), schedule)
    decoder, z, k = orn.Decoder(denoiser, "beta"), normal(3, 2), torch.tensor([0, 1, -1])
    s, t = torch.tensor([0.0, 0.2, 0.5], dtype=F64), torch.tensor([0.1, 0.7, 1.0], dtype=F64)
    law = decoder.reverse(z, s, t, k)
    for i in range(3):
        one = decoder.reverse(z[i:i + 1], s[i], t[i], int(k[i]))
        assert_close(law.mean[i], one.mean[0], rtol=1e-12, atol=1e-12)
        assert_close(law.variance[i], one.variance[0], rtol=1e-12, atol=0)


def test_impossible_decoders_are_refused(schedule):
    denoiser = gaussian(schedule)
    with pytest.raises(ValueError, match="did you mean 'posterior'"):
        orn.Decoder(denoiser, "posteriour")
    for bad in (-0.1, torch.nan):
        with pytest.raises(ValueError, match="variance has the entry"):
            orn.Decoder(denoiser, torch.tensor([0.1, bad]))
    with pytest.raises(ValueError, match="s must be smaller than t"):
        orn.Decoder(denoiser).reverse(normal(2, 3), 0.5, 0.5)
