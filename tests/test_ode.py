"""The flow's likelihood equals log p where that is known, and its solver keeps its tolerance."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

import ornstein as orn
from oracles import Viewed, mixture
from ornstein.diffusion.adaptive import integrate

SCHEDULES = {"cosine": orn.Cosine(), "linear": orn.Linear(), "chain": orn.Chain.linear(), "exploding": orn.Exploding()}


@pytest.mark.parametrize(("name", "dim"), [
    pytest.param(name, dim, marks=[pytest.mark.slow] * (dim == 64 and name != "cosine"))
    for name in SCHEDULES for dim in (1, 8, 64)])
def test_the_flow_has_the_density_of_the_data(name, dim):
    """To 1e-4 with the exact divergence, which is not 0 here; with the base of the data where signal is left at 1."""
    model = mixture(SCHEDULES[name], dim)
    x, tolerance = model.draw(1 if dim == 64 else 6), 1e-5
    own = orn.ode_likelihood(model, x, tolerance=tolerance, base=lambda z: model.log_prob_at(z, 1.0))
    assert (own.log_prob - model.log_prob(x)).abs().max() < 1e-4
    assert own.change.abs().max() > 0.1
    assert torch.equal(own.error, torch.zeros(len(x)))
    if dim > 1:  # which costs as many products a call; the base is compared in one dimension
        return
    if name in ("cosine", "linear"):
        assert torch.allclose(orn.ode_log_prob(model, x[:2], tolerance=tolerance), own.log_prob[:2], atol=1e-6)
        return
    # With a normal base the two differ by the prior gap at the end of the path, to the last digit of both.
    radius = float(model.schedule.level(torch.tensor(1.0, dtype=torch.float64)).radius)
    normal = -0.5 * ((own.latent / radius) ** 2 + math.log(2 * math.pi * radius**2)).sum(1)
    gap = normal - model.log_prob_at(own.latent, 1.0)
    found = orn.ode_log_prob(model, x[:2], tolerance=tolerance) - own.log_prob[:2]
    assert torch.allclose(found, gap[:2], atol=1e-8)
    assert gap.abs().max() > 1e-4


@pytest.mark.parametrize("name", SCHEDULES)
def test_the_path_of_a_gaussian_is_a_scaling(name):
    """Along a direction of variance p the flow takes y with variance c^2 p + s^2 to the same quantile at the end."""
    schedule = SCHEDULES[name]
    mean, power = torch.tensor([0.4, -0.2], dtype=torch.float64), torch.tensor([0.25, 2.0], dtype=torch.float64)
    model = orn.ExactGaussian(mean, power, schedule)
    x = model.draw(6)
    level = schedule.level(torch.tensor(1.0, dtype=torch.float64))
    wanted = level.signal * mean + (x - mean) / power.sqrt() * (level.signal**2 * power + level.noise**2).sqrt()
    found = orn.ode_likelihood(model, x, tolerance=1e-7)
    assert torch.allclose(found.latent, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("t", [0.05, 0.4])
def test_latents_have_the_density_of_their_time(t):
    model = mixture(orn.Linear(), 3)
    z = orn.draw(orn.Encoder(model.schedule).kernel(model.draw(12), t), torch.randn(12, 3, dtype=torch.float64))
    assert torch.allclose(orn.ode_log_prob(model, z, t=t, tolerance=1e-6), model.log_prob_at(z, t), atol=1e-4)


@pytest.mark.parametrize("shape", [(4, 2), (1, 2, 2, 2)])
def test_samples_of_any_shape(shape):
    flat = mixture(orn.Cosine(), 8)
    x = flat.draw(4)
    for how in ("exact", "hutchinson"):
        one, other = (orn.ode_likelihood(model, rows, how, tolerance=1e-2) for model, rows in
                      ((flat, x), (Viewed(flat, shape), x.reshape(4, *shape))))
        assert torch.allclose(one.log_prob, other.log_prob, rtol=1e-9)
        assert other.latent.shape == (4, *shape)


@pytest.mark.parametrize("dim", [8, 64])
def test_random_probes_are_right_on_average_and_know_their_error(dim):
    model = mixture(orn.Cosine(), dim)
    x = model.draw(30)
    exact = model.log_prob(x)
    found = orn.ode_likelihood(model, x, "hutchinson", probes=16, tolerance=1e-4)
    off = found.log_prob - exact
    # Mean of 30: four and a half of its own errors, one false alarm in 150,000.
    assert abs(float(off.mean())) < 4.5 * float(found.error.square().mean().sqrt()) / 30**0.5 + 1e-3
    # The median of 30 |t| of 15 degrees of freedom: 0.69, deviation 0.15. Their squares have tails: 16 probes of a
    # row may miss its few large terms, and a root mean square of 30 was above 1.7 in one draw of four.
    assert 0.15 < float((off / found.error).abs().median()) < 1.45
    assert orn.ode_likelihood(model, x[:2], "hutchinson", probes=1).error.isnan().all()


def test_a_row_does_not_depend_on_its_neighbours():
    model = mixture(orn.Cosine(), 3)
    x = model.draw(20)
    together = orn.ode_likelihood(model, x)
    alone = torch.cat([orn.ode_likelihood(model, x[k:k + 1]).log_prob for k in range(5)])
    assert torch.allclose(together.log_prob[:5], alone, rtol=1e-9)
    assert len(together.calls.unique()) > 1  # each row has steps of its own


def test_in_float32_the_likelihood_holds_to_what_float32_gives():
    class Single(Viewed):
        def __init__(self, inner):
            super().__init__(inner, inner.shape)
            self.register_buffer("kind", torch.zeros(1))
            self.inner_ = [inner]
            del self._modules["inner"]

        def forward(self, z, t, condition=None):
            assert z.dtype == torch.float32
            return orn.Estimate(z, self.level(z, t), self.inner_[0](z, t, condition).v)

    model = mixture(orn.Cosine(), 2)
    x = model.draw(8)
    # By the same steps: in ten draws the largest difference was 4e-6.
    single, double = (orn.ode_log_prob(one, x, tolerance=1e-3) for one in (Single(model), model))
    assert torch.allclose(single, double, rtol=0, atol=1e-4)


def test_a_solver_keeps_its_tolerance_row_by_row():
    """dy/da = cos(w a) w: y = sin(w a), for a slow row and a fast one."""
    rate = torch.tensor([1.0, 40.0, 7.0], dtype=torch.float64)

    def slope(y, a, rows):  # noqa: ARG001
        return (rate[rows] * torch.cos(rate[rows] * a))[:, None]

    for tolerance in (1e-3, 1e-6, 1e-9):
        y, calls = integrate(slope, torch.zeros(3, 1, dtype=torch.float64), torch.tensor(0.0), torch.tensor(2.0),
                             lambda before, after: torch.full_like(before, tolerance))  # noqa: ARG005, B023
        assert ((y[:, 0] - torch.sin(2 * rate)).abs() < 60 * tolerance).all()
        assert calls[1] > 3 * calls[0]


def test_a_solver_measures_order_five():
    """On y' = -y the error is in proportion to the tolerance, and the calls to its fifth root."""
    calls = []
    for tolerance in (1e-6, 1e-11):
        y, asked = integrate(lambda y, a, rows: -y, torch.ones(1, 1, dtype=torch.float64),  # noqa: ARG005
                             torch.tensor(0.0), torch.tensor(8.0),
                             lambda before, after: torch.full_like(before, tolerance))  # noqa: ARG005, B023
        assert abs(float(y) - math.exp(-8)) < 20 * tolerance
        calls.append(int(asked))
    order = math.log(1e5) / math.log(calls[1] / calls[0])
    assert 4.5 < order < 6.5


def test_a_solver_goes_backwards_and_nowhere():
    def slope(y, a, rows):  # noqa: ARG001
        return y

    ends = torch.tensor([0.0, 1.0, 2.0], dtype=torch.float64)
    y, calls = integrate(slope, torch.ones(3, 1, dtype=torch.float64), torch.tensor(1.0), ends,
                         lambda before, after: torch.full_like(before, 1e-9))  # noqa: ARG005
    assert np.allclose(y[:, 0], np.exp(ends.numpy() - 1), atol=1e-7)
    assert calls[1] == 0


def test_what_cannot_be_solved_is_said():
    def blows_up(y, a, rows):  # noqa: ARG001
        return y**2

    with pytest.raises(RuntimeError, match=r"not finite|need more than"):
        integrate(blows_up, torch.ones(1, 1, dtype=torch.float64), torch.tensor(0.0), torch.tensor(2.0),
                  lambda before, after: torch.full_like(before, 1e-6), max_steps=300)  # noqa: ARG005

    def rounded(y, a, rows):  # noqa: ARG001
        return torch.sign(torch.sin(1e6 * a))[:, None]

    with pytest.raises(RuntimeError, match="1 of 1 rows need more than 200 steps; allow a larger tolerance"):
        integrate(rounded, torch.zeros(1, 1, dtype=torch.float64), torch.tensor(0.0), torch.tensor(2.0),
                  lambda before, after: torch.full_like(before, 1e-9), max_steps=200)  # noqa: ARG005


def test_data_on_levels_have_no_density():
    data = orn.load_data("digits")
    model = orn.NetworkDenoiser(orn.MLP((1, 8, 8), width=8, depth=1), orn.Cosine(), (1, 8, 8), data=data.spec)
    x = data.batch(range(2))[0]
    with pytest.raises(ValueError, match=r"x lies on the 17 levels .*ornstein.dequantise"):
        orn.ode_log_prob(model, x)
    assert orn.ode_log_prob(model, orn.dequantise(x, 17), "hutchinson", tolerance=1e-2).isfinite().all()


class Detached(Viewed):
    """A denoiser that forgets how it came to its answer."""

    def forward(self, z, t, condition=None):
        with torch.no_grad():
            return super().forward(z, t, condition)


MODEL, X = mixture(orn.Cosine(), 2), torch.zeros(1, 2, dtype=torch.float64)


@pytest.mark.parametrize(("call", "message"), [
    (lambda: orn.ode_log_prob(MODEL, X, "hutchison"), "did you mean 'hutchinson'"),
    (lambda: orn.ode_log_prob(MODEL, X, t=1.0), r"t is 1.0; it must be one number in \[0, 1\)"),
    (lambda: orn.ode_log_prob(MODEL, X, t=-0.1), "every time must lie in"),
    (lambda: orn.ode_log_prob(MODEL, X, tolerance=0), "tolerance is 0"),
    (lambda: orn.ode_log_prob(MODEL, X, probes=0), "probes is 0"),
    (lambda: orn.ode_log_prob(MODEL, X, base=lambda z: z), r"base gives shape \(1, 2\)"),
    (lambda: orn.ode_log_prob(Detached(MODEL, (2,)), X), "cannot be differentiated in z"),
    (lambda: orn.ode_log_prob(MODEL, X[:, :1]), r"it must be \(B, 2\)"),
    (lambda: orn.ode_log_prob(MODEL, X * math.inf), "not finite"),
])
def test_what_has_no_likelihood_is_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
