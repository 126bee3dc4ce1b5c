"""A sampler chosen for one model: better on unseen noise, kept, and used only where it belongs."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

import ornstein as orn
from conftest import SCHEDULES, normal
from ornstein.diffusion.samplers.choice import Choice
from ornstein.diffusion.samplers.loop import SAMPLERS
from ornstein.evaluation.distances import frechet


@pytest.fixture(scope="module", autouse=True)
def short():
    """Samples do not depend on the rows of a call, the time of exact models does; and a short search finds enough."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ornstein.diffusion.samplers.loop.ROWS", 512)
        patch.setattr("ornstein.tuning.search.FIT_EVALUATIONS", 300)
        patch.setattr("ornstein.tuning.search.SHORTLIST", 8)
        for name in ("ITERATIONS", "TIMES_ITERATIONS"):
            patch.setattr(f"ornstein.tuning.tune.{name}", 10)
        yield


@pytest.fixture
def hasty(monkeypatch):
    """Judges that see few samples, a forest of few trees, and little to learn from."""
    monkeypatch.setattr("ornstein.tuning.judge.SAMPLES", (120, 120))
    monkeypatch.setattr("ornstein.evaluation.discrepancy.TREES", 10)
    monkeypatch.setattr("ornstein.tuning.search.MIN_EVALUATIONS", 15)
    monkeypatch.setattr("ornstein.tuning.tune.LEARNING_STARTS", (64, 64))


def medians(model, nfe, choice, z):
    """Median errors of the choice and of auto without tuning."""
    end, found = orn.sample(model, z=z, sampler="adams-moulton", nfe=200), []
    for tuned in ({nfe: choice}, {}):
        model.tuned = tuned
        x = orn.sample(model, z=z, nfe=nfe)
        found.append(float((x - end).square().mean(1).sqrt().median()))
    return found


@pytest.mark.parametrize("name", ["cosine", pytest.param("chain-linear", marks=pytest.mark.slow)])  # the same once more
def test_a_tuned_model_is_nearer_to_its_exact_paths(mixture_of, name):
    """At 6 calls, on 128 other noises less than 0.9 of the error of auto, which uses it; of 64 starts, up to 1.03."""
    model = mixture_of(SCHEDULES[name], dim=8, components=16)
    choice = orn.tune(model, 6, starts=256)
    assert model.tuned == {6: choice}
    tuned, plain = medians(model, 6, choice, normal(128, 8, seed=5))
    assert tuned < 0.9 * plain
    assert min(choice.errors.values()) < choice.errors["auto"]


def test_samples_that_are_further_from_the_data_are_not_chosen(mixture_of):
    """A distance that calls everything but auto's samples far leaves auto, whatever the paths say."""
    model = mixture_of(orn.Cosine(), dim=2, components=4)
    plain = []

    def distance(x):
        plain.append(x)
        return 1.0 if len(plain) == 1 else 2.0

    assert orn.tune(model, 4, starts=32, distance=distance).sampler == "auto"
    assert orn.tune(model, 4, starts=32, distance=lambda _: 1.0).sampler != "auto"


class Long(orn.Denoiser):
    """A model whose velocity is longer than that of its data by a factor."""

    def __init__(self, inner, factor):
        super().__init__(inner.schedule, inner.shape)
        self.inner, self.factor = inner, factor

    def forward(self, z, t, condition=None):
        found = self.inner(z, t, condition)
        return orn.Estimate(z, found.level, self.factor * found.v)


@pytest.fixture(scope="module")
def gaussian():
    """Data whose directions differ: a velocity of another length changes their variances."""
    variance = torch.tensor([0.01, 0.04, 0.2, 0.5, 2.0, 4.0], dtype=torch.float64)
    return orn.ExactGaussian(torch.zeros(6, dtype=torch.float64), variance, orn.Cosine())


def damped(model, gaussian):
    """The choice by the distance to 20,000 of the data."""
    data = gaussian.draw(20_000, seed=3).numpy()
    return orn.tune(model, 10, starts=32, distance=lambda x: frechet(data, x.numpy()))


def test_a_velocity_that_is_too_long_is_damped(gaussian):
    """One that is 1 / 0.9 of what it should be by 0.06 to 0.1; and auto then uses the damping."""
    model = Long(gaussian, 1 / 0.9)
    choice = damped(model, gaussian)
    assert 0.06 <= choice.damping <= 0.1, choice.why
    z = normal(20, 6, seed=1)
    own = orn.sample(orn.Damped(model, choice.damping), z=z, sampler=choice.sampler, times=choice.times)
    assert torch.equal(orn.sample(model, z=z, nfe=10), own)


def test_a_velocity_that_is_right_is_left_alone(gaussian):
    assert damped(gaussian, gaussian).damping == 0


def test_data_that_are_moved_are_damped_alike():
    """The samples move with the data's mean, to the rounding of 7 steps in float32."""
    torch.manual_seed(0)
    network, found = orn.MLP((2,), width=8, depth=1), []
    for mean in (0.0, 100.0):
        model = orn.NetworkDenoiser(network, orn.Cosine(), (2,), data_mean=mean).eval()
        found.append(orn.sample(orn.Damped(model, 0.1), z=normal(20, 2).float(), sampler="ddim", nfe=7) - mean)
    torch.testing.assert_close(*found, rtol=0, atol=1e-3)


@pytest.mark.parametrize("damping", [0.6, -0.6, float("nan")])
def test_a_damping_that_cannot_be_is_refused(damping):
    with pytest.raises(ValueError, match=f"damping is {damping}"):
        orn.Damped(Long(orn.ExactGaussian(torch.zeros(2), torch.ones(2), orn.Cosine()), 1.0), damping)


@pytest.fixture
def tuned():
    """A small network with a choice for 3 calls."""
    torch.manual_seed(0)
    network = orn.MLP((2,), width=8, depth=1)
    model = orn.NetworkDenoiser(network, orn.Cosine(), (2,)).eval()
    times = torch.tensor([1.0, 0.7, 0.2, 0.0], dtype=torch.float64)
    angles = model.schedule.level(times).angle
    errors = {"auto": 1.0, "ddim": 0.5}
    model.tuned[3] = Choice(3, "ddim", tuple(times.tolist()), tuple(angles.tolist()), errors, "told", 0.02)
    return model


def test_times_are_learned_too_if_those_of_auto_are_far_too_coarse(monkeypatch, mixture_of):
    for ratio, is_coarse in ((1e9, False), (1e-9, True)):
        monkeypatch.setattr("ornstein.tuning.tune.MAX_RATIO", ratio)
        model = mixture_of(orn.Cosine())
        choice = orn.tune(model, 3, starts=16, distance=lambda x: float(x.square().mean()))
        assert ("learned with its times" in choice.errors) == is_coarse
        assert not is_coarse or choice.errors["learned with its times"] < choice.errors["learned by regression"]


def test_a_choice_is_kept_with_the_model_and_draws_the_same_samples(tuned, tmp_path):
    orn.save(tuned, tmp_path / "model.safetensors")
    again = orn.load(tmp_path / "model.safetensors")
    assert again.tuned == tuned.tuned
    own = orn.sample(tuned, 5, nfe=3)
    assert torch.equal(orn.sample(again, 5, nfe=3), own)
    damped = orn.Damped(tuned, 0.02)
    assert torch.equal(orn.sample(damped, 5, sampler="ddim", times=tuned.tuned[3].times), own)
    tuned.tuned = {}
    assert not torch.equal(orn.sample(tuned, 5, nfe=3), own)


def test_a_choice_is_for_its_calls_without_guidance_and_for_its_schedule(tuned):
    choice, plain = tuned.tuned[3], {"nfe": 4}
    kept = [orn.sample(tuned, 5, **words) for words in (plain, {"steps": 3}, {"nfe": 3, "sampler": "heun"})]
    tuned.tuned = {}
    for x, words in zip(kept, (plain, {"steps": 3}, {"nfe": 3, "sampler": "heun"}), strict=True):
        assert torch.equal(x, orn.sample(tuned, 5, **words))
    tuned.tuned, tuned.schedule = {3: choice}, orn.Linear()
    with pytest.raises(ValueError, match="another schedule"):
        orn.sample(tuned, 5, nfe=3)


@pytest.mark.parametrize(("change", "message"), [
    ({"sampler": "os.system"}, "unknown"), ({"sampler": "ancestral"}, "deterministic"), ({"nfe": 2}, "no more calls"),
    ({"nfe": 10**9}, "at most"), ({"times": [1.0, 0.2, 0.7, 0.0]}, "strictly"),
    ({"times": [1.0, float("nan"), 0.2, 0.0]}, "times is nan"),
    ({"angles": [0.0]}, "angles"), ({"damping": 2.0}, "damping is 2.0"), ({"errors": None}, "incomplete or damaged"),
    ({"times": []}, "strictly"),
])
def test_a_file_with_a_choice_that_cannot_be_is_refused(tuned, change, message):
    with pytest.raises(ValueError, match=message):
        Choice.from_dict({**tuned.tuned[3].as_dict(), **change}, SAMPLERS)
    facts = tuned.tuned[3].as_dict()
    assert Choice.from_dict(facts, SAMPLERS) == tuned.tuned[3]
    del facts["damping"]  # as it was written before there was any
    assert Choice.from_dict(facts, SAMPLERS) == dataclasses.replace(tuned.tuned[3], damping=0.0)


@pytest.mark.parametrize(("words", "message"), [({"nfe": 0}, "nfe is 0"), ({"nfe": 1001}, "at most 1000"),
                                            ({"nfe": 5, "starts": 3}, "at least 16")])
def test_a_search_that_cannot_be_is_refused_before_the_model_is_called(words, message):
    class Silent(orn.Denoiser):
        def forward(self, *_):
            raise AssertionError("called")

    with pytest.raises(ValueError, match=message):
        orn.tune(Silent(orn.Cosine(), (2,)), **words)


@pytest.mark.usefixtures("hasty")
def test_the_command_tunes_a_run_and_sampling_uses_it(command):
    assert command("train", "moons", "--images", "256", "--out", "run", "--set", "options={width: 8, depth: 1}")[0] == 0
    code, out, errors = command("tune", "run", "--nfe", "3", "--starts", "16")
    assert (code, errors) == (0, "")
    assert "chosen: " in out
    assert list(orn.load(Path("run")).tuned) == [3]
    name = orn.load(Path("run")).tuned[3].sampler
    told = command("sample", "run", "--nfe", "3", "--count", "2", "--out", "three.npz")[1]
    assert (f"by {name}, tuned for 3 calls" in told) == (name != "auto")
    assert "tuned" not in command("sample", "run", "--nfe", "4", "--count", "2", "--out", "four.npz")[1]
    for words in (["--nfe", "0"], ["--nfe", "3", "--starts", "2"], []):
        code, _, errors = command("tune", "run", *words)
        assert code == 2
        assert errors.count("\n") == 1
    assert command("tune", "nowhere", "--nfe", "3")[0] == 2


@pytest.mark.usefixtures("hasty")
def test_several_budgets_are_learned_in_seconds_and_for_guidance(command):
    """A line for each budget; guided samples use what is for their guidance, and others say that they do not."""
    small = ("--set", "options={width: 8, depth: 1}")
    assert command("train", "moons", "--images", "256", "--out", "run", *small)[0] == 0
    code, out, errors = command("tune", "run", "--nfe", "4,2,4", "--quick", "--starts", "16", "--guidance", "1.5")
    assert (code, errors) == (0, "")
    assert [out.count(f"unseen starts, {calls} calls") for calls in (2, 4)] == [1, 1]
    assert "2 calls cannot draw what many calls do" in out
    assert "--nfe 2 or 4, --guidance 1.5" in out
    assert list(orn.load(Path("run")).tuned) == [(2, 1.5), (4, 1.5)]
    guided = command("sample", "run", "--nfe", "4", "--guidance", "1.5", "--count", "2", "--out", "a.npz")[1]
    assert "the sampler tuned for this number" not in guided
    assert ("tuned for 4 calls" in guided) == (orn.load(Path("run")).tuned[4, 1.5].sampler != "auto")
    plain = command("sample", "run", "--nfe", "4", "--count", "2", "--out", "b.npz")[1]
    assert "by auto: the sampler tuned for this number of calls is for guidance 1.5" in plain
    for words in ("4,x", "", "0,4"):
        code, _, errors = command("tune", "run", "--nfe", words)
        assert (code, errors.count("\n")) == (2, 1)


@pytest.mark.usefixtures("hasty")
def test_a_run_on_few_samples_is_judged_by_the_error_alone(command):
    np.save("few.npy", np.random.default_rng(0).standard_normal((60, 2)).astype("f4"))
    small = ("--set", "options={width: 8, depth: 1}")
    assert command("train", "few.npy", "--images", "256", "--out", "run", *small)[0] == 0
    code, out, _ = command("tune", "run", "--nfe", "3", "--quick", "--starts", "16")
    assert code == 0
    assert "are too few to judge by" in out
    assert "distance to data" not in out
