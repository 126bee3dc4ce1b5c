"""The measures of an evaluation: names, rows, floors, and that models good and bad are told apart."""

from __future__ import annotations

import numpy as np
import pytest

from ornstein.evaluation.classifier import real_or_generated
from ornstein.evaluation.distances import frechet, kernel, neighbours
from ornstein.evaluation.intervals import frechet_interval, kernel_interval
from ornstein.evaluation.measures import distances_between, forest_between

KEYS = ["frechet", "kernel", "precision", "recall", "density", "coverage"]
RNG = np.random.default_rng(0)
HELD, TRAINING, LIKE = (RNG.standard_normal((count, 4)) for count in (120, 200, 500))
WRONG = RNG.standard_normal((500, 4)) * 0.5 + 1


@pytest.fixture(scope="module")
def measured():
    return {one.key: one for one in distances_between(HELD, LIKE, TRAINING, "pixels")}


def test_values_and_floors_are_at_as_many_rows(measured):
    assert list(measured) == KEYS
    for rows, key in ((LIKE[:200], "value"), (TRAINING, "floor")):
        expected = [frechet(HELD, rows), kernel(HELD, rows), *neighbours(HELD, rows)]
        assert [getattr(one, key) for one in measured.values()] == pytest.approx(expected, rel=1e-9)
    assert {(one.real, one.generated, one.features) for one in measured.values()} == {(120, 200, "pixels")}
    assert [one.best for one in measured.values()] == [0, 0, 1, 1, 1, 1]


def test_limits_and_their_intervals_are_of_all_rows(measured):
    for key, of in (("frechet", frechet_interval), ("kernel", kernel_interval)):
        one, whole, floor = measured[key], of(HELD, LIKE), of(HELD, TRAINING)
        # No distance is below 0, whatever its estimate without bias is.
        assert (one.limit, one.low, one.high) == (max(whole.limit, 0), whole.low, whole.high)
        assert (one.floor_limit, one.floor_low, one.floor_high) == (max(floor.limit, 0), floor.low, floor.high)
    for key in KEYS[2:]:
        one = measured[key]
        assert one.limit is one.floor_limit is None
        assert one.low <= one.value <= one.high
        assert one.floor_low <= one.floor <= one.floor_high


def test_an_interval_without_a_limit_is_of_the_rows_of_its_value():
    wide = [np.random.default_rng(seed).standard_normal((count, 100)) for seed, count in enumerate((130, 400, 150))]
    one = distances_between(*wide, "pixels")[0]
    some = frechet_interval(wide[0], wide[1][:150])
    assert frechet_interval(wide[0], wide[1]).limit is some.limit is None
    assert (one.limit, one.value, one.low, one.high) == (None, some.value, some.low, some.high)


def test_wrong_samples_are_apart_from_the_floor_and_right_ones_are_not(measured):
    """Half the spread, moved by a spread: distance 4 (1 + 1 / 4); all laws here are far more than five errors apart."""
    wrong = {one.key: one for one in distances_between(HELD, WRONG, TRAINING, "pixels")}
    assert wrong["frechet"].low > 4 > wrong["frechet"].floor_high
    assert wrong["kernel"].low > wrong["kernel"].floor_high
    assert wrong["recall"].high < wrong["recall"].floor_low
    assert measured["frechet"].low == measured["kernel"].low == 0


@pytest.mark.parametrize("features", ["pixels", "network", "Inception-like", "inception: a.pt, sha256 ab12", ""])
def test_only_inception_features_make_an_fid(features):
    names = [one.name for one in distances_between(HELD[:30], LIKE[:40], TRAINING[:30], features)]
    known = features.startswith("inception")
    assert names[:2] == (["FID", "KID"] if known else ["Fréchet distance", "Kernel distance"])
    assert names[2:] == ["Precision", "Recall", "Density", "Coverage"]


@pytest.mark.slow
def test_a_forest_sees_as_many_of_each_side():
    one = forest_between(HELD, LIKE, TRAINING)
    assert (one.key, one.best, one.real, one.generated, one.limit) == ("auc", 0.5, 200, 200, None)
    assert 0 <= one.low <= one.value <= one.high <= 1
    # Of one law: an area has standard deviation 0.035 or so, and four of them are one false alarm in 15,000.
    assert abs(one.value - 0.5) < 0.14
    assert abs(one.floor - 0.5) < 0.14
    draw = np.random.default_rng(0)
    real, fake = draw.permutation(TRAINING), draw.permutation(LIKE)[:200]
    assert one.value == real_or_generated(real, fake, seed=0)
    assert forest_between(HELD[:30], WRONG, TRAINING).low > 0.8


@pytest.mark.parametrize(("sets", "message"), [
    ((HELD[:17], LIKE, TRAINING), "held holds 17 samples; at least 18 are needed"),
    ((HELD, LIKE[:, :2], TRAINING), "generated has 2 values a row; held has 4, they must agree"),
    ((HELD, LIKE, TRAINING * np.nan), "training holds values that are not finite"),
])
def test_sets_that_cannot_be_judged_are_refused(sets, message):
    with pytest.raises(ValueError, match=message):
        distances_between(*sets, "pixels")
