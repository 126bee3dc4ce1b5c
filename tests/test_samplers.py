"""Samplers: measured orders, closed-form ends, budgets kept, pictures that do not depend on their neighbours."""

from __future__ import annotations

import functools
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from samplers import mixture
from scipy.integrate import solve_ivp
from torch import nn
from torch.testing import assert_close

import ornstein as orn
from conftest import SCHEDULES, normal
from ornstein.diffusion.grid import walk_moments
from ornstein.diffusion.samplers.loop import SAMPLERS
from ornstein.diffusion.samplers.multistep import response
from ornstein.diffusion.samplers.rule import Call

F64 = torch.float64
ORDERED = ["chain-linear", "cosine", "linear", "exploding", "own"]
FEW = {name: SCHEDULES[name] for name in ("chain-2", "exploding", "own")}  # of three kinds
DETERMINISTIC = [name for name, about in orn.samplers().items() if not about["stochastic"]]
TURNING = [name for name in DETERMINISTIC if orn.samplers()[name]["spacing"] == "angle"]
MEAN, POWER = torch.tensor([0.5, -1.0], dtype=F64), torch.tensor([0.3, 1.7], dtype=F64)


def gaussian(schedule=None):
    return orn.ExactGaussian(MEAN, POWER, schedule or orn.Cosine())


def ode_end(mixture: orn.ExactMixture, angle: float, y: np.ndarray, end: float = 0.0) -> np.ndarray:
    """Where dy / d(angle) = v leads from `angle` to `end`, by an 8th-order solver and a velocity written out here."""
    weight, mean, variance = (value.numpy() for value in (mixture.weight, mixture.mean, mixture.variance))

    def velocity(a, flat):
        c, s, y = math.cos(a), math.sin(a), flat.reshape(-1, 2)
        total = c**2 * variance + s**2
        apart = y[:, None] - c * mean
        log = np.log(weight) - (apart**2).sum(2) / (2 * total) - np.log(total)
        share = np.exp(log - log.max(1, keepdims=True))
        share /= share.sum(1, keepdims=True)
        x = (share[..., None] * (mean + (c * variance / total)[:, None] * apart)).sum(1)
        eps = (share[..., None] * ((s / total)[:, None] * apart)).sum(1)
        return (c * eps - s * x).ravel()

    return solve_ivp(velocity, (angle, end), y.ravel(), method="DOP853", rtol=1e-12, atol=1e-12).y[:, -1].reshape(-1, 2)


START = normal(6, 2, seed=11)


@functools.cache
def six(name: str) -> orn.ExactMixture:
    """The mixture of the sampler benchmark on a schedule."""
    return mixture(SCHEDULES[name], 2, 6, 0.3, 0.6, seed=7)


@functools.cache
def end_of(name: str, angle: float = 0.0) -> np.ndarray:
    """Where the flow of that mixture leads START."""
    return ode_end(six(name), float(SCHEDULES[name].level(1.0).angle), START.numpy(), angle)


@pytest.mark.parametrize("sampler", TURNING)
def test_samplers_have_the_order_they_claim(sampler):
    """The error against the ODE's own end falls as steps^-order, within 0.25, on a mixture, on its own grid."""
    for name in ORDERED:
        errors = []
        for steps in (96, 192):
            z = START * SCHEDULES[name].level(1.0).radius
            x = orn.sample(six(name), sampler=sampler, steps=steps, z=z, batch=len(z))
            errors.append(float(np.sqrt(((x.numpy() - end_of(name)) ** 2).mean())))
        assert abs(math.log2(errors[0] / errors[1]) - orn.samplers()[sampler]["order"]) < 0.25, name


@pytest.mark.parametrize("sampler", TURNING)
@pytest.mark.parametrize("sizes", ["shrinking", "alternating"])
def test_orders_hold_for_steps_of_any_sizes(sampler, sizes):
    """As above on angles (k / steps)^1.7, and on steps of sizes 1, 3, 1, 3, ...: no rule may assume equal ones."""
    errors = []
    for steps in (128, 256):
        even = torch.linspace(1, 0, steps + 1, dtype=F64)
        uneven = even - even.new_tensor([0, 0.5 / steps]).repeat(steps)[:steps + 1]
        times = even**1.7 if sizes == "shrinking" else uneven
        x = orn.sample(six("cosine"), sampler=sampler, times=times, z=START, batch=len(START))
        errors.append(float(np.sqrt(((x.numpy() - end_of("cosine")) ** 2).mean())))
    assert abs(math.log2(errors[0] / errors[1]) - orn.samplers()[sampler]["order"]) < 0.25


@pytest.mark.parametrize(("sampler", "name"), [
    # A rule in the log SNR sees the schedule as its times alone: one of each kind is taken to all kinds of schedule.
    (sampler, name) for sampler in DETERMINISTIC if sampler not in TURNING for name in ("cosine", "exploding", "own")
    if name == "cosine" or sampler in ("ddim", "deis", "unipc") or (sampler, name) == ("dpm++2s", "exploding")])
def test_samplers_in_log_snr_have_the_order_they_claim(name, sampler):
    """As above for rules whose steps are lengths of log SNR: even in it from next to no signal to 7, compared there.

    On a grid that reaches to 0 the last steps do not shrink in the log SNR, which costs a factor log(steps) squared.
    A rule that looks at three calls and corrects nothing starts with one step of order 1. Where signal is left at
    t = 1, as in "own", its error of second order stays; elsewhere that step costs little, which twice the steps show.
    """
    schedule = SCHEDULES[name]
    level, errors = schedule.level(1.0), []
    noisy, uncorrected = float(schedule.log_snr(1.0)), sampler in ("deis", "dpm++3m")
    for steps in (192, 384) if uncorrected and name == "cosine" else (96, 192):
        inner = schedule.time(torch.linspace(max(noisy, -40), 7, steps, dtype=F64))[1 if noisy > -40 else 0:]
        *_, last, _ = orn.generate(six(name), sampler=sampler, times=[1, *inner.tolist(), 0], z=START * level.radius,
                                     batch=len(START))
        there = schedule.level(last.time)
        end = end_of(name, float(there.angle))
        errors.append(float(np.sqrt((((last.latent / there.radius).numpy() - end) ** 2).mean())))
    order = 2 if name == "own" and uncorrected else orn.samplers()[sampler]["order"]
    assert abs(math.log2(errors[0] / errors[1]) - order) < 0.25


def test_many_steps_land_on_the_probability_flow():
    """400 steps of the second-order default are within 4e-5 of an independent solution of dy / d(angle) = v."""
    z = START * SCHEDULES["chain-linear"].level(1.0).radius
    x = orn.sample(six("chain-linear"), sampler="adams", steps=400, z=z, batch=len(z))
    assert_close(x.numpy(), end_of("chain-linear"), rtol=0, atol=4e-5)


@pytest.mark.parametrize("sampler", DETERMINISTIC)
def test_on_gaussian_data_the_flow_is_a_map_of_quantiles(sampler):
    """The probability flow moves N(signal mean, signal^2 p + noise^2) onto N(mean, p) direction by direction."""
    # A first-order rule is 4e-2 off at 40 steps, a second-order one less than a tenth of that.
    off = 1e-1 if orn.samplers()[sampler]["order"] == 1 else 1.2e-2
    for name, schedule in FEW.items():
        level, z = schedule.level(1.0), schedule.level(1.0).radius * normal(5, 2)
        times = orn.grid(schedule, 40, "angle")
        x = orn.sample(gaussian(schedule), sampler=sampler, times=times, z=z, batch=len(z))
        white = (z - level.signal * MEAN) / (level.signal**2 * POWER + level.noise**2).sqrt()
        assert float((x - (MEAN + POWER.sqrt() * white)).abs().max()) < off, name


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_data_of_one_point_are_sampled_exactly(sampler):
    """Every sampler, from one step on and at any times, even where float64 cannot tell two levels of noise apart."""
    point = normal(1, 3, seed=3)
    for name, schedule in SCHEDULES.items():
        data, law = orn.ExactDataset(point, schedule), orn.ExactGaussian(point[0], torch.zeros(3), schedule)
        times = {"times": torch.linspace(1, 0, 4, dtype=F64)}
        for denoiser, walk in ((data, {"steps": 1}), (data, times), *[(law, times)] * (name in FEW)):
            x = orn.sample(denoiser, 4, sampler=sampler, batch=4, **walk)
            assert float((x - point).abs().max()) <= 1e-11, (name, walk)


@given(growth=st.floats(1e-3, 1e3), ratio=st.floats(0, 0.99), noise=st.floats(-3, 3).filter(lambda e: abs(e) > 1e-3))
def test_a_gaussian_value_responds_as_its_own_conditional_mean_does(growth, ratio, noise):
    """Its x-hat moves by g / (1 + g) of z / signal, found back from how far x-hat moved along the flow."""
    moved = growth * noise * (1 - ratio * math.sqrt((growth + 1) / (growth * ratio**2 + 1)))
    told = response(*(torch.tensor(value, dtype=F64) for value in (moved, noise)), ratio)
    assert_close(float(told), growth / (1 + growth), rtol=0, atol=1e-9)


def test_what_no_gaussian_does_has_the_nearest_response():
    """Moved not at all or backwards: none; moved too far: all. Never NaN, without noise or without a step either."""
    moved, noise = torch.tensor([0.0, -1.0, 9.0, 0.0, 9.0, 0.0]), torch.tensor([1.0, 1.0, 1.0, 0.0, 0.0, 1.0])
    assert response(moved[:5], noise[:5], 0.5).tolist() == [0, 0, 1, 0, 1]
    assert response(moved[5:], noise[5:], 1.0).tolist() == [0]


@pytest.mark.parametrize("sampler", ["ancestral", "ancestral-beta"])
def test_ancestral_samples_have_the_moments_of_the_data(mixture_of, sampler):
    """1,000 samples of 100 steps: means within 5 and covariances within 6 standard errors; false alarm 3e-6 in all.

    The error of 100 steps themselves is 1 % of the covariance, a third of a standard error.
    """
    denoiser, n = mixture_of(orn.Cosine()), 1000
    x = orn.sample(denoiser, n, sampler=sampler, steps=100, seed=3, batch=n)
    mean = denoiser.weight @ denoiser.mean
    apart = denoiser.mean - mean
    within = (denoiser.weight * denoiser.variance).sum() * torch.eye(2, dtype=F64)
    covariance = within + (denoiser.weight * apart.T) @ apart
    assert ((x.mean(0) - mean).abs() < 5 * (covariance.diag() / n).sqrt()).all()
    products = (x - mean)[:, :, None] * (x - mean)[:, None, :]
    assert ((products.mean(0) - covariance).abs() < 6 * products.std(0) / math.sqrt(n)).all()


class Counted(orn.Denoiser):
    """A user's own denoiser: one subclass with one method, that counts its calls."""

    def __init__(self, schedule):
        super().__init__(schedule, (2,))
        self.times = []

    def forward(self, z, t, condition=None):
        self.times.append(float(t))
        return orn.Estimate.from_x(torch.zeros_like(z), z, self.level(z, t))


@pytest.mark.parametrize("sampler", [*SAMPLERS, "auto"])
def test_the_budget_of_calls_is_never_exceeded(sampler):
    """floor(nfe / calls) steps, each of at most its calls, never at t = 0; less than one step is refused."""
    calls = orn.samplers().get(sampler, {"calls": 1})["calls"]
    for nfe in (*range(1, 3 * calls + 3), 29, 30):
        denoiser = Counted(orn.Cosine())
        if nfe < calls:
            with pytest.raises(ValueError, match=f"nfe is {nfe}"):
                orn.sample(denoiser, 3, sampler=sampler, nfe=nfe)
            assert not denoiser.times
        else:
            orn.sample(denoiser, 3, sampler=sampler, nfe=nfe)
            assert nfe - 2 * calls < len(denoiser.times) <= nfe
            assert denoiser.times[0] == 1
            assert min(denoiser.times) > 0


class Small(nn.Module):
    """A network with the operations whose float32 results depend on the number of rows of a batch."""

    def __init__(self):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.convolution = nn.Conv2d(1, 8, 3, padding=1)
        self.inside, self.out = nn.Linear(128 + 1, 64), nn.Linear(64, 16)
        with torch.no_grad():
            for value in self.parameters():
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))

    def forward(self, y, log_snr, condition):
        inner = self.convolution(y).flatten(1)
        return self.out(torch.tanh(self.inside(torch.cat([inner, log_snr[:, None]], 1)))).reshape(y.shape)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sample_does_not_depend_on_its_neighbours(mixture_of, sampler):
    """Sample i of a seed is the same bit for bit in any count, for a float32 network and for an exact denoiser."""
    network = orn.NetworkDenoiser(Small(), orn.Cosine(), (1, 4, 4), data_std=0.5)
    for denoiser in (network, mixture_of(orn.Chain.linear())):
        many = orn.sample(denoiser, 100, sampler=sampler, nfe=8, seed=4)
        assert torch.equal(orn.sample(denoiser, 7, sampler=sampler, nfe=8, seed=4), many[:7])
        assert torch.equal(orn.sample(denoiser, 30, sampler=sampler, nfe=8, seed=4, first=70), many[70:])
        assert not torch.equal(orn.sample(denoiser, 7, sampler=sampler, nfe=8, seed=5), many[:7])
        assert len(many.unique(dim=0)) == 100


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_single_precision_follows_double_precision(sampler):
    """The same z and seed in float32: the median difference is below 1e-5 of the data's scale."""
    for name, schedule in FEW.items():
        z = schedule.level(1.0).radius * normal(64, 2)
        exact = orn.sample(gaussian(schedule), sampler=sampler, nfe=12, z=z)
        single = orn.sample(gaussian(schedule), sampler=sampler, nfe=12, z=z.float())
        assert single.dtype == torch.float32
        assert float((single - exact).abs().median()) < 1e-5, name


@given(weights=st.lists(st.floats(-3, 3), min_size=6, max_size=6), t=st.floats(0.05, 1), s=st.floats(0, 0.95))
def test_a_mix_is_the_sum_that_it_names(weights, t, s):
    """z z_t + x x-hat + eps eps-hat + v v-hat + fresh noise, of this call and of one before, and turning is one too."""
    z, *of_x, eps, v, fresh = weights
    schedule, fixed = SCHEDULES["chain-linear"], normal(3, 2, seed=4)
    before, now, to = walk_moments(schedule, torch.tensor([1.0, t, s * t], dtype=F64), normal(3, 2))
    here, past = six("chain-linear")(normal(3, 2), t), six("chain-linear")(normal(3, 2, seed=1), 1.0)
    step = orn.Step(schedule, now, to, here, (Call(before, past),), gaussian(), lambda: fixed)
    expected = z * here.z + of_x[0] * here.x + of_x[1] * past.x + eps * here.eps + v * here.v + fresh * fixed
    assert_close(step.mix(z=z, x=of_x, eps=eps, v=v, fresh=fresh), expected, rtol=1e-12, atol=1e-12)
    assert_close(step.turn(1.0), to.signal * here.x + to.noise * here.eps, rtol=1e-12, atol=1e-12)
    with pytest.raises(ValueError, match="there are only 2 calls"):
        step.mix(x=[1.0, 2.0, 3.0])


@pytest.mark.parametrize("sampler", [name for name in DETERMINISTIC if not SAMPLERS[name].memory])
def test_a_walk_goes_on_from_a_latent_below_the_start(sampler):
    """From any of its latents a rule without memory walks to where the whole walk ends."""
    frames = list(orn.generate(gaussian(), z=normal(5, 2), sampler=sampler, steps=6))
    for number in (1, 3, 5):
        x = orn.sample(gaussian(), z=frames[number].latent, sampler=sampler, times=[f.time for f in frames[number:]])
        assert_close(x, frames[-1].latent, rtol=0, atol=1e-12)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_latent_from_the_encoder_comes_back_as_data(sampler):
    """Data noised to t = 0.6 and walked back have the data's mean and deviation, to 6 standard errors."""
    denoiser, x = gaussian(), gaussian().draw(4000, seed=1)
    z = orn.draw(orn.Encoder(denoiser.schedule).kernel(x, 0.6), normal(*x.shape, seed=2))
    back = orn.sample(denoiser, z=z, sampler=sampler, times=orn.grid(denoiser.schedule, 40, "angle", 0.6), batch=4000)
    off = torch.cat([(back.mean(0) - MEAN) / (POWER / 4000).sqrt(), (back.std(0) / POWER.sqrt() - 1) * 8000**0.5])
    assert float(off.abs().max()) < 6 + 0.02 * 8000**0.5  # a share of the deviation that 40 steps may cost


def test_a_rule_of_the_users_own():
    """One method is a sampler: Euler's rule in time on Linear, dz/dt = eps - x, is DDIM on that path."""

    class Euler(orn.Rule):
        order = 1
        spacing = "time"

        def advance(self, step):
            return step.z + (step.s - step.t) * (step.estimate.eps - step.estimate.x)

    denoiser, z = gaussian(orn.Linear()), normal(5, 2)
    own = orn.sample(denoiser, sampler=Euler(), nfe=12, z=z)
    times = torch.linspace(1, 0, 13, dtype=F64)
    assert_close(own, orn.sample(denoiser, sampler="ddim", times=times, z=z), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("name", ORDERED)
def test_a_tolerance_is_kept_and_a_sample_does_not_depend_on_its_neighbours(name):
    """Errors of steps add up to no more than 20 of them; what the last step leaves out is of second order.

    Neighbours change the rounding alone, since functions of vectors round their last entries in another way.
    """
    z, end = START * SCHEDULES[name].level(1.0).radius, end_of(name)
    for tolerance in (1e-2, *[1e-4] * (name != "own"), *[1e-6] * (name == "cosine")):  # whose times are slow to find
        x = orn.sample(six(name), z=z, tolerance=tolerance)
        assert float(np.abs(x.numpy() - end).max()) < 20 * tolerance
        assert_close(orn.sample(six(name), z=z[:2], tolerance=tolerance), x[:2], rtol=0, atol=1e-9)


@pytest.mark.parametrize(("words", "message"), [
    ({"tolerance": 0.0}, "tolerance is 0"), ({"tolerance": 1.5}, r"tolerance is 1\.5"),
    ({"tolerance": math.nan}, "nan"), ({"tolerance": 1e-3, "nfe": 5}, "tolerance and nfe"),
    ({"tolerance": 1e-3, "sampler": "heun"}, "and sampler"),
    ({"tolerance": 1e-3, "times": [1, 0]}, "and times"),
])
def test_a_tolerance_that_cannot_be_is_refused_before_anything_is_computed(words, message):
    denoiser = Counted(orn.Cosine())
    with pytest.raises(ValueError, match=message):
        orn.sample(denoiser, **words)
    assert not denoiser.times


def test_ddim_keeps_x_hat_and_eps_hat_of_each_step(mixture_of, schedule):
    """Song et al. 2021: z_s = signal_s x-hat + noise_s eps-hat, on every schedule and grid."""
    frames = list(orn.generate(mixture_of(schedule), 5, sampler="ddim", steps=6, seed=1))
    for now, after in pairwise(frames):
        level = schedule.level(after.time)
        expected = level.signal * now.estimate.x + level.noise * now.estimate.eps
        assert_close(after.latent, expected, rtol=1e-11, atol=1e-11 * float(level.radius))


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_frames_are_the_walk_of_sample(sampler):
    """Times fall from 1 to 0 on the sampler's grid, each frame holds the denoiser's estimate, the last the samples."""
    frames = list(orn.generate(six("own"), 5, sampler=sampler, steps=4, seed=1))
    grid = orn.grid(SCHEDULES["own"], 4, orn.samplers()[sampler]["spacing"])
    assert [frame.time for frame in frames] == grid.tolist()
    assert torch.equal(frames[-1].latent, orn.sample(six("own"), 5, sampler=sampler, steps=4, seed=1))
    for frame in frames[:-1]:
        assert_close(frame.estimate.x, six("own")(frame.latent, frame.time).x, rtol=1e-9, atol=1e-9)


def test_samples_start_from_the_noise_of_the_last_time(schedule):
    """z at t = 1 is N(0, (signal^2 + noise^2) I): mean and variance of 6,000 values, false alarm 1e-6 in all."""
    frame = next(orn.generate(gaussian(schedule), 3000, steps=1, seed=2))
    white = frame.latent / schedule.level(1.0).radius
    assert abs(float(white.mean())) < 5 / math.sqrt(6000)
    assert abs(float(white.var()) - 1) < 5 * math.sqrt(2 / 6000)


def test_steps_nfe_and_times_name_the_same_walk(mixture_of):
    denoiser = mixture_of(orn.Cosine())
    for sampler, about in orn.samplers().items():
        by_steps = orn.sample(denoiser, 4, sampler=sampler, steps=5)
        assert about["grid"] == about["spacing"]  # the name that it had before
        times = orn.grid(denoiser.schedule, 5, about["spacing"])
        for same in ({"nfe": 5 * about["calls"]}, {"nfe": 5 * about["calls"] + about["calls"] - 1},
                     {"times": times}, {"times": times.tolist()}):
            assert torch.equal(orn.sample(denoiser, 4, sampler=sampler, **same), by_steps)


def test_a_condition_is_one_for_all_or_one_for_each(mixture_of):
    denoiser = mixture_of(orn.Cosine())
    each = orn.sample(denoiser, 4, nfe=6, condition=torch.tensor([2, 0, 1, 2]))
    for k in range(3):
        rows = [row for row, label in enumerate([2, 0, 1, 2]) if label == k]
        assert torch.equal(orn.sample(denoiser, 4, nfe=6, condition=k)[rows], each[rows])


@pytest.mark.parametrize(("options", "message"), [
    ({"nfe": 8, "steps": 4}, "nfe and steps are both given"), ({"nfe": 8, "times": [1, 0]}, "nfe and times"),
    ({"steps": 8, "times": [1, 0]}, "steps and times"), ({"sampler": "heun", "nfe": 1}, "nfe is 1"),
    ({"nfe": 0}, "nfe is 0"), ({"nfe": -4}, "nfe is -4"), ({"steps": 0}, "steps is 0"), ({"steps": -1}, "steps is -1"),
    ({"steps": 2.5}, r"steps is 2\.5"), ({"times": [0, 0.5, 1]}, "times"), ({"times": [1, 0.5, 0.5, 0]}, "times"),
    ({"times": [1, 0.5, 0.6, 0]}, "times"), ({"times": [1.1, 0]}, "times"), ({"times": [1, 0.5]}, "times"),
    ({"times": [0.9, 0]}, "times"), ({"times": [1]}, "times"), ({"times": [[1, 0]]}, "times"),
    ({"times": [1, math.nan, 0]}, "times"), ({"sampler": "huen"}, "did you mean 'heun'"),
    ({"sampler": "nothing like it"}, "allowed: adams"), ({"z": torch.zeros(3, 4)}, "z has shape"),
    ({"z": torch.zeros(0, 2)}, "z has shape"), ({"z": torch.zeros(3, 2, dtype=torch.int64)}, "z has shape"),
    ({"count": 0}, "count is 0"), ({"count": -1}, "count is -1"), ({"batch": 0}, "batch is 0"),
    ({"seed": -1}, "seed is -1"),
    ({"count": 4, "condition": torch.tensor([0, 1])}, "condition has 2 entries"),
    ({"condition": torch.tensor(0.5)}, "condition has 1 entries of torch.float32"),
])
def test_impossible_requests_are_refused_before_anything_is_computed(options, message):
    denoiser = Counted(orn.Cosine())
    with pytest.raises(ValueError, match=message):
        orn.generate(denoiser, **options)  # the call, not the first frame
    with pytest.raises(ValueError, match=message):
        orn.sample(denoiser, **options)
    assert not denoiser.times
