"""A whole evaluation finds what is known of the model: its distance, its likelihood, its copies."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.evaluation.ranking import verdicts
from ornstein.evaluation.rows import sides

LAW = orn.ExactMixture(torch.tensor([0.6, 0.4]), torch.tensor([[-0.4, 0.1], [0.4, -0.2]]),
                       torch.tensor([0.01, 0.02]), orn.Cosine())
FEW = {"count": 600, "spaces": ["pixels"]}


class Moved(orn.Denoiser):
    """What LAW draws, moved by 0.2 in every value."""

    def __init__(self):
        super().__init__(orn.Cosine(), (2,))

    def forward(self, z, t, condition=None):
        level = self.level(z, t)
        signal = level.signal * torch.ones_like(z)
        inner = LAW(z - 0.2 * signal, t, condition)
        return orn.Estimate.from_x(inner.x + 0.2, z, level)


@pytest.fixture(scope="module")
def data() -> orn.Dataset:
    # Values in [-1, 1] map to themselves, so that LAW is the law of the data as the models see them.
    return orn.load_data(LAW.draw(1500, seed=1).clamp(-1, 1))


@pytest.fixture(scope="module")
def perfect(data) -> orn.Report:
    return orn.evaluate(LAW, data, **FEW)


@pytest.fixture(scope="module")
def moved(data) -> orn.Report:
    return orn.evaluate(Moved(), data, **FEW)


def test_a_perfect_model_is_found_perfect(perfect):
    """Each interval misses one time in twenty; the seed is one where none does, and of five figures all hold."""
    assert perfect.measure("frechet").low == 0
    assert perfect.measure("kernel").low == 0
    assert perfect.measure("auc").low <= 0.5 <= perfect.measure("auc").high + 0.05
    assert not perfect.memorisation.copies
    for one in perfect.measures:
        assert one.floor is not None
        assert one.low <= one.high


def test_likelihoods_are_those_of_the_law(perfect, data):
    unseen = data.split()[1]
    assert perfect.data["held_out"] == len(unseen)
    found = {one.key: one for one in perfect.likelihood}
    x = torch.from_numpy(np.asarray(unseen.values)).double()
    true = float(LAW.log_prob(x).mean())
    assert found["ode"].nats == pytest.approx(true, abs=2e-3)
    assert abs(found["bound"].nats - true) < 4.5 * found["bound"].error
    assert found["chain"].nats < true + 4.5 * found["chain"].error
    assert found["gaussian"].nats < true - 0.1
    assert all(one.bits is None for one in perfect.likelihood)
    assert [name for name, _, _ in found["bound"].terms] == ["reconstruction", "prior", "diffusion"]
    assert all(one.grid for one in perfect.likelihood if not one.key.startswith("gaussian"))


def test_a_model_that_is_off_is_found_off_by_as_much(moved, perfect):
    """Its squared Fréchet distance is |0.2, 0.2|^2; rotation by principal components leaves it as it is."""
    found = moved.measure("frechet")
    assert found.low < 0.08 < found.high
    assert found.low > 0
    assert moved.measure("auc").low > 0.5
    assert moved.likelihood[0].nats < perfect.likelihood[0].nats


def test_models_are_ranked_only_where_their_intervals_are_apart(moved, perfect):
    better = {name.split(" (")[0]: who for name, who, _ in verdicts(moved, perfect)}
    assert better["Fréchet distance"] == "B"
    assert better["Bound, continuous time"] == "B"
    other = orn.evaluate(LAW, LAW.draw(900, seed=5).clamp(-1, 1), likelihood=False, **FEW)
    assert all(who is None and "other data" in words for _, who, words in verdicts(moved, other))


def test_a_model_that_repeats_its_training_data_is_found_out():
    data = orn.load_data(np.random.default_rng(0).normal(0, 0.25, (400, 16)).clip(-1, 1))
    training = data.split()[0]
    by_heart = orn.ExactDataset(torch.from_numpy(np.asarray(training.values)), orn.Cosine())
    report = orn.evaluate(by_heart, data, likelihood=False, count=400, spaces=["pixels"])
    assert report.memorisation.copies
    assert report.memorisation.p_value < 1e-6
    assert report.memorisation.share > 0.9
    # Its loss on what it was built from is the lowest there is.
    training_line, held, lowest = report.levels
    assert np.allclose(training_line.value, lowest.value, rtol=0.15, atol=0.01)
    assert sum(held.value) > 2 * sum(training_line.value)


def test_the_figures_are_plain_json_and_the_same_for_the_same_seed(perfect, data, tmp_path):
    orn.write_report(perfect, tmp_path)
    assert "Fréchet distance" in str(perfect)
    read = json.loads((tmp_path / "report.json").read_text())
    assert read == perfect.as_dict()
    seen = []
    again = orn.evaluate(LAW, data, tell=lambda part, share: seen.append((part, share)), **FEW).as_dict()
    for facts in (read, again):
        for name in ("created", "seconds"):
            facts.pop(name)
        facts["drawn"].pop("seconds")
    assert again == read
    # Progress rises to the end and names the parts.
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert 0.9 < shares[-1] <= 1 + 1e-9
    assert list(dict.fromkeys(part for part, _ in seen)) == [
        "features", "samples", "distances", "copies", "noise levels", "bounds", "flow"]


def test_unseen_rows_that_were_trained_on_are_found_and_left_out(data):
    training, unseen = data.split()
    mixed = orn.load_data(np.concatenate([np.asarray(unseen.values), np.asarray(training.values)[:40]]))
    _, kept, notes = sides(LAW, data, mixed)
    assert len(kept) == len(unseen)
    assert any("40 of 190 held-out rows are also training rows" in note for note in notes)


def test_rows_that_are_alike_by_chance_are_kept():
    """A law of 14 coins: training rows repeat one another as often as unseen rows repeat them."""
    chance = np.random.default_rng(99).beta(0.5, 0.5, 14)
    data = orn.load_data((np.random.default_rng(0).random((2000, 14)) < chance).astype(np.uint8))
    _, kept, notes = sides(orn.ExactDataset(torch.zeros(1, 14), orn.Cosine()), data, None)
    assert len(kept) == 200
    assert any("so they were kept" in note for note in notes)


def test_twins_are_found_in_another_type():
    whole = orn.load_data(np.random.default_rng(0).integers(0, 200, (500, 3)))
    again = np.asarray(whole.split()[0].values)[:60].astype(np.float64)
    fresh = np.random.default_rng(1).integers(0, 200, (60, 3)).astype(np.float64)
    _, kept, notes = sides(orn.ExactDataset(torch.zeros(1, 3), orn.Cosine()), whole,
                           orn.load_data(np.concatenate([again, fresh])))
    assert len(kept) == 60
    assert any("60 of 120 held-out rows" in note for note in notes)
    # Mapped by the range of the training data, not by their own.
    assert kept.spec.low == whole.spec.low


def test_classes_are_counted_against_what_was_asked_for():
    """A model that draws every class as it should, judged by a classifier that was trained on the data."""
    law = orn.ExactMixture(torch.tensor([0.5, 0.5]), torch.tensor([[-0.5, 0.0], [0.5, 0.0]]),
                           torch.tensor([0.01, 0.01]), orn.Cosine())
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 800)
    x = (law.mean.numpy()[labels] + 0.1 * rng.standard_normal((800, 2))).clip(-1, 1)
    report = orn.evaluate(law, (x, labels), count=400, spaces=["network"], likelihood=False)
    found = report.measure("accuracy")
    assert found.value > 0.99  # five deviations lie between a mean and the border
    assert found.floor > 0.95
    assert found.real == 80


class Broken(orn.Denoiser):
    def forward(self, z, t, condition=None):
        return orn.Estimate(z, self.level(z, t), z * math.nan)


@pytest.mark.parametrize(("call", "message"), [
    (lambda data: orn.evaluate(LAW, data, count=10), "count is 10; an evaluation needs at least 30"),
    (lambda _: orn.evaluate(LAW, np.zeros((100, 3)) + np.arange(100)[:, None]), r"shape \(3,\), the model"),
    (lambda _: orn.evaluate(LAW, LAW.draw(100).clamp(-1, 1)), "has 10 held-out rows that can be used; .* at least 30"),
    (lambda _: orn.evaluate(LAW, np.zeros((400, 2))), "alike|at least 30"),
    (lambda data: orn.evaluate(Broken(orn.Cosine(), (2,)), data, **FEW), "600 of 600 samples hold values that are not"),
    (lambda data: orn.evaluate(LAW, data, spaces=["pixel"]), "did you mean 'pixels'"),
    (lambda data: orn.evaluate(LAW, data, sampler="hoin"), "did you mean 'heun'"),
])
def test_what_cannot_be_evaluated_is_refused(data, call, message):
    with pytest.raises(ValueError, match=message):
        call(data)


def test_a_missing_file_of_features_is_named(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 255, (400, 1, 8, 8), dtype=np.uint8)
    model = orn.NetworkDenoiser(orn.MLP((1, 8, 8), width=8, depth=1), orn.Cosine(), (1, 8, 8))
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        orn.evaluate(model, pictures, spaces=[f"inception={tmp_path / 'nothing.pt'}"])
