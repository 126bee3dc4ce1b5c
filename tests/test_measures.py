"""The measures of an evaluation: names, rows, floors, and that models good and bad are told apart."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from ornstein.evaluation.classifier import forest_auc
from ornstein.evaluation.distances import frechet, kernel, neighbours
from ornstein.evaluation.intervals import frechet_interval, kernel_interval
from ornstein.evaluation.measures import forest_inputs, forest_rows, intervals_between, space_measures
from ornstein.evaluation.results import Measure

KEYS = ["frechet", "kernel", "precision", "recall", "density", "coverage"]
RNG = np.random.default_rng(0)
HELD, TRAINING, LIKE = (RNG.standard_normal((count, 4)) for count in (120, 200, 500))
WRONG = RNG.standard_normal((500, 4)) * 0.5 + 1


def distances_between(held: np.ndarray, generated: np.ndarray, training: np.ndarray, features: str) -> list[Measure]:
    """As an evaluation takes them: values and floors of as many rows, limits of all."""
    count = min(len(generated), len(training))
    return space_measures(*(intervals_between(held, rows, count) for rows in (generated, training)), features,
                          (len(held), count))


@pytest.fixture(scope="module")
def measured():
    return {one.key: one for one in distances_between(HELD, LIKE, TRAINING, "pixels")}


def test_values_and_floors_are_at_as_many_rows(measured):
    assert list(measured) == KEYS
    for rows, key in ((LIKE[:200], "found"), (TRAINING, "floor")):
        expected = [frechet(HELD, rows), kernel(HELD, rows), *neighbours(HELD, rows)]
        assert [getattr(one, key).value for one in measured.values()] == pytest.approx(expected, rel=1e-9)
    assert {(one.real, one.generated, one.features) for one in measured.values()} == {(120, 200, "pixels")}
    assert [one.best for one in measured.values()] == [0, 0, 1, 1, 1, 1]


def test_limits_and_their_intervals_are_of_all_rows(measured):
    for key, of in (("frechet", frechet_interval), ("kernel", kernel_interval)):
        for one, rows in ((measured[key].found, LIKE), (measured[key].floor, TRAINING)):
            whole = of(HELD, rows)
            # No distance is below 0, whatever its estimate without bias is.
            assert (one.limit, one.low, one.high) == (max(whole.limit, 0), whole.low, whole.high)
    for key in KEYS[2:]:
        for one in (measured[key].found, measured[key].floor):
            assert one.limit is None
            assert one.low <= one.value <= one.high


def test_an_interval_without_a_limit_is_of_the_rows_of_its_value():
    wide = [np.random.default_rng(seed).standard_normal((count, 100)) for seed, count in enumerate((130, 400, 150))]
    one = distances_between(*wide, "pixels")[0]
    some = frechet_interval(wide[0], wide[1][:150])
    assert frechet_interval(wide[0], wide[1]).limit is some.limit is None
    assert (one.limit, one.value, one.low, one.high) == (None, some.value, some.low, some.high)


def test_wrong_samples_are_apart_from_the_floor_and_right_ones_are_not(measured):
    """Half the spread, moved by a spread: distance 4 (1 + 1 / 4); all laws here are far more than five errors apart."""
    wrong = {one.key: one for one in distances_between(HELD, WRONG, TRAINING, "pixels")}
    assert wrong["frechet"].low > 4 > wrong["frechet"].floor.high
    assert wrong["kernel"].low > wrong["kernel"].floor.high
    assert wrong["recall"].high < wrong["recall"].floor.low
    assert measured["frechet"].low == measured["kernel"].low == 0


@pytest.mark.parametrize("features", ["pixels", "network", "Inception-like", "inception: a.pt, sha256 ab12", ""])
def test_only_inception_features_make_an_fid(features):
    names = [one.name for one in distances_between(HELD[:30], LIKE[:40], TRAINING[:30], features)]
    known = features.startswith("inception")
    assert names[:2] == (["FID", "KID"] if known else ["Fréchet distance", "Kernel distance"])
    assert names[2:] == ["Precision", "Recall", "Density", "Coverage"]


def test_a_forest_sees_as_many_samples_as_training_rows_and_1500_at_most():
    for counts, wanted in (((200, 500, 120), (200, 200, 120)), ((4000, 1600, 9000), (1500, 1500, 1500))):
        rows = forest_rows(*counts)
        assert tuple(map(len, rows)) == wanted
        assert all(len(set(some)) == len(some) and some.max() < count for some, count in zip(rows, counts, strict=True))


def test_texture_sees_grain_that_a_forest_of_values_does_not():
    """Smooth pictures, and others with faint noise; beside real data of one kind texture tells nothing."""
    source = torch.Generator().manual_seed(0)
    smooth = F.interpolate(torch.randn(300, 3, 3, 3, generator=source), size=16, mode="bicubic")
    grain = smooth[200:] + 0.1 * torch.randn(smooth[200:].shape, generator=source)
    found = {key: [forest_auc(of(smooth[:100]).numpy(), of(other).numpy(), trees=30)
                   for other in (grain, smooth[100:200])] for key, of in forest_inputs(smooth.shape[1:]).items()}
    assert found["auc"][0] < 0.75
    assert found["texture"][0] > 0.99
    assert 0.35 < found["texture"][1] < 0.65
    assert list(forest_inputs((5,))) == list(forest_inputs((2, 6))) == ["auc"]
