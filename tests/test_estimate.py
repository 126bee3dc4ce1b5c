"""One answer, four readings: x, eps, v and score of an estimate, and what each costs in float32."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

import ornstein as orn
from conftest import SCHEDULES, normal

F64 = torch.float64
any_schedule = st.sampled_from(sorted(SCHEDULES)).map(SCHEDULES.get)
inner = st.lists(st.floats(1e-4, 1 - 1e-4), min_size=6, max_size=6).map(lambda t: torch.tensor(t, dtype=F64))


def latent(level: orn.Level, shape: tuple[int, ...] = (6, 2, 3)) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean data, noise, and z = signal x + noise eps."""
    x, eps = normal(*shape, seed=1), normal(*shape, seed=2)
    wide = level.fit(x)
    return x, eps, wide.signal * x + wide.noise * eps


def velocity(x: torch.Tensor, eps: torch.Tensor, level: orn.Level) -> torch.Tensor:
    """cos(angle) eps - sin(angle) x."""
    angle = level.angle.reshape(-1, *[1] * (x.ndim - 1))
    return angle.cos() * eps - angle.sin() * x


@given(any_schedule, inner)
def test_every_constructor_gives_all_four_readings(schedule, t):
    """From the true x, eps or v of z = signal x + noise eps come the same x, eps, v and score -eps / noise."""
    level = schedule.level(t)
    x, eps, z = latent(level)
    v, wide = velocity(x, eps, level), level.fit(z)
    constructors = [(orn.Estimate.from_x, x), (orn.Estimate.from_v, v)]
    if (level.signal / level.radius >= 1e-3).all():
        constructors.append((orn.Estimate.from_eps, eps))
    for build, value in constructors:
        # Reading back divides by signal or noise once, at worst by 1e-3 (eps) or by the least noise of t = 1e-4.
        loose = 1e-14 / float(min((level.signal / level.radius).min() if build == orn.Estimate.from_eps else 1,
                                  (level.noise / level.radius).min() if build == orn.Estimate.from_x else 1))
        estimate = build(value, z, level)
        assert_close(estimate.v, v, rtol=0, atol=10 * loose)
        assert_close(estimate.x, x, rtol=0, atol=10 * loose)
        assert_close(estimate.eps, eps, rtol=0, atol=10 * loose)
        assert_close(estimate.score * wide.noise, -eps, rtol=0, atol=10 * loose)


@given(any_schedule, inner)
def test_readings_always_mix_back_to_the_latent(schedule, t):
    """signal x-hat + noise eps-hat = z for any answer at all, right or wrong."""
    level = schedule.level(t)
    _, _, z = latent(level)
    for build in (orn.Estimate.from_v, orn.Estimate.from_x):
        estimate, wide = build(normal(*z.shape, seed=9), z, level), level.fit(z)
        again = wide.signal * estimate.x + wide.noise * estimate.eps
        assert_close(again, z, rtol=1e-11, atol=1e-11 * float(level.radius.max()))


def test_without_noise_x_is_the_latent_and_v_is_zero(schedule):
    """An answer of x where nothing is hidden carries no information: v = 0, x-hat = z."""
    z = normal(4, 3)
    estimate = orn.Estimate.from_x(z + 5, z, schedule.level(0.0))
    assert (estimate.v == 0).all()
    assert torch.equal(estimate.x, z)
    assert (estimate.eps == 0).all()


def test_a_batch_may_mix_levels_with_and_without_noise(schedule):
    z, x = normal(2, 3), normal(2, 3, seed=1)
    estimate = orn.Estimate.from_x(x, z, schedule.level(torch.tensor([0.0, 0.4], dtype=F64)))
    assert (estimate.v[0] == 0).all()
    assert_close(estimate.x, torch.stack([z[0], x[1]]), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("schedule", [orn.Cosine(), orn.Linear()], ids=["cosine", "linear"])
def test_a_prediction_of_eps_is_refused_where_it_says_nothing(schedule):
    """signal / hypot(signal, noise) below 1e-3 is refused, one row is enough; above it is taken."""
    z = normal(2, 3)
    for level in (schedule.level(1.0), schedule.level(torch.tensor([0.5, 1.0], dtype=F64)),
                  orn.Level(torch.tensor(0.9e-3, dtype=F64), torch.tensor(1.0, dtype=F64))):
        with pytest.raises(ValueError, match="prediction of eps"):
            orn.Estimate.from_eps(z, z, level)
    edge = orn.Level(torch.tensor(1.1e-3, dtype=F64), torch.tensor(1.0, dtype=F64))
    assert_close(orn.Estimate.from_eps(z, z, edge).eps, z, rtol=1e-12, atol=1e-12)


def test_the_score_is_refused_without_noise(schedule):
    z = normal(2, 3)
    for t in (torch.tensor(0.0), torch.tensor([0.5, 0.0])):
        with pytest.raises(ValueError, match="noise is 0"):
            _ = orn.Estimate.from_v(z, z, schedule.level(t)).score


@given(any_schedule, st.floats(0, 1, allow_subnormal=False))
def test_v_loses_nothing_in_float32_at_any_level(schedule, t):
    """Reading x and eps from a float32 v is right to a few roundings from t = 0 to t = 1, exact ends included."""
    exact = schedule.level(t)
    x, eps, z = latent(exact)
    low = orn.Level(exact.signal.float(), exact.noise.float())
    estimate = orn.Estimate.from_v(velocity(x, eps, exact).float(), z.float(), low)
    size = float(x.abs().max() + eps.abs().max())
    assert (estimate.x - x).abs().max() < 4 * torch.finfo(torch.float32).eps * size
    assert (estimate.eps - eps).abs().max() < 4 * torch.finfo(torch.float32).eps * size


def test_x_and_eps_lose_digits_where_v_does_not():
    """The trap that decides for v: at share 1e-4 of noise (of signal, 1e-3) float32 x (eps) costs 100 times more."""
    for share, build, truth, reading in ((1e-4, orn.Estimate.from_x, "x", "eps"),
                                         (math.pi / 2 - 1.1e-3, orn.Estimate.from_eps, "eps", "x")):
        angle = torch.tensor(share, dtype=F64)
        level = orn.Level(angle.cos(), angle.sin())
        x, eps, z = latent(level)
        true = {"x": x, "eps": eps}
        low = orn.Level(level.signal.float(), level.noise.float())
        through = build(true[truth].float(), z.float(), low)
        direct = orn.Estimate.from_v(velocity(x, eps, level).float(), z.float(), low)
        lost, kept = ((getattr(one, reading) - true[reading]).abs().max() for one in (through, direct))
        assert kept < 1e-6
        assert lost > 30 * kept


def test_levels_of_other_shapes_are_refused():
    level = orn.Level(torch.ones(3), torch.ones(3))
    for build in (orn.Estimate.from_v, orn.Estimate.from_x, orn.Estimate.from_eps):
        with pytest.raises(ValueError, match=r"shape \(3,\)"):
            build(torch.ones(2, 4), torch.ones(2, 4), level)
