"""A whole evaluation finds what is known of the model: its distance, its likelihood, its copies."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.evaluation.preparation import training_and_unseen
from ornstein.evaluation.progress import Progress
from ornstein.evaluation.wording import verdicts
from ornstein.workers import torch_threads

pytestmark = pytest.mark.usefixtures("few_trees")
LAW = orn.ExactMixture(torch.tensor([0.6, 0.4]), torch.tensor([[-0.4, 0.1], [0.4, -0.2]]),
                       torch.tensor([0.01, 0.02]), orn.Cosine())
FEW = {"count": 600, "spaces": ["pixels"]}


@pytest.fixture(scope="module", autouse=True)
def large_blocks():
    """Samples do not depend on the rows of a call, the time of exact models does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("ornstein.diffusion.samplers.loop.ROWS", 512)
        yield


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
    report = orn.evaluate(by_heart, data, likelihood=False, count=200, nfe=10, spaces=["pixels"])
    assert report.memorisation.copies
    assert report.memorisation.p_value < 1e-6
    assert report.memorisation.share > 0.9
    # Its loss on what it was built from is the lowest there is.
    training_line, held, lowest = report.levels
    assert np.allclose(training_line.value, lowest.value, rtol=0.15, atol=0.01)
    assert sum(held.value) > 2 * sum(training_line.value)


def test_the_figures_are_plain_json_and_the_same_for_the_same_seed(small, costly, tmp_path):
    seen = []
    report = orn.evaluate(Costly(), small, tell=lambda *told: seen.append(told[:2]), **SMALL)
    orn.write_report(report, tmp_path)
    assert "Fréchet distance" in str(report)
    assert json.loads((tmp_path / "report.json").read_text()) == report.as_dict()
    assert without_times(report) == costly[0]
    # Progress rises to the end and names the parts.
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert 0 <= shares[0] < 0.1
    assert 0.9 < shares[-1] <= 1 + 1e-9
    assert list(dict.fromkeys(part for part, _ in seen)) == [
        "features", "real data", "samples", "distances", "copies", "noise levels", "bounds", "flow"]


def test_unseen_rows_that_were_trained_on_are_found_and_left_out(data):
    training, unseen = data.split()
    mixed = orn.load_data(np.concatenate([np.asarray(unseen.values), np.asarray(training.values)[:40]]))
    _, kept, notes = training_and_unseen(LAW, data, mixed)
    assert len(kept) == len(unseen)
    assert any("40 of 190 held-out rows are also training rows" in note for note in notes)


def test_rows_that_are_alike_by_chance_are_kept():
    """A law of 14 coins: training rows repeat one another as often as unseen rows repeat them."""
    chance = np.random.default_rng(99).beta(0.5, 0.5, 14)
    data = orn.load_data((np.random.default_rng(0).random((2000, 14)) < chance).astype(np.uint8))
    _, kept, notes = training_and_unseen(orn.ExactDataset(torch.zeros(1, 14), orn.Cosine()), data, None)
    assert len(kept) == 200
    assert any("so they were kept" in note for note in notes)


def test_twins_are_found_in_another_type():
    whole = orn.load_data(np.random.default_rng(0).integers(0, 200, (500, 3)))
    again = np.asarray(whole.split()[0].values)[:60].astype(np.float64)
    fresh = np.random.default_rng(1).integers(0, 200, (60, 3)).astype(np.float64)
    _, kept, notes = training_and_unseen(orn.ExactDataset(torch.zeros(1, 3), orn.Cosine()), whole,
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
    assert found.floor.value > 0.95
    assert found.real == 80


class Broken(orn.Denoiser):
    def forward(self, z, t, condition=None):
        return orn.Estimate(z, self.level(z, t), z * math.nan)


@pytest.mark.parametrize(("call", "message"), [
    (lambda data: orn.evaluate(LAW, data, count=10), "count is 10; an evaluation needs at least 30"),
    (lambda _: orn.evaluate(LAW, np.zeros((100, 3)) + np.arange(100)[:, None]), r"shape \(3,\), the model"),
    (lambda _: orn.evaluate(LAW, LAW.draw(100).clamp(-1, 1)), "has 10 held-out rows that can be used; .* at least 30"),
    (lambda _: orn.evaluate(LAW, np.zeros((400, 2))), "all equal|at least 30"),
    (lambda data: orn.evaluate(LAW, data, spaces=["pixel"]), "did you mean 'pixels'"),
    (lambda data: orn.evaluate(LAW, data, sampler="hoin"), "did you mean 'heun'"),
])
def test_what_cannot_be_evaluated_is_refused(data, call, message):
    with pytest.raises(ValueError, match=message):
        call(data)


def test_samples_that_are_none_are_said(small):
    with pytest.raises(RuntimeError, match="60 of 60 samples are not finite"):
        orn.evaluate(Broken(orn.Cosine(), (2,)), small, **SMALL)


def test_a_missing_file_of_features_is_named(tmp_path):
    pictures = np.random.default_rng(0).integers(0, 255, (400, 1, 8, 8), dtype=np.uint8)
    model = orn.NetworkDenoiser(orn.MLP((1, 8, 8), width=8, depth=1), orn.Cosine(), (1, 8, 8))
    with pytest.raises(FileNotFoundError, match=r"nothing\.pt"):
        orn.evaluate(model, pictures, spaces=[f"inception={tmp_path / 'nothing.pt'}"])


class Costly(orn.Denoiser):
    """LAW, on a clock of its own: a twentieth of a second a call, and a tenth more for each row."""

    def __init__(self):
        super().__init__(orn.Cosine(), (2,))
        self.now, self.calls = 0.0, 0

    def forward(self, z, t, condition=None):
        self.now += 0.05 + len(z) / 10
        self.calls += 1
        return LAW(z, t, condition)


SMALL = {"count": 60, "spaces": ["pixels"], "facts": {"sha256": "of the law"}}


@pytest.fixture(scope="module")
def small() -> orn.Dataset:
    return orn.load_data(LAW.draw(400, seed=1).clamp(-1, 1))


@pytest.fixture(autouse=True)
def alone():
    """A worker's calls would not be counted here."""
    with torch_threads(1):
        yield


@pytest.fixture(scope="module")
def costly(small) -> tuple[dict, Costly, list[tuple[float, float, float]]]:
    """A report, its model, and what was told: the time, the share that is done, the time that is left."""
    model, told = Costly(), []
    with pytest.MonkeyPatch.context() as patch, torch_threads(1):
        patch.setattr(Progress, "clock", lambda _self: model.now)
        report = orn.evaluate(model, small, tell=lambda *facts: told.append((model.now, *facts[1:])), **SMALL)
    return without_times(report), model, told


def without_times(report: orn.Report) -> dict:
    facts = report.as_dict()
    for name in ("created", "seconds"):
        facts.pop(name)
    facts["drawn"].pop("seconds")
    return facts


def test_the_time_left_holds_after_a_tenth(costly):
    """Within a factor of 1.5, on a machine of which nothing is known: only the network costs time here."""
    _, model, told = costly
    told = [facts for facts in told if facts[0] > model.now / 10]
    assert len({facts[0] for facts in told}) >= 4
    for now, share, left in told:
        rest = model.now - now
        # At the very end a factor means nothing: a fiftieth of the whole is allowed.
        assert rest / 1.5 - model.now / 50 <= left <= 1.5 * rest + model.now / 50, (now, left, rest)
        assert share == pytest.approx(now / model.now, abs=0.25)


@pytest.mark.parametrize("part", ["distances", "flow"])
def test_what_was_cut_short_goes_on_and_ends_the_same(small, costly, tmp_path, part):
    """Bit for bit, and what is done is not done again."""
    whole, whole_model, _ = costly
    model = Costly()

    def stop(under_way, *_):
        if under_way == part:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        orn.evaluate(Costly(), small, tell=stop, partial=tmp_path / "kept", **SMALL)
    assert without_times(orn.evaluate(model, small, partial=tmp_path / "kept", **SMALL)) == whole
    if part == "flow":
        assert model.calls < whole_model.calls / 2
        again = Costly()
        assert without_times(orn.evaluate(again, small, partial=tmp_path / "kept", **SMALL)) == whole
        assert again.calls < 10  # trials of what a call costs
        for path in (tmp_path / "kept").glob("*-[lds]*"):
            path.write_bytes(path.read_bytes()[:20])  # damaged: made again
        assert without_times(orn.evaluate(Costly(), small, partial=tmp_path / "kept", **SMALL)) == whole


def test_what_is_kept_of_one_evaluation_is_not_taken_for_another(small, tmp_path):
    names = list[set[str]]()

    def stop(part, *_):
        if part == "distances":
            raise KeyboardInterrupt

    for options in ({}, {"facts": {"sha256": "of another"}}, {"seed": 1}, {"nfe": 5}):
        with pytest.raises(KeyboardInterrupt):
            orn.evaluate(LAW, small, likelihood=False, partial=tmp_path, tell=stop, **SMALL | options)
        names.append({path.name for path in tmp_path.iterdir()}.difference(*names))
    assert len({len(found) for found in names}) == 1
    with pytest.raises(ValueError, match="facts have no 'sha256' of the model"):
        orn.evaluate(LAW, small, partial=tmp_path, **SMALL | {"facts": {}})
