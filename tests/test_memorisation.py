"""Copies that were planted must be found, copies that are not there must not, and both at the rates that are stated."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import nhypergeom
from torch.nn import functional as F

import ornstein as orn
from ornstein.data.dataset import Dataset
from ornstein.evaluation.memorisation import duplicates, memorisation, near_p_value

DIGITS = orn.load_data("digits")
X = DIGITS.batch(np.arange(1797))[0]


def rows_of(data: Dataset, rows: np.ndarray) -> Dataset:
    part = copy.copy(data)
    part.values, part.labels, part.held = data.values[rows], data.labels[rows], data.held[rows]
    return part


def split(seed: int) -> tuple[torch.Tensor, Dataset, Dataset, torch.Tensor]:
    """Unseen digits in place of a model's, the training rows, the held-out rows, and encoded training rows."""
    order = np.random.default_rng(seed).permutation(1797)
    return X[order[1497:]], rows_of(DIGITS, order[:1200]), rows_of(DIGITS, order[1200:1497]), X[order[:300]]


def cropped(x: torch.Tensor, side: float, place: torch.Tensor) -> torch.Tensor:
    """A window of a share of the side at a place in [0, 1]^2, resized bilinearly."""
    theta = torch.eye(2, 3).repeat(len(x), 1, 1) * side
    theta[:, :, 2] = (2 * place - 1) * (1 - side)
    return F.grid_sample(x, F.affine_grid(theta, list(x.shape), align_corners=False), padding_mode="border",
                         align_corners=False)


def noisy(x: torch.Tensor, share: float) -> torch.Tensor:
    """With noise of a deviation of a share of the range, which is 2."""
    return x + 2 * share * torch.randn(x.shape, generator=torch.Generator().manual_seed(0))


COPIES = {
    "exact": lambda x: x,
    "flipped": lambda x: x.flip(-1),
    "noise of 2 %": lambda x: noisy(x, 0.02),
    "noise of 5 %": lambda x: noisy(x, 0.05),
    "cropped": lambda x: cropped(x, 0.85, torch.rand(len(x), 2, generator=torch.Generator().manual_seed(0))),
}


@pytest.mark.parametrize(("how", "share"), [*((how, 0.2 if how == "cropped" else 0.05) for how in COPIES),
                                            ("exact", 1.0), ("cropped", 1.0)])
def test_planted_copies_are_found(how, share):
    """At 5 % of 300 digits; crops, of which 8 x 8 pixels keep little, only from 20 % on."""
    samples, training, held, source = split(0)
    count = int(share * len(samples))
    samples[:count] = COPIES[how](source[:count])
    training.names = [f"digits/{row}.png" for row in range(len(training))]
    found = memorisation(samples, training, held)
    assert found.copies
    assert found.p_value < (0.002 if share < 0.2 else 1e-4)
    # Noise of 2 % is a third of a level: one digit in 300 is the old one after rounding.
    assert found.exact == pytest.approx(share if how == "exact" else 0, abs=0.01 if how == "noise of 2 %" else 0)
    # Row i was planted from training row i, and the nearest pairs say so, and how.
    assert all(pair.sample == pair.training < count for pair in found.pairs)
    assert all(pair.name == f"digits/{pair.training}.png" for pair in found.pairs)
    if how != "flipped":  # a digit may be its own mirror image
        wanted = how if how == "cropped" else "as it is"
        assert sum(pair.how == wanted for pair in found.pairs) > len(found.pairs) / 2
    if how != "cropped":
        # Every copy counts as near, and the rest as often as held-out digits to within four deviations.
        assert count <= found.share * 300 <= count + (300 - count) * 0.02 + 4 * np.sqrt(2 * 6)


@pytest.mark.parametrize(("splits", "most"), [(5, 1), pytest.param(500, 12, marks=pytest.mark.slow)])
def test_without_copies_there_is_no_alarm_but_at_the_stated_rate(splits, most):
    """Unseen digits in place of a model's, in random splits."""
    found = [memorisation(*split(seed)[:3]) for seed in range(splits)]
    rate = found[0].false_alarms
    assert 0.005 < rate <= 0.01
    # Binomial(5 or 500, 0.0075): more than 1 or 12 alarms in 6 or 1 of 10,000 such tests.
    assert sum(one.copies for one in found) <= most
    # A share has deviation 0.0115 about the expected one, by its law.
    assert np.mean([one.share for one in found]) == pytest.approx(found[0].expected, abs=4 * 0.0115 / np.sqrt(splits))


@given(samples=st.integers(1, 40), held=st.integers(1, 40), data=st.data())
def test_the_chance_is_the_negative_hypergeometric_tail(samples, held, data):
    rank = data.draw(st.integers(1, held))
    near = data.draw(st.integers(0, samples))
    assert near_p_value(near, samples, held, rank) == pytest.approx(
        float(nhypergeom(samples + held, samples, rank).sf(near - 1)), abs=1e-10)


def test_the_chance_is_what_shuffling_gives():
    rng = np.random.default_rng(0)
    for law in (rng.normal, lambda size: rng.integers(0, 5, size).astype(float)):  # the second has ties
        values = law(size=(20_000, 50))
        threshold = np.sort(values[:, 30:], 1)[:, 2:3]
        near = (values[:, :30] < threshold).sum(1)
        for count in (3, 6, 10, 15):
            share, stated = (near >= count).mean(), near_p_value(count, 30, 20, 3)
            assert share < stated + 4 * np.sqrt(stated / 20_000)
            if law is rng.normal:
                assert share > stated - 4 * np.sqrt(stated / 20_000)


@pytest.mark.parametrize("alike", [0.0, 0.3])
def test_false_alarms_are_bounded_where_the_data_have_copies_of_their_own(alike):
    """Samples and held-out rows both repeat training rows at the same rate: nothing is out of the ordinary."""
    alarms = []
    for seed in range(30):
        rng = np.random.default_rng(seed)
        values = rng.standard_normal((400, 3)).astype(np.float32)
        again = rng.random(400) < alike
        again[:200] = False
        values[again] = values[rng.integers(0, 200, again.sum())]
        data = orn.load_data(values)
        found = memorisation(data.batch(np.arange(300, 400))[0], rows_of(data, np.arange(200)),
                             rows_of(data, np.arange(200, 300)))
        assert 0 < found.false_alarms <= 0.01
        assert found.exact == pytest.approx(again[300:].mean())
        alarms.append(found.copies)
    # Binomial(30, 0.01): three or more in 3 of 1,000 such tests.
    assert sum(alarms) < 3


def test_copies_of_a_repeated_training_picture_are_found():
    """A picture that is in the training set twice is its own second neighbour; it must not hide its copies."""
    samples, training, held, source = split(1)
    twice = rows_of(training, np.r_[np.arange(1200), np.arange(300)])
    samples[:15] = noisy(source[:15], 0.02)
    assert memorisation(samples, twice, held) == memorisation(samples, training, held)
    assert memorisation(samples, twice, held).copies


def test_arrays_of_every_rank_show_their_copies():
    rng = np.random.default_rng(0)
    for shape, layout in (((6,), "V"), ((2, 50), "CL"), ((1, 9, 20), "CHW"), ((1, 8, 9, 10), "CDHW")):
        data = orn.load_data(rng.standard_normal((500, *shape)).astype(np.float32), layout=layout)
        training, held = rows_of(data, np.arange(300)), rows_of(data, np.arange(300, 400))
        samples = data.batch(np.arange(400, 500))[0]
        assert not memorisation(samples, training, held).copies
        samples[:20] = data.batch(np.arange(20))[0] + 0.01
        found = memorisation(samples, training, held)
        assert found.copies
        assert {(pair.sample, pair.how) for pair in found.pairs} <= {(row, "as it is") for row in range(20)}


def test_averages_of_unlike_digits_are_no_copies():
    """A model worse than the data is not accused: means of two digits at random."""
    _, training, held, source = split(2)
    found = memorisation((source[:150] + source[150:]) / 2, training, held)
    assert not found.copies
    assert found.share <= found.expected


def test_duplicates_are_the_rows_that_are_there_to_the_last_bit():
    values = np.random.default_rng(0).standard_normal((300, 4)).astype(np.float32)
    values[210], values[222] = values[7], np.nextafter(values[8], np.float32(9))
    data = orn.load_data(values)
    found = duplicates(rows_of(data, np.arange(200)), rows_of(data, np.arange(200, 300)))
    assert np.flatnonzero(found).tolist() == [10]


@pytest.mark.parametrize(("change", "message"), [
    (lambda x, t, h: (x[:19], t, h), "samples has 19 rows; at least 20 are needed"),
    (lambda x, t, h: (x, t, rows_of(h, np.arange(5))), "held has 5 rows; at least 20 are needed"),
    (lambda x, t, _: (x, t, rows_of(t, np.arange(30))), "held has 0 rows that do not equal a training row"),
    (lambda x, t, h: (x, rows_of(t, np.arange(100) % 11), h), "training has 11 different rows; at least 12 are needed"),
    (lambda x, t, h: (x[..., :7], t, h), "samples have shape .* they must agree"),
    (lambda x, t, h: (x.masked_fill(x > 0.9, torch.nan), t, h), r"samples hold \d+ values that are not finite"),
])
def test_what_cannot_be_judged_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        memorisation(*change(*split(0)[:3]))
