"""Schedules: the book's chain as a path in continuous time (20.3), (20.7), and the grids that walk it."""

from __future__ import annotations

import copy
import math
from decimal import localcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

import ornstein as orn
from conftest import CHAINS, PRESERVING, SCHEDULES, Squared, exact_alpha
from ornstein.diffusion.grid import RHO, SPACINGS, walk_moments
from ornstein.diffusion.level import per_row

F64 = torch.float64
any_schedule = st.sampled_from(sorted(SCHEDULES)).map(SCHEDULES.get)
any_time = st.floats(0, 1, allow_subnormal=False)
inner_time = st.floats(1e-6, 1 - 1e-6)
betas = st.lists(st.floats(1e-7, 0.999), min_size=1, max_size=40)


def chain_reference(chain: orn.Chain) -> tuple[torch.Tensor, torch.Tensor]:
    """sqrt(alpha_n) and 1 - alpha_n, n = 0..T, rounded once from 60 digits."""
    with localcontext() as context:
        context.prec = 60
        alpha = exact_alpha(chain.beta)
        return (torch.tensor([float(value.sqrt()) for value in alpha], dtype=F64),
                torch.tensor([float(1 - value) for value in alpha], dtype=F64))


def check_nodes(chain: orn.Chain) -> None:
    signal, lost = chain_reference(chain)
    level = chain.level(torch.arange(chain.T + 1, dtype=F64) / chain.T)
    assert_close(level.signal, signal, rtol=1e-12, atol=0)
    assert_close(level.noise**2, lost, rtol=1e-12, atol=0)
    assert_close(chain.alpha, signal**2, rtol=2e-12, atol=0)


@pytest.mark.parametrize("name", CHAINS)
def test_step_n_of_a_chain_is_time_n_over_T(name):
    """Signal sqrt(alpha_n) and variance 1 - alpha_n (20.7) at n / T, each to 1e-12 relative."""
    check_nodes(CHAINS[name])
    assert CHAINS[name].alpha[0] == 1


@given(betas)
def test_step_n_of_any_chain_is_time_n_over_T(beta):
    check_nodes(orn.Chain(beta))


def test_linear_chain_has_the_betas_of_ho():
    chain = orn.Chain.linear(T=5, first=0.1, last=0.3)
    assert_close(chain.beta, torch.tensor([0.1, 0.15, 0.2, 0.25, 0.3], dtype=F64), rtol=1e-15, atol=0)
    assert_close(orn.Chain.linear().beta[[0, 999]], torch.tensor([1e-4, 0.02], dtype=F64), rtol=1e-15, atol=0)


@given(betas, st.floats(0, 1))
def test_log_alpha_is_linear_between_the_nodes_of_a_chain(beta, part):
    chain = orn.Chain(beta)
    node = torch.arange(chain.T, dtype=F64)
    log_alpha = 2 * chain.level((node + part) / chain.T).signal.log()
    between = (1 - part) * chain.alpha[:-1].log() + part * chain.alpha[1:].log()
    assert_close(log_alpha, between, rtol=1e-9, atol=1e-12)


@given(any_time)
def test_levels_of_the_named_schedules(t):
    """signal^2 + noise^2 = 1 if variance is preserved; signal + noise = 1 on the straight path; exploding keeps x."""
    for schedule in PRESERVING.values():
        assert float(schedule.level(t).radius) == pytest.approx(1, rel=1e-14)
    straight, exploding = orn.Linear().level(t), orn.Exploding(0.01, 5.0).level(t)
    assert float(straight.signal + straight.noise) == pytest.approx(1, rel=1e-15)
    assert float(straight.noise) == t
    assert exploding.signal == 1
    assert float(exploding.noise) == pytest.approx(0.01 * ((1 + 500) ** t - 1), rel=1e-9, abs=1e-13)
    assert float(orn.Cosine().level(t).angle) == pytest.approx(t * math.pi / 2, rel=1e-14)


def test_time_0_is_the_data_themselves(schedule):
    assert schedule.level(0.0) == (1, 0)
    assert schedule.log_snr(0.0) == math.inf


def test_the_far_ends():
    assert orn.Cosine().level(1.0) == (0, 1)
    assert orn.Linear().level(1.0) == (0, 1)
    assert float(orn.Exploding(0.01, 5.0).level(1.0).noise) == pytest.approx(5, rel=1e-14)
    assert orn.Cosine().log_snr(1.0) == orn.Linear().log_snr(1.0) == -math.inf


def test_log_snr_falls_strictly(schedule):
    assert (schedule.log_snr(torch.linspace(0, 1, 4001, dtype=F64)).diff() < 0).all()


@given(any_schedule, any_time)
def test_a_level_is_a_radius_and_an_angle(schedule, t):
    level = schedule.level(t)
    assert_close(level.radius * level.angle.cos(), level.signal, rtol=1e-14, atol=1e-15 * float(level.radius))
    assert_close(level.radius * level.angle.sin(), level.noise, rtol=1e-14, atol=0)
    if t > 0 and level.signal > 1e-3 * level.radius:  # nearer to pi / 2 the angle itself rounds
        assert_close(level.log_snr, -2 * level.angle.tan().log(), rtol=1e-11, atol=1e-11)


@given(any_schedule, st.floats(1e-8, 1))
def test_time_inverts_log_snr(schedule, t):
    assert float(schedule.time(schedule.log_snr(t))) == pytest.approx(t, rel=1e-9, abs=1e-13)


def test_log_snr_beyond_the_ends_is_an_end_and_nan_is_refused(schedule):
    times = schedule.time(torch.tensor([math.inf, -math.inf, 1e4, -1e4], dtype=F64))
    assert times[0] == 0
    assert times[1] == 1
    assert times[2] == pytest.approx(0, abs=1e-30)
    assert times[3] == 1
    with pytest.raises(ValueError, match="nan"):
        schedule.time(math.nan)


@given(any_schedule, st.lists(any_time, min_size=1, max_size=5), st.sampled_from([torch.float32, torch.bfloat16]))
def test_levels_are_computed_in_double_and_cast_last(schedule, times, dtype):
    """Low-precision answers are the rounding of the float64 answers at the same (low-precision) times."""
    low = torch.tensor(times, dtype=dtype)
    exact, cast = schedule.level(low.double()), schedule.level(low)
    assert torch.equal(cast.signal, exact.signal.to(dtype))
    assert torch.equal(cast.noise, exact.noise.to(dtype))
    assert torch.equal(schedule.log_snr(low), schedule.log_snr(low.double()).to(dtype))


@given(any_schedule, st.lists(any_time, min_size=1, max_size=5))
def test_a_time_is_a_number_a_tensor_or_a_batch(schedule, times):
    batch = schedule.level(torch.tensor(times, dtype=F64))
    for row, t in enumerate(times):
        for one in (schedule.level(t), schedule.level(torch.tensor(t, dtype=F64))):
            assert one.signal.dtype == F64
            assert one.signal.shape == ()
            assert_close(one.signal, batch.signal[row], rtol=1e-14, atol=1e-300)
            assert_close(one.noise, batch.noise[row], rtol=1e-14, atol=1e-300)
    whole = schedule.level(1)
    assert (whole.signal, whole.noise) == tuple(schedule.level(1.0))


def test_times_outside_0_to_1_are_refused(schedule):
    for t in (-1e-9, 1 + 1e-9, math.nan, math.inf, [0.5, 2.0]):
        for ask in (schedule.level, schedule.log_snr, schedule.rates):
            with pytest.raises(ValueError, match=r"t is .*\[0, 1\]"):
                ask(torch.tensor(t, dtype=F64))


def test_a_level_for_another_number_of_rows_is_refused():
    assert per_row(torch.ones(3), torch.ones(3, 2, 2)).shape == (3, 1, 1)
    with pytest.raises(ValueError, match=r"shape \(3,\)"):
        per_row(torch.ones(3), torch.ones(4, 2))


@given(st.sampled_from(sorted(CHAINS)).map(CHAINS.get), st.data())
def test_rates_of_a_chain_are_constant_inside_a_step(chain, data):
    """The SDE inside step n has g^2 = -2 f = -T log(1 - beta_n), at t = 0 as well."""
    n = data.draw(st.integers(1, chain.T))
    t = (n - 1 + data.draw(st.floats(0.01, 0.99))) / chain.T
    rate = -chain.T * math.log1p(-float(chain.beta[n - 1]))
    drift, squared = chain.rates(t)
    assert float(squared) == pytest.approx(rate, rel=1e-11)
    assert float(drift) == pytest.approx(-rate / 2, rel=1e-11)
    assert float(chain.rates(0.0)[1]) == pytest.approx(-chain.T * math.log1p(-float(chain.beta[0])), rel=1e-12)


@given(inner_time)
def test_rates_in_closed_form(t):
    exploding, growth = orn.Exploding(0.01, 5.0), math.log1p(500)
    sigma = 0.01 * math.expm1(t * growth)
    own, slope = 1.5 * t + 0.5 * t**3, 1.5 + 1.5 * t**2
    drift = -1.8 * t / (1 - 0.9 * t**2)
    for schedule, f, g2 in (
        (orn.Cosine(), -math.pi / 2 * math.tan(math.pi / 2 * t), math.pi * math.tan(math.pi / 2 * t)),
        (orn.Linear(), -1 / (1 - t), 2 * t / (1 - t)),
        (exploding, 0.0, 2 * sigma * (sigma + 0.01) * growth),
        (Squared(), drift, 2 * own * slope - 2 * drift * own**2),
    ):
        got = schedule.rates(t)
        assert float(got[0]) == pytest.approx(f, rel=1e-9)
        assert float(got[1]) == pytest.approx(g2, rel=1e-9)


@given(any_schedule, st.lists(st.floats(0.01, 0.98), min_size=1, max_size=4))
def test_rates_are_the_limit_of_a_short_step(schedule, times):
    """keep = 1 + f dt and added = g^2 dt to first order, by central time, to the dt^2 that is left out."""
    t, dt = torch.tensor(times, dtype=F64), 1e-5
    if isinstance(schedule, orn.Chain):  # a step that straddles a node has two rates
        t = (t * schedule.T).floor() / schedule.T + 0.5 / schedule.T
    drift, squared = schedule.rates(t)
    early, late = schedule.level(t - dt / 2), schedule.level(t + dt / 2)
    keep = late.signal / early.signal
    assert_close(keep.log() / dt, drift, rtol=1e-5, atol=1e-8)
    added = late.noise**2 - keep**2 * early.noise**2
    # A step adds g^2 dt and takes back the part of it that it shrinks: f g^2 dt^2 at most.
    assert ((added / dt - squared).abs() <= 1e-4 * squared + 2 * dt * drift.abs() * squared + 1e-5).all()


def test_rates_at_a_singular_end_are_refused():
    for schedule in (orn.Linear(), orn.Cosine()):
        with pytest.raises(ValueError, match="singular at t = "):
            schedule.rates(1.0)
        with pytest.raises(ValueError, match="singular at t = "):
            schedule.rates(torch.tensor([0.5, 1.0], dtype=F64))


@pytest.mark.parametrize(("beta", "message"), [
    ([], "shape"), ([[0.1]], "shape"), ([0.1, 0.0], r"beta\[1\] is 0.0"), ([1.0], r"beta\[0\] is 1.0"),
    ([1.0, 0.1], r"beta\[0\] is 1.0"), ([0.1, 1.0, 1.0], r"beta\[1\] is 1.0"),
    ([5e-324], r"beta\[0\] is 5e-324"), ([0.5, 1e-20], r"beta\[1\] is 1e-20"), ([True], "beta"), ("0.1", "beta"),
    ([-0.1], r"beta\[0\] is -0.1"), ([0.1, math.nan], r"beta\[1\] is nan"), ([0.99] * 1000, "float64 holds no signal"),
])
def test_impossible_betas_are_refused(beta, message):
    with pytest.raises(ValueError, match=message):
        orn.Chain(beta)


def test_a_chain_may_take_all_signal_in_its_last_step_and_has_no_time_within_it():
    """Its nodes are the chain's; grids of any spacing pass over the last step, and walks end in the law of the data."""
    chain = orn.Chain([0.1, 0.2, 0.4, 0.6, 1.0])
    nodes = torch.arange(6, dtype=F64) / 5
    assert_close(chain.level(nodes).signal ** 2, torch.cumprod(torch.tensor([1, 0.9, 0.8, 0.6, 0.4, 0], dtype=F64), 0))
    assert chain.log_snr(1.0) == -math.inf
    for call in (chain.level, chain.rates):
        with pytest.raises(ValueError, match="last step, whose beta is 1"):
            call(0.81)
    assert float(chain.time(-20.0)) == 0.8
    for spacing in SPACINGS:
        for steps in (1, 2, 7, 60):
            times = orn.grid(chain, steps, spacing)
            assert (len(times), float(times[0]), float(times[-1])) == (steps + 1, 1, 0)
            assert (times.diff() < 0).all()
            assert not ((times > 0.8) & (times < 1)).any()
    law = orn.ExactGaussian(torch.zeros(2), torch.tensor([0.5, 2.0]), chain)
    assert_close(orn.sample(law, 2000, nfe=20).double().var(0), torch.tensor([0.5, 2.0], dtype=F64), rtol=0.1, atol=0)


def test_impossible_settings_are_refused():
    for T in (0, 2.0, 1e400, True, "3", 10**9):
        with pytest.raises(ValueError, match="T is"):
            orn.Chain.linear(T=T)
    for low, high in ((0, 1), (-1, 1), (2, 1), (1, 1), (1, math.inf), (math.nan, 1), (1e-308, 1e308), (5e-324, 1),
                      (1, 1e200), ("1", 2), (True, 2)):
        with pytest.raises(ValueError, match="sigma_m"):
            orn.Exploding(low, high)


@given(any_schedule)
def test_a_schedule_is_built_again_from_its_settings(schedule):
    again = type(schedule)(**schedule.settings())
    t = torch.linspace(0, 1, 50, dtype=F64)
    assert torch.equal(again.log_snr(t), schedule.log_snr(t))


@given(any_schedule, st.integers(1, 200), st.sampled_from(SPACINGS))
def test_a_grid_falls_from_1_to_0(schedule, steps, spacing):
    times = orn.grid(schedule, steps, spacing)
    assert times.shape == (steps + 1,)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()


@given(any_schedule, st.integers(4, 200))
def test_grids_are_even_in_their_measure(schedule, steps):
    """Even in time; in angle, 0 included; in log SNR or a power of noise / signal, between a noisy and a clean end."""
    assert_close(orn.grid(schedule, steps, "time").diff(), torch.full((steps,), -1 / steps, dtype=F64))
    angle = schedule.level(orn.grid(schedule, steps, "angle")).angle
    assert_close(angle.diff(), (-angle[0] / steps).expand(steps), rtol=1e-9, atol=1e-13)
    for spacing, measure in (("log_snr", torch.positive), ("karras", lambda log_snr: (-log_snr / 2 / RHO).exp())):
        # The first time is left out where it is pure noise, or noisier than the grid's own noisy end.
        places = measure(schedule.log_snr(orn.grid(schedule, steps, spacing)[1:-1]))
        gap = (places[-1] - places[0]) / (steps - 2)
        assert_close(places.diff(), gap.expand(steps - 2), rtol=1e-7, atol=1e-9 * float(gap.abs()))
        first = measure(schedule.log_snr(1.0))
        assert (places[0] - first) / gap > 1 - 1e-7 or not first.isfinite()


@pytest.mark.parametrize("spacing", ["log_snr", "karras"])
def test_grids_in_log_snr_leave_less_out_at_either_end_as_steps_grow(schedule, spacing):
    """So that no error stays behind: the last noise falls as 1 / steps, and pure noise is left ever later."""
    fewer, more = (schedule.log_snr(orn.grid(schedule, steps, spacing)) for steps in (50, 100))
    assert float((more[-2] - fewer[-2]) / 2) == pytest.approx(math.log(2), abs=1e-6)
    if not schedule.log_snr(1.0).isfinite():
        assert float((fewer[1] - more[1]) / 2) > 0.9 * math.log(2)


tiny = st.builds(lambda power, digit: digit * 10.0**power, st.floats(-320, -0.01), st.floats(0.5, 1))


@given(st.lists(tiny, min_size=1, max_size=4) | st.tuples(tiny, tiny.map(lambda value: 1 / max(value, 1e-300))),
       st.integers(1, 60), st.sampled_from(SPACINGS))
def test_a_schedule_that_is_accepted_falls_and_can_be_walked(numbers, steps, spacing):
    """Betas and ends over all magnitudes of float64: refused, or good for every grid and for samples."""
    try:
        schedule = orn.Exploding(*numbers) if isinstance(numbers, tuple) else orn.Chain(numbers)
    except ValueError:
        return
    times = orn.grid(schedule, steps, spacing)
    assert times[0] == 1
    assert times[-1] == 0
    assert (times.diff() < 0).all()
    assert (schedule.log_snr(torch.linspace(0, 1, 33, dtype=F64)).diff() < 0).all()
    x = orn.sample(orn.ExactGaussian(torch.zeros(2), torch.ones(2), schedule), 2, times=times)
    assert x.isfinite().all()


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_schedule_that_ends_almost_clean_still_has_a_grid(spacing):
    times = orn.grid(orn.Chain([1e-5]), 7, spacing)
    assert (times.diff() < 0).all()
    assert times[0] == 1
    assert times[-1] == 0


def test_impossible_grids_are_refused(schedule):
    with pytest.raises(ValueError, match="steps is 0"):
        orn.grid(schedule, 0)
    with pytest.raises(ValueError, match=r"steps is 2\.5"):
        orn.grid(schedule, 2.5)
    with pytest.raises(ValueError, match="did you mean 'angle'"):
        orn.grid(schedule, 4, "angel")


def test_a_grid_of_numpy_integers_is_a_grid(schedule):
    assert torch.equal(orn.grid(schedule, np.int64(4)), orn.grid(schedule, 4))


def test_a_time_of_a_walk_knows_its_level_on_its_own_schedule_only(schedule):
    """To rounding that of its number; another schedule, and what is made of the time, know nothing of it."""
    times, other = torch.tensor([1.0, 0.6, 0.1, 0.0], dtype=F64), orn.Exploding(0.01, 3.0)
    for moment in walk_moments(schedule, times, torch.zeros(2, 3)):
        time, number = moment.clock, float(moment)
        level = orn.Level(*(torch.tensor(value, dtype=F64) for value in (moment.signal, moment.noise)))
        assert_close(schedule.level(time), level, rtol=0, atol=0)
        assert_close(level, schedule.level(number), rtol=1e-14, atol=1e-16)
        assert_close(other.level(time), other.level(number), rtol=0, atol=0)
        assert_close(schedule.level(time / 2), schedule.level(number / 2), rtol=0, atol=0)
        for name in ("radius", "angle"):
            assert getattr(moment, name) == pytest.approx(float(getattr(level, name)), rel=1e-15)
        assert 2 * moment.log_ratio == pytest.approx(float(level.log_snr), rel=1e-14)
        assert copy.deepcopy(moment).signal == moment.signal


def test_a_walk_that_loses_its_data_on_the_way_is_refused():
    class Empty(orn.Schedule):
        def level(self, t):
            return orn.Level((1 - 2 * t).clamp(min=0), t)

    with pytest.raises(ValueError, match=r"signal is 0 at t = 0\.75; only the first time"):
        orn.sample(orn.ExactGaussian([0.0], [1.0], Empty()), 2, sampler="ancestral", times=[1, 0.75, 0.25, 0])


@pytest.mark.parametrize("spacing", SPACINGS)
def test_a_grid_starts_where_it_is_told(schedule, spacing):
    """Strictly falling from there to 0, for few steps and for many; at its angle the share of the angle there."""
    for start in (1.0, 0.7, 0.02):
        for steps in (1, 2, 7, 60):
            times = orn.grid(schedule, steps, spacing, start)
            assert times[[0, -1]].tolist() == [start, 0]
            assert len(times) == steps + 1
            assert bool((times.diff() < 0).all())
            if spacing == "angle":
                there = schedule.level(torch.tensor(start, dtype=F64)).angle
                assert_close(schedule.level(times).angle, there * torch.linspace(1, 0, steps + 1, dtype=F64),
                             rtol=0, atol=1e-9)
    with pytest.raises(ValueError, match=r"start is 1\.5; it must lie in \(0, 1\]"):
        orn.grid(schedule, 4, spacing, 1.5)
