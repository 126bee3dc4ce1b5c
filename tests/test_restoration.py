"""How sure a model is: coverage, ranks and CRPS of what it draws from measurements, and what the report says of it."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.diffusion.editing.operator import read_operator
from ornstein.evaluation.page import render
from ornstein.evaluation.preparation import training_and_unseen
from ornstein.evaluation.restoration import as_sample, calibration, gaussian_crps, linear_estimate, unmeasured
from ornstein.evaluation.results import Restoration
from ornstein.evaluation.verdict import certainty
from reports import words

pytestmark = pytest.mark.usefixtures("few_trees")
SIZE, ROWS, DRAWS = 8, 40, 19
ROOT = np.linalg.cholesky(np.exp(-np.abs(np.subtract.outer(range(SIZE), range(SIZE))) / 4))


def posterior(seed: int, spread: float = 1.0, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    """Truth of rows whose values go together, and draws around the right mean with a spread."""
    draw = np.random.default_rng(seed)
    mean = draw.standard_normal((rows, SIZE))
    return (mean + draw.standard_normal((rows, SIZE)) @ ROOT.T,
            mean[:, None] + spread * (draw.standard_normal((rows, DRAWS, SIZE)) @ ROOT.T))


def found(seed: int, spread: float) -> Restoration:
    return Restoration(**vars(calibration(*posterior(seed, spread))), operator="mask=0.5", noise=0.0, rows=ROWS,
                       draws=DRAWS, nfe=50, values=SIZE)


def test_exact_draws_are_said_to_be_right_in_nineteen_cases_of_twenty():
    """The intervals are of 95 % though the values of a row are anything but independent: of 100 evaluations 5 raise a
    false alarm, give or take 2 (more than 12 in one of 700 such tests); by the values alone it would be some 30."""
    wrong = sum(found(seed, 1.0).sure != "as sure as it should be" for seed in range(100))
    assert wrong <= 12


@pytest.mark.parametrize(("spread", "said", "covered"), [(0.5, "too sure", 0.589), (2.0, "less sure", 0.999)])
def test_draws_of_another_spread_are_found_out(spread, said, covered):
    """Normal draws of half the spread cover 2 Phi(1.645 / 2) - 1 = 0.589 in the limit, of twice the spread 0.999."""
    for seed in range(5):
        one = found(seed, spread)
        assert said in certainty(one)
        assert one.most.value == pytest.approx(covered, abs=0.07)
        assert (one.ranks[0] > 1.5) == (spread < 1)


def test_ranks_that_are_equal_are_shared_and_what_is_certain_is_left_out():
    """Truth and draws are of one law, of whole numbers, of which the first value is always 0."""
    draw = np.random.default_rng(0)
    every = np.floor(2 * draw.random((400, DRAWS + 1, 3))) * [0, 1, 1]
    one = calibration(every[:, 0], every[:, 1:])
    assert one.half.low < 0.5 < one.half.high
    assert one.most.low < 0.9 < one.most.high
    with pytest.raises(ValueError, match="nothing is uncertain"):
        calibration(every[:, 0, :1], every[:, 1:, :1])


def test_crps_is_that_of_the_closed_form():
    """Of draws from the law in question it is the closed form on average, for any number of draws."""
    truth, draws = np.zeros((20_000, 1)) + 0.7, np.random.default_rng(0).standard_normal((20_000, DRAWS, 1))
    known = float(gaussian_crps(truth[:1], np.zeros(1), np.ones(1))[0, 0])
    # Gneiting & Raftery (2007, eq. 21) at 0.7, of the error function to 10 digits.
    assert known == pytest.approx(0.7 * (2 * 0.7580363478 - 1) + 2 * 0.3122539334 - 0.5641895835, abs=1e-9)
    one = calibration(truth, draws).crps
    assert abs(one.value - known) < 2 * one.half
    assert one.half < 0.005


def test_the_linear_estimate_is_the_posterior_of_a_gaussian():
    mean, covariance = torch.linspace(-0.2, 0.2, SIZE, dtype=torch.float64), torch.from_numpy(0.04 * ROOT @ ROOT.T)
    law = orn.ExactGaussian(mean, covariance, orn.Cosine())
    data = training_and_unseen(law, orn.load_data(law.draw(40_000, seed=0).clamp(-1, 1)), None)[0]
    operator = read_operator("mask=0.5", (SIZE,))
    matrix = operator.matrix()
    y = operator(law.draw(5, seed=1))
    gain = covariance @ matrix.T @ torch.linalg.inv(matrix @ covariance @ matrix.T + 0.01 * torch.eye(len(matrix)))
    found = linear_estimate(data, operator, y, 0.1, 0)
    assert np.abs(found[0] - (mean + (y - matrix @ mean) @ gain.T).numpy()).max() < 0.02
    right = (covariance - gain @ matrix @ covariance).diagonal().sqrt().numpy()
    assert np.allclose(found[1], right, rtol=0.03)


def test_of_a_mask_only_what_it_hides_is_judged():
    seen = read_operator("mask=0.5", (1, 8, 8))
    left = unmeasured(seen)
    assert left.sum() == 32
    assert not seen(left.reshape(1, 1, 8, 8).double()).any()
    assert unmeasured(read_operator("down=4", (1, 8, 8))).all()


@pytest.mark.parametrize("name", ["mask=0.5", "down=2", "grey"])
def test_a_measurement_is_shown_as_the_least_sample_that_gives_it(name):
    operator = read_operator(name, (3, 4, 4))
    y = operator(torch.rand(2, 3, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0)))
    seen = as_sample(operator, y)
    assert torch.allclose(operator(seen), y)
    least = torch.linalg.pinv(operator.matrix()) @ y.flatten(1).T
    assert torch.allclose(seen.flatten(1), least.T)


def test_the_page_and_the_text_say_in_plain_words_that_a_model_is_too_sure():
    one = words()
    one.restorations = [found(0, 0.5)]
    said = certainty(one.restorations[0])
    assert re.fullmatch(r"restoring from mask=0.5, the model is too sure: its 90 % ranges hold the truth in \d\d % of "
                        r"cases \(\d\d to \d\d\)", said)
    page = render([one])
    assert f"{said[1:]}." in page
    assert "Inside the 90 % intervals" in page
    assert f"{said[1:]}." in str(one)
    assert "How sure it is" not in render([words()])


class Law(orn.Denoiser):
    """A Gaussian of correlated values."""

    def __init__(self):
        super().__init__(orn.Cosine(), (SIZE,))
        self.law = orn.ExactGaussian(torch.zeros(SIZE), torch.from_numpy(0.04 * ROOT @ ROOT.T).float(), orn.Cosine())

    def forward(self, z, t, condition=None):
        return self.law(z, t, condition)


@pytest.mark.parametrize(("options", "message"), [
    ({"restore": "mask=2"}, "mask"), ({"restore": ["mask=0.5", "blu=1"]}, "did you mean 'blur'.*allowed: .*mask"),
    ({"restore": "mask=0.5", "noise": -1.0}, "noise is -1"), ({"noise": 0.1}, "nothing is measured; give restore"),
    ({"restore": "mask=1.0"}, "restore is 'mask=1.0', which measures every value.*measure less, such as mask=0.5")])
def test_measurements_that_are_none_are_refused(options, message):
    x = Law().law.draw(400, seed=1)
    with pytest.raises(ValueError, match=message):
        orn.evaluate(Law(), x.clamp(-1, 1), **options)


def test_an_evaluation_restores_held_out_rows(monkeypatch):
    """Of a Gaussian that the model knows, by fewer draws than usual."""
    for name, value in (("DRAWS", 19), ("MIN_ROWS", 10), ("MAX_ROWS", 10)):
        monkeypatch.setattr(f"ornstein.evaluation.restoration.{name}", value)
    x = Law().law.draw(400, seed=1).clamp(-1, 1)
    report = orn.evaluate(Law(), x, count=60, spaces=["pixels"], likelihood=False, restore="mask=0.5")
    one, = report.restorations
    assert (one.rows, one.draws, one.values) == (10, 19, 4)
    assert report.as_dict()["restorations"][0]["most"]["value"] == one.most.value
    # No estimate is better than that of the law itself, which is linear.
    assert one.error.value == pytest.approx(one.linear_error.value, rel=0.1)
    assert one.crps.value == pytest.approx(one.linear_crps.value, rel=0.1)
