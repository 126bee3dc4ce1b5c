"""Three score losses differ by constants of the data, and no field beats the optimal one."""

from __future__ import annotations

import pytest
import torch

import ornstein as orn
from oracles import Shifted, error_of, mixture
from ornstein.diffusion.level import as_time

ROWS, SIGMAS = 4000, 4.5  # one false alarm in 150,000 at each place


@pytest.mark.parametrize("t", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("dim", [1, 6])
def test_denoising_and_explicit_score_matching_differ_by_a_constant(t, dim):
    """Vincent (2011): their difference is noise^2 / 2 E |grad log q(z | x) - grad log q(z)|^2 for any field."""
    model = mixture(orn.Cosine(), dim)
    x, eps = model.draw(ROWS), torch.randn(ROWS, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = orn.draw(orn.Encoder(model.schedule).kernel(x, t), eps)
    constant = 0.5 * (eps - model(z, t).eps).square().sum(1)
    for field in (model, Shifted(model, 0.4)):
        differ = orn.denoising_score_loss(field, x, t, eps) - orn.explicit_score_loss(field, model, z, t) - constant
        assert abs(float(differ.mean())) < SIGMAS * error_of(differ) + 1e-12
    assert orn.explicit_score_loss(Shifted(model, 0.4), model, z, t).mean() > 1e-3


@pytest.mark.parametrize("t", [0.15, 0.5, 0.9])
@pytest.mark.parametrize("dim", [1, 6])
def test_the_implicit_loss_needs_no_true_score(t, dim):
    """Hyvärinen (2005): integration by parts; the constant is noise^2 / 2 E |grad log q(z)|^2."""
    model = mixture(orn.Cosine(), dim)
    x, eps = model.draw(ROWS), torch.randn(ROWS, dim, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = orn.draw(orn.Encoder(model.schedule).kernel(x, t), eps)
    for field in (model, Shifted(model, 0.4)):
        differ = (orn.implicit_score_loss(field, z, t).detach() - orn.explicit_score_loss(field, model, z, t)
                  + 0.5 * model(z, t).eps.square().sum(1))
        assert abs(float(differ.mean())) < SIGMAS * error_of(differ)
    exact, random = (orn.implicit_score_loss(model, z, t, probes=count).detach() for count in (0, 2))
    assert abs(float((exact - random).mean())) < SIGMAS * error_of(exact - random) + 1e-12


def test_a_shift_of_the_field_costs_its_square():
    """Shifted moves v by a constant, so eps-hat by signal / radius of it."""
    model = mixture(orn.Linear(), 5)
    z = model.draw(10)
    level = orn.Linear().level(as_time(0.3))
    found = orn.explicit_score_loss(Shifted(model, 0.4), model, z, 0.3)
    assert torch.allclose(found, torch.full_like(found, 0.5 * 5 * float(0.4 * level.signal / level.radius) ** 2))


def test_the_area_under_the_levels_is_the_diffusion_term():
    model = mixture(orn.Cosine(), 4)
    x, log_snr = model.draw(600), torch.linspace(-12, 12, 97, dtype=torch.float64)
    levels = orn.level_losses(model, x, log_snr)
    area = 4 * torch.trapezoid(levels, log_snr, dim=0)
    bound = orn.continuous_elbo(model, x, draws=32).diffusion
    assert abs(float((area - bound).mean())) < SIGMAS * error_of(area - bound) + 0.02


def test_on_its_own_points_nothing_is_below_the_optimal_denoiser():
    points = mixture(orn.Cosine(), 3).draw(40)
    best = orn.level_losses(orn.ExactDataset(points, orn.Cosine()), points, [-6.0, -2.0, 0.0, 2.0, 6.0], draws=40)
    for other in (mixture(orn.Cosine(), 3), orn.ExactGaussian(points.mean(0), points.T.cov(), orn.Cosine()),
                  Shifted(orn.ExactDataset(points, orn.Cosine()), 0.3)):
        more = orn.level_losses(other, points, [-6.0, -2.0, 0.0, 2.0, 6.0], draws=40) - best
        for row in more:
            assert row.mean() > -SIGMAS * error_of(row)
        assert more.sum() > 0.1


def test_all_three_losses_train_the_same_field():
    """Gradients in a weight agree, for the losses differ by constants: of eps-hat scaled by one number."""

    class Scaled(orn.Denoiser):
        def __init__(self, inner):
            super().__init__(inner.schedule, inner.shape)
            self.factor = torch.nn.Parameter(torch.tensor(1.3, dtype=torch.float64))
            self.inner = [inner]

        def forward(self, z, t, condition=None):
            level = self.level(z, t)
            return orn.Estimate.from_eps(self.factor * self.inner[0](z, t, condition).eps, z, level)

    model, t = mixture(orn.Cosine(), 3), 0.5
    field = Scaled(model)
    x, eps = model.draw(ROWS), torch.randn(ROWS, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    z = orn.draw(orn.Encoder(model.schedule).kernel(x, t), eps)
    slopes = [float(torch.autograd.grad(loss.mean(), field.factor)[0]) for loss in (
        orn.explicit_score_loss(field, model, z, t), orn.denoising_score_loss(field, x, t, eps),
        orn.implicit_score_loss(field, z, t), orn.implicit_score_loss(field, z, t, probes=8))]
    # The slope is 0.3 E |eps*|^2 > 0.3; a mean of 4,000 is known to some 2 %.
    assert slopes[0] > 0.3
    assert all(abs(slope / slopes[0] - 1) < 0.15 for slope in slopes[1:])


def test_langevin_dynamics_rest_at_the_law_but_for_the_size_of_the_step():
    """z + eta / 2 score + sqrt(eta) noise rests at variance V / (1 - eta / (4 V)) for a Gaussian of variance V.

    The score is linear there, so a step is an affine map of slope a, and a law rests where a^2 w + eta = w.
    """
    model, t = orn.ExactGaussian([0.0], [0.3], orn.Cosine()), 0.4
    level, one = orn.Cosine().level(t), torch.ones(1, 1, dtype=torch.float64)
    variance = 0.3 * float(level.signal) ** 2 + float(level.noise) ** 2
    for eta in (0.4, 0.04, 0.004):
        slope = 1 + eta / 2 * float(model(one, t).score)
        rest = eta / (1 - slope**2)
        assert rest == pytest.approx(variance / (1 - eta / (4 * variance)), rel=1e-9)
    assert rest == pytest.approx(variance, rel=2e-3)


@pytest.mark.parametrize("name", ["cosine", "linear", "chain", "exploding"])
def test_every_strength_of_noise_has_the_same_marginals(name):
    """Back by dz = [f z - (1 + share) / 2 g^2 score] dt + sqrt(share) g dv: mean and variance follow the forward ones.

    On Gaussian data the drift is affine, so d mean / dt = drift(mean) and dV / dt = 2 slope V - share g^2 for every
    share (Song et al. 2021, equation 13 for 0, Anderson 1982 for 1); the forward ones by differences of the levels.
    """
    schedule = {"cosine": orn.Cosine(), "linear": orn.Linear(), "chain": orn.Chain.linear(),
                "exploding": orn.Exploding()}[name]
    model, h = orn.ExactGaussian([0.7], [0.3], schedule), 1e-6
    for t in (0.2001, 0.5001, 0.8001):  # inside a step of the chain
        before, now, after = (schedule.level(as_time(one)) for one in (t - h, t, t + h))
        mean, variance = ([float(one.signal) * 0.7 for one in (before, now, after)],
                          [float(one.signal**2 * 0.3 + one.noise**2) for one in (before, now, after)])
        f, g_squared = (float(one) for one in schedule.rates(t))
        z = torch.tensor([[mean[1]], [mean[1] + 1.0]], dtype=torch.float64)
        for share in (0.0, 0.5, 1.0, 2.0):
            at_mean, beside = (f * z - (1 + share) / 2 * g_squared * model(z, t).score)[:, 0].tolist()
            assert at_mean == pytest.approx((mean[2] - mean[0]) / (2 * h), rel=1e-5, abs=1e-9 * g_squared)
            moved = 2 * (beside - at_mean) * variance[1] - share * g_squared
            assert moved == pytest.approx((variance[2] - variance[0]) / (2 * h), rel=1e-5)


@pytest.mark.parametrize(("call", "message"), [
    (lambda model, z: orn.explicit_score_loss(model, model, z, 0.0), "every time must be above 0"),
    (lambda model, z: orn.denoising_score_loss(model, z, 0.0, z), "every time must be above 0"),
    (lambda model, z: orn.implicit_score_loss(model, z, 0.0), "every time must be above 0"),
    (lambda model, z: orn.explicit_score_loss(model, mixture(orn.Linear(), 2), z, 0.5), "on another schedule"),
    (lambda model, z: orn.denoising_score_loss(model, z, 0.5, z[:, :1]), "eps has shape"),
    (lambda model, z: orn.implicit_score_loss(model, z, 0.5, probes=-1), "probes is -1"),
    (lambda model, z: orn.level_losses(model, z, []), "at least one finite number"),
    (lambda model, z: orn.level_losses(model, z, [0.0], draws=0), "draws is 0"),
    (lambda *_: orn.implicit_score_loss(mixture(orn.Cosine(), 65), torch.zeros(1, 65), 0.5), "65 values"),
])
def test_what_has_no_score_is_refused(call, message):
    model = mixture(orn.Cosine(), 2)
    with pytest.raises(ValueError, match=message):
        call(model, model.draw(3))
