"""A rule that is learned: what it begins as, what it learns from and by, and what is refused."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import ornstein as orn
from conftest import SCHEDULES, normal
from oracles import mixture
from ornstein.diffusion.samplers.choice import Choice
from ornstein.diffusion.samplers.learned import MAX_LEARNED
from ornstein.diffusion.samplers.loop import SAMPLERS
from ornstein.diffusion.samplers.multistep import Multistep
from ornstein.evaluation.discrepancy import discrepancy
from ornstein.evaluation.distances import frechet
from ornstein.tuning.learn import Matching, fit_by_regression, improve, log_error
from ornstein.tuning.paths import exact_starts
from ornstein.tuning.student import Student

DOUBLE = torch.float64


def walk_of(gaps: list[float]) -> torch.Tensor:
    """Times from 1 to 0 whose gaps are in these ratios."""
    shares = torch.tensor(gaps, dtype=DOUBLE).cumsum(0) / sum(gaps)
    return torch.cat([torch.ones(1, dtype=DOUBLE), 1 - shares[:-1], torch.zeros(1, dtype=DOUBLE)])


@pytest.mark.parametrize("name", SCHEDULES)
@given(gaps=st.lists(st.floats(0.2, 5), min_size=1, max_size=6))
@settings(max_examples=10, deadline=None)
def test_before_it_learns_it_is_adams_rule(name, gaps):
    """Every sample as by `Multistep`, whose weights of the same steps are found another way."""
    model, times = mixture(SCHEDULES[name], 2), walk_of(gaps)
    z = model.schedule.level(1.0).radius * normal(8, 2)
    rule = Student(model, times).rule()
    mine, theirs = (orn.sample(model, z=z, sampler=sampler, times=times) for sampler in (rule, Multistep("v", 3)))
    torch.testing.assert_close(mine, theirs, rtol=1e-9, atol=1e-9)


def linear(schedule: orn.Schedule) -> orn.ExactGaussian:
    """Data whose paths are known: along each value they keep their place in deviations of N(mean, variance)."""
    return orn.ExactGaussian(torch.tensor([0.5, -1.0], dtype=DOUBLE), torch.tensor([0.04, 3.0], dtype=DOUBLE), schedule)


@pytest.mark.parametrize("name", SCHEDULES)
def test_exact_paths_are_exact(name):
    """z_t = signal mean + sqrt(signal^2 variance + noise^2) u, to 2e-3 at any time and to 3e-5 at the end."""
    model = linear(SCHEDULES[name])
    starts = exact_starts(model, 4, range(20), None, 0, keep=True)
    mean, variance = torch.tensor([0.5, -1.0], dtype=DOUBLE), torch.tensor([0.04, 3.0], dtype=DOUBLE)

    def there(time):
        level = model.schedule.level(torch.tensor(time, dtype=DOUBLE))
        return level.signal * mean, torch.sqrt(level.signal**2 * variance + level.noise**2)

    centre, spread = there(1.0)
    u = (starts.z - centre) / spread
    for time in (0.9, 0.61, 0.3, 0.12, 0.05):
        centre, spread = there(time)
        level = model.schedule.level(torch.tensor(time, dtype=DOUBLE))
        found = starts.path.at(model, torch.tensor(time, dtype=DOUBLE))
        assert float((found - centre - spread * u).abs().max() / level.radius) < 2e-3, time
    centre, spread = there(0.0)
    torch.testing.assert_close(starts.end, centre + spread * u, rtol=0, atol=3e-5)


def test_linear_paths_are_learned_at_once():
    """Data of one variance, which is not that of the frame: regression alone leads two steps home, Adams' rule not."""
    model = orn.ExactGaussian(torch.zeros(3, dtype=DOUBLE), torch.full((3,), 0.1, dtype=DOUBLE), orn.Cosine())
    starts, times = exact_starts(model, 2, range(64), None, 0, keep=True), torch.tensor([1.0, 0.5, 0.0], dtype=DOUBLE)
    student, z = fit_by_regression(model, times, starts), normal(50, 3, seed=9)
    mine, plain = (orn.sample(model, z=z, sampler=rule, times=times)
                   for rule in (student.rule(), Student(model, times).rule()))
    truth = math.sqrt(0.1) * z
    assert float((mine - truth).abs().max()) < 0.01 * float((plain - truth).abs().max())


def drawn_by(student, z):
    """Samples of a student as it is."""
    return student(z, None, student.weights())


def test_learning_lessens_what_it_is_to_lessen_on_other_noise():
    """4 steps on a mixture: by regression, then by gradients of the weights, then of the times as well."""
    model = mixture(orn.Cosine(), 2)
    mine = exact_starts(model, 4, range(192), None, 0, keep=True)
    other = exact_starts(model, 4, range(200, 500), None, 0)
    times = orn.grid(model.schedule, 4, "power")
    student = fit_by_regression(model, times, mine)
    found = [float(log_error(drawn_by(Student(model, times), other.z), other.end).detach())]
    for parameters in ([], student.corrections, [*student.corrections, student.gaps]):
        if parameters:
            improve(student, mine, log_error, parameters, 20)
        found.append(float(log_error(drawn_by(student, other.z), other.end).detach()))
    assert found[1] < found[0] - 0.1
    assert found[2] < found[1] - 0.05
    assert found[3] < found[2]
    drawn = orn.sample(model, z=other.z, sampler=student.rule(), times=student.times())
    torch.testing.assert_close(drawn, drawn_by(student, other.z).detach(), rtol=0, atol=1e-9)


def test_moments_are_matched_by_the_distance_of_gaussians():
    """What is left of the cost beside the squared error is 20 / D of the Fréchet distance, to 2 % for small changes."""
    end = normal(400, 5, seed=1) * torch.tensor([0.3, 0.7, 1.0, 1.5, 2.0], dtype=DOUBLE)
    turn = torch.eye(5, dtype=DOUBLE) + 0.01 * normal(5, 5, seed=2)
    x = end @ turn + 0.01
    cost = float(Matching(end)(x, end)) - float((x - end).square().mean())
    assert cost == pytest.approx(20 / 5 * frechet(end.numpy(), x.numpy()), rel=0.02)


@pytest.mark.parametrize("steps", [1, 3, *(pytest.param(steps, marks=pytest.mark.slow) for steps in (2, 5, 8)),
                                   MAX_LEARNED])
@pytest.mark.parametrize("name", [
    pytest.param(name, marks=[pytest.mark.slow] * (name not in ("chain-2", "cosine", "exploding", "own")))
    for name in SCHEDULES])
def test_what_is_learned_is_sound_in_every_precision(name, steps):
    """Finite, float32 to 1e-4 of float64, bfloat16 to 0.3, and a sample is the same in any company, bit for bit."""
    model = mixture(SCHEDULES[name], 2)
    times = orn.grid(model.schedule, steps, "power")
    rule = fit_by_regression(model, times, exact_starts(model, 4, range(256), None, 0, keep=True)).rule()
    z = model.schedule.level(1.0).radius * normal(40, 2, seed=4)
    wide, narrow, coarse = (orn.sample(model, z=z.to(dtype), sampler=rule, times=times)
                            for dtype in (DOUBLE, torch.float32, torch.bfloat16))
    assert wide.isfinite().all()
    assert float((narrow.double() - wide).abs().median()) < 1e-4
    assert float((coarse.double() - wide).abs().median()) < 0.3
    assert torch.equal(orn.sample(model, z=z[3:5], sampler=rule, times=times), wide[3:5])


def test_a_walk_of_other_steps_is_refused():
    model = mixture(orn.Cosine(), 2)
    rule = Student(model, orn.grid(model.schedule, 3)).rule()
    for steps in (2, 4):
        with pytest.raises(ValueError, match="learned for walks of 3 steps"):
            orn.sample(model, 2, sampler=rule, steps=steps)


WEIGHTS = [[1.0], [0.0, 1.0], [0.0, 0.0, 1.0]]


@pytest.mark.parametrize(("change", "message"), [
    ({"points": [[1.0], [1.0], [0.0, 0.0, 1.0]]}, r"points\[1\] must hold 2 numbers"),
    ({"slopes": WEIGHTS[:2]}, "points has 3 steps and slopes 2"),
    ({"points": [[1.0], [0.0, math.nan], WEIGHTS[2]]}, r"points\[1\] is nan"),
    ({"points": [[1.0], [0.0, "1"], WEIGHTS[2]]}, r"points\[1\] is '1'"),
    ({"points": [[1.0], [0.0, True], WEIGHTS[2]]}, r"points\[1\] is True"),
    ({"slopes": [[1e20], *WEIGHTS[1:]]}, "a weight is at most"),
    ({"slopes": "abc"}, "slopes must be weights"), ({"points": []}, "points must be weights"),
    ({"points": WEIGHTS[:2], "slopes": WEIGHTS[:2]}, "weights of 2 steps and times of 3"),
    ({"points": None}, "points must be weights"), ({"guidance": math.inf}, "guidance is inf"),
])
def test_a_file_with_weights_that_cannot_be_is_refused(change, message):
    times = torch.tensor([1.0, 0.7, 0.2, 0.0], dtype=DOUBLE)
    choice = Choice(3, Choice.LEARNED, tuple(times.tolist()), tuple(orn.Cosine().level(times).angle.tolist()),
                    {"auto": 1.0}, "told", points=tuple(map(tuple, WEIGHTS)), slopes=tuple(map(tuple, WEIGHTS)))
    assert Choice.from_dict(choice.as_dict(), SAMPLERS) == choice
    with pytest.raises(ValueError, match=message):
        Choice.from_dict({**choice.as_dict(), **change}, SAMPLERS)


@pytest.fixture
def network():
    """A small network of two classes."""
    torch.manual_seed(0)
    return orn.NetworkDenoiser(orn.MLP((2,), width=8, depth=1, classes=2), orn.Cosine(), (2,)).eval()


def test_a_choice_for_guided_samples_is_used_at_just_that_guidance(network, tmp_path):
    """Before and after a file; other guidance, and none, are as they were."""
    plain = {scale: orn.sample(network, 6, nfe=3, guidance=scale, condition=1) for scale in (None, 1.5, 2.0)}
    choice = orn.tune(network, 3, starts=32, guidance=1.5, condition=1, quick=True)
    assert choice.sampler != "auto"
    orn.save(network, tmp_path / "model.safetensors")
    for model in (network, orn.load(tmp_path / "model.safetensors")):
        assert model.tuned == {(3, 1.5): choice}
        drawn = {scale: orn.sample(model, 6, nfe=3, guidance=scale, condition=1) for scale in plain}
        assert [torch.equal(drawn[scale], plain[scale]) for scale in plain] == [True, False, True]
    own = orn.sample(orn.Guided(network, 1.5), 6, sampler=choice.rule(SAMPLERS), times=choice.times, condition=1)
    assert torch.equal(own, drawn[1.5])


def test_a_model_that_no_gradient_goes_through_is_tuned(monkeypatch):
    """What a denoiser answers may have been found outside of PyTorch; the weights can be learned all the same."""
    inner = mixture(orn.Cosine(), 2)

    class Foreign(orn.Denoiser):
        def forward(self, z, t, condition=None):
            found = inner(torch.from_numpy(z.numpy()), t.detach(), condition)
            return dataclasses.replace(found, z=z)

    monkeypatch.setattr("ornstein.tuning.search.FIT_EVALUATIONS", 300)
    choice = orn.tune(Foreign(orn.Cosine(), (2,)), 4, starts=32)
    assert min(choice.errors.values()) < 0.9 * choice.errors["auto"]


def test_the_discrepancy_tells_data_from_other_samples(monkeypatch):
    """Unseen rows lie at 1 or 2, as halves of the data do; with noise on them, or without half of them, further."""
    rng = np.random.default_rng(0)
    real, unseen = rng.standard_normal((2, 300, 4)) * [1, 2, 0.5, 0.1]
    monkeypatch.setattr("ornstein.evaluation.discrepancy.TREES", 50)
    judge = discrepancy(real)
    near = judge(unseen)
    assert 0.8 < near < 3.0
    assert judge(unseen + 0.3 * rng.standard_normal(unseen.shape)) > near + 0.2
    assert judge(unseen[unseen[:, 1] > 0]) > near + 0.2
    with pytest.raises(ValueError, match="real holds 99 samples"):
        discrepancy(real[:99])
