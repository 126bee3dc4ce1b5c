"""The denoiser around a network: what the network sees and means (Karras et al. 2022, table 1)."""

from __future__ import annotations

import itertools
import math
import re
from typing import ClassVar

import numpy as np
import pytest
import torch
from scipy.fft import dctn
from torch import nn
from torch.testing import assert_close

import ornstein as orn
from conftest import SCHEDULES, normal
from ornstein.data import DataSpec
from ornstein.diffusion.linear import LinearGuess

F64 = torch.float64
MEAN, STD = torch.tensor([0.5, -1.0, 2.0], dtype=F64), torch.tensor([0.5, 0.25, 2.0], dtype=F64)
NOISY = [name for name in SCHEDULES if name not in ("cosine", "linear", "chain-1000")]  # signal(1) is not next to 0


class Zero(nn.Module):
    """The best guess of v' of data scaled to N(0, I), which is 0; it keeps what it was shown."""

    def forward(self, y, log_snr, condition):
        self.y, self.log_snr, self.condition = y, log_snr, condition
        return torch.zeros_like(y)


def around(network, schedule, predicts="v", mean=MEAN, std=STD, **options):
    """A float64 `NetworkDenoiser` in evaluation mode."""
    shape = mean.shape if mean.ndim else (3,)
    return orn.NetworkDenoiser(network, schedule, shape, predicts, std, mean, **options).double().eval()


def test_saying_nothing_is_the_exact_answer_for_gaussian_data(schedule):
    """With v' = 0 the denoiser of data N(mean, std^2) is `ExactGaussian`, std value by value, in any count of rows."""
    for t, count in itertools.product((0.0, 0.01, 0.3, 0.7, 1.0), (1, 3, 5)):
        z = normal(count, 3)
        exact = orn.ExactGaussian(MEAN, STD**2, schedule)
        assert_close(around(Zero(), schedule)(z, t).v, exact(z, t).v, rtol=1e-12, atol=1e-12)


class Knowing(nn.Module):
    """A network that knows the data's exact denoiser and answers in the units that it was asked to predict."""

    def __init__(self, exact, predicts):
        super().__init__()
        self.exact, self.predicts = exact, predicts

    def forward(self, y, log_snr, condition):
        t = self.exact.schedule.time(log_snr)
        level = self.exact.schedule.level(t).fit(y)
        inner = torch.atan2(level.noise, level.signal * STD)
        z = level.signal * MEAN + torch.hypot(level.signal * STD, level.noise) * y
        estimate = self.exact(z, t, condition)
        x = (estimate.x - MEAN) / STD
        return {"x": x, "eps": estimate.eps, "v": inner.cos() * estimate.eps - inner.sin() * x}[self.predicts]


@pytest.mark.parametrize("predicts", ["v", "x", "eps"])
@pytest.mark.parametrize("name", SCHEDULES)
def test_all_three_predictions_say_the_same(name, predicts):
    """x', eps' or v' of an exact mixture, read in the network's units, give its estimate; classes pass through."""
    schedule = SCHEDULES[name]
    centres, spreads = torch.tensor([[0.0, -1.0, 3.0], [1.0, -0.5, 0.0]]), torch.tensor([0.2, 0.6])
    exact = orn.ExactMixture(torch.tensor([0.3, 0.7]), centres, spreads, schedule)
    if predicts == "eps" and name not in NOISY:
        with pytest.raises(ValueError, match="predicts is 'eps'"):
            around(Knowing(exact, predicts), schedule, predicts)
        return
    denoiser, classes = around(Knowing(exact, predicts), schedule, predicts), torch.tensor([0, 1, -1, 0])
    log_snr = torch.tensor([11.0, 4.0, 0.5, -5.0], dtype=F64).clamp(min=float(schedule.log_snr(1.0)))
    t = schedule.time(log_snr)
    z = schedule.level(t).radius[:, None] * normal(4, 3)
    assert_close(denoiser(z, t, classes).v, exact(z, t, classes).v, rtol=1e-8, atol=1e-8)
    assert_close(denoiser(z, t[1], 1).x, exact(z, t[1], 1).x, rtol=1e-8, atol=1e-8)


def test_the_network_sees_unit_variance_at_every_level(schedule):
    """y = a z + b; on the data's marginal its mean is 0 and its variance a^2 (signal^2 std^2 + noise^2) = 1."""
    for t in (0.0, 0.01, 0.3, 0.7, 1.0):
        network = Zero()
        denoiser, level = around(network, schedule), schedule.level(t)
        denoiser(torch.zeros(1, 3, dtype=F64), t)
        shift = network.y
        denoiser(torch.ones(1, 3, dtype=F64), t)
        slope = network.y - shift
        assert_close(slope * level.signal * MEAN + shift, torch.zeros(1, 3, dtype=F64), rtol=0, atol=1e-13)
        variance = slope**2 * (level.signal**2 * STD**2 + level.noise**2)
        assert_close(variance, torch.ones(1, 3, dtype=F64), rtol=1e-12, atol=0)


def test_the_network_sees_log_snr_within_its_trained_range(schedule):
    """One number a row, that of the schedule, clamped; a schedule's infinite ends never reach the network."""
    network, t = Zero(), torch.tensor([0.0, 0.2, 0.5, 1.0], dtype=F64)
    around(network, schedule, log_snr_range=(-3.0, 5.0))(normal(4, 3), t)
    assert_close(network.log_snr, schedule.log_snr(t).clamp(-3, 5), rtol=1e-12, atol=1e-12)
    around(network, schedule)(normal(4, 3), 0.0)
    assert network.log_snr.tolist() == [12.0] * 4


def test_a_condition_is_one_class_a_row(schedule):
    network = Zero()
    denoiser, z = around(network, schedule), normal(3, 3)
    for condition, seen in ((2, [2, 2, 2]), (torch.tensor([0, 1, -1]), [0, 1, -1]), (torch.tensor(1), [1, 1, 1])):
        denoiser(z, 0.5, condition)
        assert network.condition.tolist() == seen
    denoiser(z, 0.5)
    assert network.condition is None


def vectors(**options):
    """A denoiser of one value that takes vector conditions of mean (1, -2) and deviations (2, 0.5)."""
    network = orn.MLP((1,), conditions=2, width=16, depth=1)
    return orn.NetworkDenoiser(network, orn.Cosine(), (1,), condition_mean=[1.0, -2.0], condition_std=[2.0, 0.5],
                               **options).eval()


def test_the_network_sees_vector_conditions_centred_and_scaled(schedule):
    """One vector for all or one a row; NaN, which is none, comes through as NaN."""
    network, z = Zero(), normal(3, 3)
    denoiser = around(network, schedule, condition_mean=[1.0, -2.0], condition_std=[2.0, 0.5])
    denoiser(z, 0.5, torch.tensor([5.0, -1.5]))
    assert_close(network.condition, torch.tensor([[2.0, 1.0]] * 3, dtype=F64), rtol=0, atol=0)
    denoiser(z, 0.5, torch.tensor([[1.0, -2.0], [math.nan, math.nan], [3.0, -3.0]]))
    seen = torch.tensor([[0.0, 0.0], [math.nan, math.nan], [1.0, -2.0]], dtype=F64)
    assert_close(network.condition, seen, rtol=0, atol=0, equal_nan=True)


def test_moments_of_conditions_are_kept_only_where_there_are_conditions():
    assert {"condition_mean", "condition_std"} <= vectors().state_dict().keys()
    plain = orn.NetworkDenoiser(Zero(), orn.Cosine(), (3,))
    assert sorted(plain.state_dict()) == ["data_mean", "data_std"]


def test_vector_conditions_are_sampled_and_guided_row_by_row():
    """A vector for all is that vector for each; guidance needs NaN for none, and scale 1 is the model itself."""
    model = vectors()
    torch.manual_seed(0)
    with torch.no_grad():
        for value in model.network.parameters():
            value.normal_(std=0.4)
    one, other = torch.tensor([0.5, -1.0]), torch.tensor([3.0, -2.0])
    rows = orn.sample(model, 3, nfe=4, condition=torch.stack([one, other, torch.full((2,), math.nan)]))
    assert torch.equal(rows[:1], orn.sample(model, 3, nfe=4, condition=one)[:1])
    assert torch.equal(rows[1:2], orn.sample(model, 3, nfe=4, condition=other)[1:2])
    assert torch.equal(rows[2:], orn.sample(model, 3, nfe=4)[2:])
    z, scale = torch.randn(4, 1, generator=torch.Generator().manual_seed(0)), 2.5
    v = orn.Guided(model, scale)(z, 0.4, one).v
    told, alone = model(z, 0.4, one).v, model(z, 0.4).v
    assert_close(v, alone + scale * (told - alone), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("condition", "says"), [
    (torch.ones(3), "condition has 3 numbers per row; it must have 2"),
    (torch.ones(4, 1), "condition has 1 numbers per row; it must have 2"),
    (torch.ones(3, 2), "condition has 3 entries of torch.float32"),
    (torch.tensor(1.0), "condition has 1 entries of torch.float32"),
    (torch.tensor([1.0, math.inf]), "a row must be finite, or NaN throughout for none"),
    (torch.tensor([1.0, math.nan]), "a row must be finite, or NaN throughout for none"),
    (torch.tensor([1, 2, 3]), "condition has 3 numbers per row; it must have 2"),
    (0, r"it must be a vector of 2 numbers, or one for each of the 4 rows"),
    ("a", "condition is 'a'; it must be a class as a whole number, or numbers"),
])
def test_vectors_that_cannot_be_are_refused(condition, says):
    with pytest.raises(ValueError, match=says):
        vectors()(torch.zeros(4, 1), 0.5, condition)


def test_a_model_of_classes_takes_no_vectors_and_one_without_takes_neither():
    classes = orn.NetworkDenoiser(orn.MLP((1,), classes=3, width=8, depth=1), orn.Cosine(), (1,))
    plain = orn.NetworkDenoiser(orn.MLP((1,), width=8, depth=1), orn.Cosine(), (1,))
    z = torch.zeros(2, 1)
    with pytest.raises(ValueError, match="it must be a class from 0 to 2, or one for each of the 2 rows"):
        classes(z, 0.5, torch.ones(3))
    with pytest.raises(ValueError, match=r"condition is \[3\]; it must be a class from 0 to 2"):
        classes(z, 0.5, 3)
    for condition in (0, torch.ones(2)):
        with pytest.raises(ValueError, match="this model has no classes and no vector conditions"):
            plain(z, 0.5, condition)
    assert torch.equal(plain(z, 0.5, -1).v, plain(z, 0.5).v)


def of_classes():
    """A model of the classes a, b, c and 7, of which no row had b."""
    spec = DataSpec("kinds", "array", (1,), -1, 1, None, ("a", "b", "c", "7"), empty=(1,))
    return orn.NetworkDenoiser(orn.MLP((1,), classes=4, width=8, depth=1), orn.Cosine(), (1,), data=spec).eval()


@pytest.mark.parametrize(("condition", "numbers"), [
    (2, [2, 2, 2]), (np.uint8(3), [3, 3, 3]), (np.uint16(3), [3, 3, 3]), (np.int64(-1), [-1, -1, -1]),
    (torch.tensor([0, 2, 3], dtype=torch.uint8), [0, 2, 3]), (torch.tensor([0, 2, -1], dtype=torch.int8), [0, 2, -1]),
    (torch.tensor(2, dtype=torch.int16), [2, 2, 2]), (np.array([0, 2, 3], np.uint16), [0, 2, 3]),
    ([0, 2, 3], [0, 2, 3]),
    ("c", [2, 2, 2]), ("7", [3, 3, 3]), ("0", [0, 0, 0]), (["a", "c", None], [0, 2, -1]),
    (np.array(["7", "c", "a"]), [3, 2, 0]),
])
def test_classes_are_whole_numbers_of_any_type_or_names(condition, numbers):
    model = of_classes()
    assert model.read_condition(condition, 3).tolist() == numbers
    x = torch.zeros(3, 1)
    expected = torch.tensor(numbers)
    assert torch.equal(model(x, 0.5, condition).v, model(x, 0.5, expected).v)
    assert torch.equal(orn.sample(model, 3, nfe=2, condition=condition, guidance=2.0),
                       orn.sample(model, 3, nfe=2, condition=expected, guidance=2.0))
    times = orn.bound_times(model.schedule, steps=4)
    mine, theirs = (orn.elbo(model, x, times, condition=told).log_prob for told in (condition, expected))
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize(("condition", "says"), [
    (1, "class 'b' cannot be chosen: it has no training samples (allowed: a, c, 7)"),
    ("b", "class 'b' cannot"), ("1", "class '1' cannot"), (torch.tensor([0, 1, 2]), "class 'b' cannot"),
    (4, "must be a class from 0 to 3"),
    (-2, "must be a class from 0 to 3"), ("zebra", "class 'zebra' is unknown"), (True, "condition is True"),
    (torch.tensor([True, False, True]), "condition is torch.bool"), (2.0, "must be a class from 0 to 3"),
    (torch.eye(4)[:3], "for one-hot rows give condition.argmax(1)"), ([0, 2], "one for each of the "),
    (torch.eye(4, dtype=torch.int64)[:3], "for one-hot rows give condition.argmax(1)"),
])
def test_classes_that_are_not_there_are_refused_before_the_network_is_asked(condition, says):
    model = of_classes()
    model.network = nn.Identity()  # which takes nothing
    model.network.options = {"classes": 4}
    for ask in (lambda: orn.generate(model, 3, condition=condition),
                lambda: orn.elbo(model, torch.zeros(3, 1), condition=condition),
                lambda: orn.ode_log_prob(model, torch.zeros(3, 1), condition=condition),
                lambda: orn.Guided(model, 2.0)(torch.zeros(3, 1), 0.5, condition)):
        with pytest.raises(ValueError, match=re.escape(says)):
            ask()
    if np.ndim(condition) == 0:
        with pytest.raises(ValueError, match=re.escape(says.replace("the 3 rows", "the 256 rows"))):
            orn.tune(model, 2, condition=condition)


def test_a_condition_of_one_number_may_be_a_number_and_whole():
    model = orn.NetworkDenoiser(orn.MLP((1,), conditions=1, width=8, depth=1), orn.Cosine(), (1,)).eval()
    for condition, rows in ((3, [3, 3]), (-1, [-1, -1]), ([1, 2], [1, 2]), (np.array([0.5, 2]), [0.5, 2])):
        got = orn.sample(model, 2, nfe=2, condition=condition)
        assert torch.equal(got, orn.sample(model, 2, nfe=2, condition=torch.tensor(rows).float()[:, None]))
    pair = vectors()
    assert torch.equal(pair(torch.zeros(2, 1), 0.5, [1, 2]).v, pair(torch.zeros(2, 1), 0.5, torch.tensor([1.0, 2.0])).v)


@pytest.mark.parametrize("predicts", ["v", "x"])
def test_a_batch_of_times_is_answered_row_by_row(schedule, predicts):
    exact = orn.ExactMixture(torch.ones(2), torch.stack([MEAN, -MEAN]), torch.tensor([0.3, 0.5]), schedule)
    denoiser, z = around(Knowing(exact, predicts), schedule, predicts), normal(3, 3)
    t = schedule.time(torch.tensor([8.0, 0.5, -4.0], dtype=F64))
    rows = torch.cat([denoiser(z[i:i + 1], t[i]).v for i in range(3)])
    assert_close(denoiser(z, t).v, rows, rtol=1e-9, atol=1e-9)


def test_single_precision_costs_a_few_roundings_at_either_end(schedule):
    """In float32 the answer of a v-network is within 4e-6 of the float64 one, from t = 0 to t = 1."""
    for t in (0.0, 1e-4, 0.5, 1 - 1e-4, 1.0):
        z = schedule.level(t).radius * normal(50, 3)
        single = orn.NetworkDenoiser(Zero(), schedule, (3,), "v", STD, MEAN).eval()(z.float(), t)
        exact = around(Zero(), schedule)(z, t)
        assert single.v.dtype == torch.float32
        assert (single.v - exact.v).abs().max() < 4e-6 * (1 + exact.v.abs().max())
        assert (single.x - exact.x).abs().max() < 4e-6 * (1 + exact.x.abs().max())


@pytest.mark.parametrize("kind", ["diagonal", "principal"])
@pytest.mark.parametrize("predicts", ["v", "x"])
def test_the_linear_guess_knows_all_that_a_gaussian_knows(schedule, kind, predicts):
    """Nothing on top of a guess fitted to rows is the exact denoiser of a Gaussian with their (diagonal) covariance."""
    turn, _ = torch.linalg.qr(normal(6, 6, seed=3))
    rows = normal(400, 6, seed=4) * torch.tensor([2.0, 1.0, 0.7, 0.3, 0.1, 0.01]) @ turn.T
    rows = (rows - rows.mean(0)) / rows.square().mean().sqrt()
    covariance = 0.25 * rows.T @ rows / len(rows)
    known = covariance if kind == "principal" else covariance.diag()
    exact = orn.ExactGaussian(torch.full((6,), 0.25), known, schedule)
    guess, z = LinearGuess.fit(rows, kind), normal(5, 6)
    denoiser = orn.NetworkDenoiser(Zero(), schedule, (6,), predicts, 0.5, 0.25, linear=guess).double().eval()
    for t in (0.0, 0.05, 0.4, 0.9, 1.0):  # the guess is stored in float32
        assert_close(denoiser(z, t).v, exact(z, t).v, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["diagonal", "principal"])
@pytest.mark.parametrize("shape", [(2, 6), (2, 3, 2), (1, 2, 3, 2)])
def test_the_linear_guess_of_traces_pictures_and_volumes_is_that_of_their_values_in_a_row(kind, shape):
    rows = normal(40, 12, seed=4) * torch.linspace(0.1, 1.5, 12, dtype=F64)
    flat, shaped = LinearGuess.fit(rows, kind), LinearGuess.fit(rows.reshape(40, *shape), kind)
    z, t = normal(5, 12), torch.tensor([0.0, 0.2, 0.5, 0.9, 1.0], dtype=F64)
    a = orn.NetworkDenoiser(Zero(), orn.Cosine(), (12,), linear=flat).eval()(z, t).v
    b = orn.NetworkDenoiser(Zero(), orn.Cosine(), shape, linear=shaped).eval()(z.reshape(5, *shape), t).v
    assert torch.equal(a, b.flatten(1))


def test_a_linear_guess_of_few_directions_keeps_the_total_variance():
    """Beyond the kept directions the covariance is isotropic, and its trace is that of the data."""
    rows = normal(400, 6, seed=4) * torch.tensor([2.0, 1.0, 0.7, 0.3, 0.1, 0.01])
    guess = LinearGuess.fit(rows, "principal", 2)
    total = guess.variance.sum() + 4 * guess.rest
    assert float(total) == pytest.approx(float(rows.square().sum(1).mean()), rel=1e-5)
    exact = torch.linalg.eigvalsh(rows.T @ rows / 400).flip(0)[:2]
    assert_close(guess.variance.double(), exact, rtol=1e-5, atol=0)


@pytest.mark.parametrize("predicts", ["v", "x"])
def test_an_answer_outside_the_range_of_the_data_is_moved_into_it(schedule, predicts):
    """Outside training alone; what is inside stays, and signal x-hat + noise eps-hat is still z."""
    z = 6 * normal(40, 3)
    free = around(Zero(), schedule, predicts)
    bound = around(Zero(), schedule, predicts, x_range=(-1.0, 1.0))
    for t in (0.1, 0.5, 1.0):
        level, x = schedule.level(t), free(z, t).x
        assert_close(bound(z, t).x, x.clamp(-1, 1), rtol=0, atol=1e-10)
        mixed = level.signal * bound(z, t).x + level.noise * bound(z, t).eps
        assert_close(mixed, z, rtol=0, atol=1e-10 * float(z.abs().max()))
        assert_close(bound.train()(z, t).x, x, rtol=1e-12, atol=1e-12)
        bound.eval()


def test_impossible_network_denoisers_are_refused():
    build = orn.NetworkDenoiser
    for ask, message in (
        (lambda: build(Zero(), orn.Cosine(), (3,), "noise"), "predicts 'noise' is unknown"),
        (lambda: build(Zero(), orn.Cosine(), (3,), data_std=0.0), "data_std is 0"),
        (lambda: build(Zero(), orn.Cosine(), (3,), data_std=-1.0), "data_std is -1"),
        (lambda: build(Zero(), orn.Cosine(), (3,), data_std=math.nan), "data_std is nan"),
        (lambda: build(Zero(), orn.Cosine(), (3,), data_std=torch.tensor([1.0, 0.0, 1.0])), "data_std is 0"),
        (lambda: build(Zero(), orn.Cosine(), (3,), data_std=torch.ones(2)), r"data_std has shape \(2,\)"),
        (lambda: build(Zero(), orn.Cosine(), (1, 3, 3), data_mean=torch.ones(4, 1, 1)), "data_mean has shape"),
        (lambda: build(Zero(), orn.Cosine(), (3,), condition_mean=[0.0]), "condition_std is None"),
        (lambda: build(Zero(), orn.Cosine(), (3,), condition_mean=[0.0], condition_std=[0.0]), "condition_std is 0"),
        (lambda: build(Zero(), orn.Cosine(), (3,), condition_mean=[0.0], condition_std=[1.0, 1.0]), "must agree"),
        (lambda: build(Zero(), orn.Cosine(), (3,), condition_mean=[math.nan], condition_std=[1.0]), "finite numbers"),
        (lambda: build(Zero(), orn.Cosine(), (3,), "eps"), "predicts is 'eps', but Cosine"),
        (lambda: build(Zero(), orn.Linear(), (3,), "eps"), "predicts is 'eps', but Linear"),
        (lambda: build(Zero(), orn.Chain.linear(), (3,), "eps", data_std=0.1), "predicts is 'eps', but Chain"),
        (lambda: build(Zero(), orn.Cosine(), (3,))(normal(2, 4), 0.5), r"z has shape \(2, 4\)"),
        (lambda: build(Zero(), orn.Cosine(), (3,))(normal(2, 3), 1.5), "t is"),
    ):
        with pytest.raises(ValueError, match=message):
            ask()
    build(Zero(), orn.Chain.linear(), (3,), "eps", data_std=0.5)


def test_a_denoiser_without_an_answer_says_so():
    """`Denoiser` is a base: a subclass that forgets `forward` never answers with None."""

    class Mute(orn.Denoiser):
        pass

    with pytest.raises(NotImplementedError, match=r"Mute .* forward"):
        Mute(orn.Cosine(), (3,))(normal(1, 3), 0.5)


@pytest.mark.parametrize("shape", [(2, 6), (1, 3, 4), (2, 2, 3, 2)])
def test_waves_are_the_exact_denoiser_of_gaussian_data_whose_waves_are_independent(schedule, shape):
    """... with the waves of scipy's orthonormal cosine transform."""
    count, axes = math.prod(shape), tuple(range(1, len(shape)))
    waves = dctn(np.eye(count).reshape(count, *shape), axes=[axis + 1 for axis in axes], norm="ortho")
    turn = torch.from_numpy(waves.reshape(count, count)).T
    rows = normal(200, count, seed=4) * torch.linspace(0.1, 1.4, count, dtype=F64) @ turn
    rows -= rows.mean(0)
    guess = LinearGuess.fit(rows.reshape(-1, *shape), "waves")
    power = (rows @ turn.T).square().mean(0)
    assert_close(guess.variance.double(), power, rtol=1e-5, atol=0)
    exact = orn.ExactGaussian(torch.zeros(count, dtype=F64), turn.T @ (power[:, None] * turn), schedule)
    denoiser = orn.NetworkDenoiser(Zero(), schedule, shape, linear=guess).double().eval()
    z = normal(5, count)
    for t in (0.05, 0.4, 0.9):
        assert_close(denoiser(z.reshape(5, *shape), t).v.flatten(1), exact(z, t).v, rtol=1e-4, atol=1e-4)


class TakesBack(nn.Module):
    """Answers a hint by its opposite."""

    options: ClassVar = {"hints": True}

    def forward(self, y, log_snr, condition=None):
        return -y.chunk(2, 1)[1]


def test_a_network_with_hints_sees_the_guess_that_its_answer_is_added_to(schedule):
    """One that takes it back leaves v' = 0, which is no guess at all."""
    shape, z = (2, 3, 4), normal(5, 2, 3, 4)
    guess = LinearGuess.fit(normal(50, *shape, seed=4) * torch.linspace(0.1, 1.4, 4, dtype=F64), "waves")
    seen, plain = (orn.NetworkDenoiser(network, schedule, shape, linear=linear).double().eval()
                   for network, linear in ((TakesBack(), guess), (Zero(), None)))
    for t in (0.05, 0.4, 0.9):
        assert_close(seen(z, t).v, plain(z, t).v, rtol=0, atol=1e-6)
    with pytest.raises(ValueError, match="network has hints, but linear is None"):
        orn.NetworkDenoiser(TakesBack(), schedule, shape)
