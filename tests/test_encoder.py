"""The forward encoder: every identity of section 20.1, each against a computation that shares no code with it."""

from __future__ import annotations

import math
from decimal import Decimal, localcontext
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import multivariate_normal
from torch.testing import assert_close

import ornstein as orn
from conftest import CHAINS, PRESERVING, SCHEDULES, exact_alpha, normal

F64 = torch.float64
any_schedule = st.sampled_from(sorted(SCHEDULES)).map(SCHEDULES.get)
rising = st.lists(st.floats(0, 1), min_size=3, max_size=3, unique=True).map(sorted).filter(
    lambda t: min(t[1] - t[0], t[2] - t[1]) > 1e-3)


def affine(law_of, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """(factor, variance) of a Gaussian whose mean is factor * z, read from two laws."""
    law = law_of(z)
    assert_close(law_of(torch.zeros_like(z)).mean, torch.zeros_like(z))
    return law.mean / z, law.variance


def times_of(chain: orn.Chain) -> tuple[torch.Tensor, torch.Tensor]:
    n = torch.arange(1, chain.T + 1, dtype=F64)
    return (n - 1) / chain.T, n / chain.T


@pytest.mark.parametrize("name", CHAINS)
def test_the_step_of_a_chain(name):
    """q(z_n | z_{n-1}) = N(sqrt(1 - beta_n) z_{n-1}, beta_n)   (20.4), for every n at once."""
    chain = CHAINS[name]
    s, t = times_of(chain)
    z = normal(chain.T, 2)
    law = orn.Encoder(chain).step(z, s, t)
    assert_close(law.mean, (1 - chain.beta).sqrt()[:, None] * z, rtol=1e-12, atol=1e-12)
    assert_close(law.variance, chain.beta[:, None].expand(-1, 2), rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", CHAINS)
def test_the_kernel_of_a_chain(name):
    """q(z_n | x) = N(sqrt(alpha_n) x, 1 - alpha_n)   (20.6), (20.7), with alpha in 60 digits."""
    chain = CHAINS[name]
    x = normal(chain.T, 2)
    with localcontext() as context:
        context.prec = 60
        alpha = exact_alpha(chain.beta)[1:]
        signal = torch.tensor([float(value.sqrt()) for value in alpha], dtype=F64)
        variance = torch.tensor([float(1 - value) for value in alpha], dtype=F64)
    law = orn.Encoder(chain).kernel(x, times_of(chain)[1])
    assert_close(law.mean, signal[:, None] * x, rtol=0, atol=1e-12)
    assert_close(law.variance, variance[:, None].expand(-1, 2), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", CHAINS)
def test_the_posterior_of_a_chain(name):
    """Mean (20.16) to 1e-12 and variance (20.17) to 1e-9 relative, from beta and alpha in 60 digits, for every n."""
    chain = CHAINS[name]
    s, t = times_of(chain)
    x, z = normal(chain.T, 2, seed=1), normal(chain.T, 2, seed=2)
    with localcontext() as context:
        context.prec = 60
        alpha = exact_alpha(chain.beta)
        rows = []
        for n, value in enumerate(chain.beta.tolist(), 1):
            beta = Decimal(value)
            rows.append([float((1 - alpha[n - 1]) * (1 - beta).sqrt() / (1 - alpha[n])),
                         float(alpha[n - 1].sqrt() * beta / (1 - alpha[n])),
                         float(beta * (1 - alpha[n - 1]) / (1 - alpha[n]))])
    of_z, of_x, variance = torch.tensor(rows, dtype=F64).T[..., None]
    law = orn.Encoder(chain).posterior(x, z, s, t)
    assert_close(law.mean, of_z * z + of_x * x, rtol=0, atol=1e-12)
    assert_close(law.variance, variance.expand(-1, 2), rtol=1e-9, atol=0)


@given(any_schedule, rising)
def test_a_step_after_a_kernel_is_a_kernel(schedule, times):
    """(20.6) by induction: q(z_t | x) is q(z_t | z_s) integrated over q(z_s | x), for any s < t of any schedule."""
    _, s, t = times
    encoder, one = orn.Encoder(schedule), torch.ones(1, 1, dtype=F64)
    before, after = encoder.kernel(one, s), encoder.kernel(one, t)
    keep, added = affine(lambda z: encoder.step(z, s, t), one)
    assert_close(keep * before.mean, after.mean, rtol=1e-12, atol=1e-300)
    assert_close(keep**2 * before.variance + added, after.variance, rtol=1e-12, atol=0)


@given(any_schedule, rising)
def test_steps_compose_from_any_time_to_any_other(schedule, times):
    """q(z_t | z_r) is q(z_t | z_s) after q(z_s | z_r): a strided sampler needs no schedule of its own."""
    r, s, t = times
    encoder, one = orn.Encoder(schedule), torch.ones(1, 1, dtype=F64)
    first, second, whole = (affine(lambda z, a=a, b=b: encoder.step(z, a, b), one)
                            for a, b in ((r, s), (s, t), (r, t)))
    assert_close(first[0] * second[0], whole[0], rtol=1e-12, atol=1e-300)
    assert_close(second[0]**2 * first[1] + second[1], whole[1], rtol=1e-10, atol=1e-15)


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_thousand_steps_one_by_one_are_one_kernel(name):
    schedule = SCHEDULES[name]
    encoder, x = orn.Encoder(schedule), torch.tensor([[0.7, -1.3]], dtype=F64)
    times = torch.linspace(0, 1, 1001, dtype=F64)
    mean, variance = x, torch.zeros_like(x)
    steps = affine(lambda z: encoder.step(z, times[:-1], times[1:]), torch.ones(1000, 1, dtype=F64))
    for keep, added in zip(*steps, strict=True):
        mean, variance = keep * mean, keep**2 * variance + added
    law = encoder.kernel(x, 1.0)
    assert_close(mean, law.mean, rtol=1e-10, atol=1e-14)
    assert_close(variance, law.variance, rtol=1e-12, atol=0)


@pytest.mark.parametrize(("s", "t"), [(0.1, 0.35), (0.5, 0.55), (0.9, 1.0), (0.02, 0.9)])
def test_the_posterior_is_bayes_rule(schedule, s, t):
    """(20.13), (20.14): q(z_s | z_t, x) proportional to q(z_t | z_s) q(z_s | x), normalised on a grid of z_s."""
    encoder, x = orn.Encoder(schedule), torch.tensor([[0.8]], dtype=F64)
    now, then = encoder.kernel(x, s), encoder.kernel(x, t)
    z = then.mean + 1.3 * then.stddev
    law = encoder.posterior(x, z, s, t)
    places = now.mean + now.stddev * torch.linspace(-12, 12, 200_001, dtype=F64)[:, None]
    log = encoder.step(places, s, t).log_prob(z) + now.log_prob(places)
    weight = log.softmax(0)
    mean = weight @ places[:, 0]
    variance = weight @ (places[:, 0] - mean) ** 2
    assert_close(law.mean[0, 0], mean, rtol=1e-8, atol=1e-8)
    assert_close(law.variance[0, 0], variance, rtol=1e-7, atol=0)


@given(any_schedule, rising, st.floats(-3, 3), st.floats(-3, 3))
def test_posterior_and_marginal_give_back_the_joint(schedule, times, x, z):
    """q(z_s | z_t, x) q(z_t | x) = q(z_t | z_s) q(z_s | x) as densities: Bayes' rule without an integral."""
    _, s, t = times
    encoder, x = orn.Encoder(schedule), torch.tensor([[x]], dtype=F64)
    late = encoder.kernel(x, t).mean + z * encoder.kernel(x, t).stddev
    law = encoder.posterior(x, late, s, t)
    early = law.mean + 0.7 * law.stddev
    left = law.log_prob(early) + encoder.kernel(x, t).log_prob(late)
    right = encoder.step(early, s, t).log_prob(late) + encoder.kernel(x, s).log_prob(early)
    assert_close(left, right, rtol=1e-7, atol=1e-7)


def test_a_long_chain_forgets_the_data():
    """(20.9): as T grows q(z_T | x) goes to N(0, I); with equal betas the mean is (1 - beta)^(T/2) x."""
    x = torch.tensor([[5.0, -5.0]], dtype=F64)
    for T in (10, 100, 1000, 5000):
        law = orn.Encoder(orn.Chain([0.02] * T)).kernel(x, 1.0)
        assert_close(law.mean, 0.98 ** (T / 2) * x, rtol=1e-11, atol=0)
        assert_close(1 - law.variance, torch.full_like(x, 0.98**T), rtol=1e-10, atol=2e-16)
    assert law.mean.abs().max() < 1e-20


def test_a_long_chain_has_the_same_end_for_every_data(mixture_of):
    """(20.10): the marginal q(z_T) of any data is N(0, I) once alpha_T is nothing."""
    data = mixture_of(SCHEDULES["chain-1000"])
    z = normal(100, 2)
    expected = torch.distributions.Normal(0, torch.ones((), dtype=F64)).log_prob(z).sum(-1)
    assert_close(data.log_prob_at(z, 1.0), expected, rtol=1e-12, atol=1e-12)


@given(st.sampled_from(sorted(PRESERVING)).map(PRESERVING.get), rising)
def test_standard_normal_data_stay_standard_normal(schedule, times):
    """The fixed point of a chain: N(0, I) goes to N(0, I) under every step, whatever its length."""
    _, s, t = times
    keep, added = affine(lambda z: orn.Encoder(schedule).step(z, s, t), torch.ones(1, 1, dtype=F64))
    assert_close(keep**2 + added, torch.ones(1, 1, dtype=F64), rtol=1e-14, atol=0)


@pytest.mark.parametrize("name", PRESERVING)
def test_every_step_of_a_chain_leaves_the_standard_normal(name):
    schedule = PRESERVING[name]
    t = torch.linspace(0, 1, 1001, dtype=F64)
    keep, added = affine(lambda z: orn.Encoder(schedule).step(z, t[:-1], t[1:]), torch.ones(1000, 1, dtype=F64))
    assert_close(keep**2 + added, torch.ones(1000, 1, dtype=F64), rtol=1e-14, atol=0)


def test_the_ends_are_point_masses(schedule):
    """q(z_0 | x) and q(z_0 | z_t, x) sit on x itself, and drawing from them gives x."""
    encoder, x, z, eps = orn.Encoder(schedule), normal(4, 3), normal(4, 3, seed=1), normal(4, 3, seed=2)
    assert torch.equal(orn.draw(encoder.kernel(x, 0.0), eps), x)
    assert_close(orn.draw(encoder.posterior(x, z, 0.0, 0.7), eps), x, rtol=1e-14, atol=0)


def test_laws_are_distributions_over_whole_samples(schedule):
    """One event is one picture, so `log_prob` and the divergence are sums over its values, one number a picture."""
    encoder, x, z = orn.Encoder(schedule), normal(4, 1, 3, 3), normal(4, 1, 3, 3, seed=1)
    law, other = encoder.posterior(x, z, 0.003, 0.006), encoder.posterior(x + 0.1, z, 0.003, 0.006)
    density = -0.5 * ((z - law.mean) ** 2 / law.variance + (2 * math.pi * law.variance).log())
    assert_close(law.log_prob(z), density.sum((1, 2, 3)), rtol=1e-12, atol=1e-12)
    apart = torch.distributions.kl_divergence(law, other)
    assert_close(apart, ((law.mean - other.mean) ** 2 / law.variance / 2).sum((1, 2, 3)), rtol=1e-9, atol=0)


@given(any_schedule, st.lists(rising, min_size=2, max_size=4))
def test_a_batch_of_times_is_row_by_row(schedule, times):
    encoder, x, z = orn.Encoder(schedule), normal(len(times), 2, 2), normal(len(times), 2, 2, seed=1)
    _, s, t = torch.tensor(times, dtype=F64).T
    laws = encoder.kernel(x, t), encoder.step(z, s, t), encoder.posterior(x, z, s, t)
    for i in range(len(times)):
        row = slice(i, i + 1)
        ones = (encoder.kernel(x[row], t[i]), encoder.step(z[row], s[i], t[i]),
                encoder.posterior(x[row], z[row], s[i], t[i]))
        for law, one in zip(laws, ones, strict=True):
            assert_close(law.mean[row], one.mean, rtol=1e-13, atol=1e-15)
            assert_close(law.variance[row], one.variance, rtol=1e-13, atol=0)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_low_precision_laws_are_the_rounding_of_exact_ones(dtype):
    """In bfloat16 as well no step of the chain adds zero noise: variances are cast last."""
    chain = CHAINS["chain-linear"]
    s, t = times_of(chain)
    x, z = normal(1000, 2).to(dtype), normal(1000, 2, seed=1).to(dtype)
    encoder, near = orn.Encoder(chain), torch.finfo(dtype).eps
    for low, exact in (
        (encoder.kernel(x, t), encoder.kernel(x.double(), t)),
        (encoder.step(z, s, t), encoder.step(z.double(), s, t)),
        (encoder.posterior(x, z, s, t), encoder.posterior(x.double(), z.double(), s, t)),
    ):
        assert low.mean.dtype == low.stddev.dtype == dtype
        assert_close(low.stddev.double(), exact.stddev, rtol=near, atol=0)
        # Each product is rounded once and their sum once more, each relative to the largest of the terms.
        assert ((low.mean.double() - exact.mean).abs() <= 2 * near * (x.abs() + z.abs()).double()).all()
    assert (encoder.step(z, s, t).stddev > 0).all()


def test_a_walk_is_a_path_of_the_chain(schedule):
    """Given the latent before, each latent is its step law at noise (seed, "walk", row, number); time 0 is x."""
    encoder, x, times = orn.Encoder(schedule), normal(3, 2), [0.0, 0.2, 0.5, 1.0]
    path = list(encoder.walk(x, times, seed=3))
    assert torch.equal(path[0], x)
    for number in (1, 2, 3):
        law = encoder.step(path[number - 1], times[number - 1], times[number])
        white = (path[number] - law.mean) / law.stddev
        expected = torch.stack([orn.noise.normal(3, "walk", row, number, (2,)) for row in range(3)])
        assert_close(white, expected, rtol=1e-9, atol=1e-9)


def test_walks_end_as_the_kernel_says():
    """2,000 walks of 6 steps: mean and variance within 5 standard errors of (20.6); false alarm 4e-6 in all."""
    x = torch.tensor([[1.5, -0.5]], dtype=F64).expand(2000, 2)
    encoder = orn.Encoder(orn.Chain.linear())
    *_, end = encoder.walk(x, [0.05, 0.1, 0.2, 0.3, 0.35, 0.4], seed=1)
    law = encoder.kernel(x[:1], 0.4)
    z = (end - law.mean) / law.stddev
    assert z.mean(0).abs().max() < 5 / math.sqrt(2000)
    assert (z.var(0) - 1).abs().max() < 5 * math.sqrt(2 / 2000)


def test_a_row_of_a_walk_does_not_depend_on_the_other_rows(schedule):
    x = normal(5, 2)
    many = list(orn.Encoder(schedule).walk(x, [0.3, 0.6], seed=1))
    few = list(orn.Encoder(schedule).walk(x[:2], [0.3, 0.6], seed=1))
    assert all(torch.equal(a[:2], b) for a, b in zip(many, few, strict=True))


@pytest.mark.parametrize(("s", "t"), [(0.5, 0.5), (0.6, 0.5), (-0.1, 0.5), (0.5, 1.1), (math.nan, 0.5)])
def test_steps_that_do_not_go_forward_are_refused(schedule, s, t):
    encoder, z = orn.Encoder(schedule), normal(2, 2)
    with pytest.raises(ValueError, match=r"[st] is"):
        encoder.step(z, s, t)
    with pytest.raises(ValueError, match=r"[st] is"):
        encoder.posterior(z, z, s, t)


def test_arguments_that_do_not_fit_are_refused(schedule):
    encoder, z = orn.Encoder(schedule), normal(2, 2)
    with pytest.raises(ValueError, match="x has shape"):
        encoder.posterior(normal(2, 3), z, 0.1, 0.5)
    with pytest.raises(ValueError, match="eps has shape"):
        orn.draw(encoder.kernel(z, 0.5), normal(1, 2))
    with pytest.raises(ValueError, match="time or level has shape"):
        encoder.kernel(z, torch.tensor([0.1, 0.2, 0.3], dtype=F64))
    with pytest.raises(ValueError, match="smaller than t"):
        list(encoder.walk(z, [0.5, 0.4]))


def test_a_schedule_without_signal_before_its_end_is_refused():
    """Never NaN: a step that starts where nothing of the data is left has no keep."""

    class Early(orn.Schedule):
        def level(self, t):
            return orn.Level((1 - 2 * t).clamp(min=0), t)

    with pytest.raises(ValueError, match="signal is 0 at s"):
        orn.Encoder(Early()).step(normal(1, 1), 0.6, 0.8)


@given(st.integers(1, 40).flatmap(lambda T: st.lists(st.floats(1e-3, 0.999), min_size=T, max_size=T)))
def test_any_chain_keeps_and_adds_what_its_betas_say(beta):
    chain = orn.Chain(beta)
    s, t = times_of(chain)
    keep, added = affine(lambda z: orn.Encoder(chain).step(z, s, t), torch.ones(chain.T, 1, dtype=F64))
    np.testing.assert_allclose(keep[:, 0], np.sqrt(1 - np.array(beta)), rtol=1e-11)
    np.testing.assert_allclose(added[:, 0], beta, rtol=1e-9)


def test_the_joint_of_a_path_is_one_gaussian(schedule):
    """(20.5): the product of the steps is N(signal x, C) with C_mn = (signal_n / signal_m) noise_m^2 for m <= n."""
    encoder, x, times = orn.Encoder(schedule), normal(3, 1), (0.2, 0.5, 0.7, 1.0 if schedule.level(1.0).signal else 0.9)
    path = [x, *encoder.walk(x, times, seed=2)]
    product = sum(encoder.step(path[n], (0.0, *times)[n], times[n]).log_prob(path[n + 1]) for n in range(4))
    signal, noise = (entry.numpy() for entry in schedule.level(torch.tensor(times, dtype=F64)))
    first = np.minimum.outer(range(4), range(4))
    covariance = np.outer(signal, signal) * (noise / signal)[first] ** 2
    whole = np.array([multivariate_normal(signal * float(one), covariance).logpdf(torch.cat(path[1:], 1)[row])
                      for row, one in enumerate(x)])
    np.testing.assert_allclose(product, whole, rtol=1e-8, atol=1e-8)


def reverse_conditional(schedule, data, z_s, z_t, s, t):
    """log q(z_s | z_t) by Bayes' rule (20.11) from the marginals (20.12) of a data set of numbers."""
    law = orn.ExactDataset(data, schedule)
    return orn.Encoder(schedule).step(z_s, s, t).log_prob(z_t) + law.log_prob_at(z_s, s) - law.log_prob_at(z_t, t)


@pytest.mark.parametrize(("s", "t"), [(0.1, 0.35), (0.5, 0.55), (0.9, 1.0), (0.02, 0.9)])
def test_the_reverse_conditional_is_a_mixture_over_the_data(schedule, s, t):
    """(20.11), (20.12): sum over i of w_i q(z_s | z_t, x_i) with w_i in proportion to q(z_t | x_i), as densities."""
    encoder, data = orn.Encoder(schedule), normal(5, 1, seed=8)
    z_t = schedule.level(t).radius * normal(40, 1)
    z_s = schedule.level(s).radius * normal(40, 1, seed=1)
    weight = torch.stack([encoder.kernel(one.expand(40, 1), t).log_prob(z_t) for one in data]).log_softmax(0)
    parts = torch.stack([encoder.posterior(one.expand(40, 1), z_t, s, t).log_prob(z_s) for one in data])
    bayes = reverse_conditional(schedule, data, z_s, z_t, s, t)
    assert_close((weight + parts).logsumexp(0), bayes, rtol=1e-7, atol=1e-6)


def test_one_gaussian_is_enough_for_a_short_step_back():
    """KL(q(z_s | z_t) || its Gaussian of the same moments) from a latent between two points; 0 for Gaussian data.

    A fourth of the variance leaves less than a fourth of the divergence, at every length: the parts' means come closer
    in proportion to the variance that the step adds, their deviations only as its square root.
    """
    chain, data = orn.Chain([1e-3] * 1000), torch.tensor([[-1.0], [1.0]], dtype=F64)
    z = torch.linspace(-5, 5, 20_001, dtype=F64)[:, None]
    apart = []
    for steps in (512, 128, 32, 8):
        share = reverse_conditional(chain, data, z, torch.zeros_like(z), 0.6 - steps / 1000, 0.6).softmax(0)
        mean = share @ z[:, 0]
        law = torch.distributions.Normal(mean, (share @ (z[:, 0] - mean) ** 2).sqrt())
        single = law.log_prob(z[:, 0]).log_softmax(0)
        apart.append(float((share * (share.clamp(min=1e-300).log() - single)).sum()))
    assert apart[0] > 0.3
    assert all(later < earlier / 4 for earlier, later in pairwise(apart))
    assert apart[-1] < 1e-5
