"""Distances against their closed forms, and what a classifier must say of sets that are or are not alike."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import sqrtm

from ornstein.evaluation.distances import frechet, nearest, real_or_generated

RNG = np.random.default_rng(0)
A = RNG.standard_normal((300, 6)) @ RNG.standard_normal((6, 6))
B = RNG.standard_normal((200, 6)) @ RNG.standard_normal((6, 6)) + 1.0


def test_frechet_is_zero_on_itself_and_symmetric():
    assert frechet(A, A) == pytest.approx(0, abs=1e-9)
    assert frechet(A, B) == pytest.approx(frechet(B, A), rel=1e-10)


def test_frechet_of_a_shift_and_of_a_scaling():
    shift = np.arange(6.0)
    assert frechet(A, A + shift) == pytest.approx(shift @ shift, rel=1e-9)
    centred = A - A.mean(0)
    assert frechet(centred, 3 * centred) == pytest.approx(4 * np.trace(np.cov(A, rowvar=False)), rel=1e-9)


def test_frechet_equals_the_formula_with_a_matrix_root():
    cov_a, cov_b = np.cov(A, rowvar=False), np.cov(B, rowvar=False)
    root = sqrtm(cov_a @ cov_b).real
    shift = A.mean(0) - B.mean(0)
    assert frechet(A, B) == pytest.approx(shift @ shift + np.trace(cov_a + cov_b - 2 * root), rel=1e-8)


def test_frechet_of_flat_sets_and_of_one_value():
    assert frechet(np.c_[A[:, 0], np.zeros(300)], np.c_[A[:, 0] + 2, np.zeros(300)]) == pytest.approx(4, rel=1e-9)
    assert frechet(A[:, 0], 2 * A[:, 0] - A[:, 0].mean()) == pytest.approx(A[:, 0].var(ddof=1), rel=1e-9)


def test_a_forest_tells_different_sets_apart_and_like_ones_not():
    same = RNG.standard_normal((600, 4))
    # The area of 300 against 300 of one law has standard deviation 0.024: four of them, one false alarm in 15,000.
    assert abs(real_or_generated(same[:300], same[300:], trees=50) - 0.5) < 0.1
    assert real_or_generated(same[:300], same[300:] + 5, trees=50) > 0.999


def test_copies_score_below_a_half():
    values = RNG.standard_normal((200, 4))
    assert real_or_generated(values, values[RNG.integers(0, 200, 200)], trees=50) < 0.4


def test_nearest_is_the_brute_force_minimum():
    brute = np.sqrt(((B[:, None] - A[None]) ** 2).sum(-1)).min(1)
    assert np.allclose(nearest(B, A), brute, rtol=1e-9)
    assert np.array_equal(nearest(A[:5], A), np.zeros(5))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: frechet(A[:1], B), "real holds 1 samples; at least 2 are needed"),
    (lambda: frechet(A, B[:, :3]), "generated has 3 values a sample; real has 6"),
    (lambda: frechet(A, np.full((3, 6), np.nan)), "generated holds values that are not finite"),
    (lambda: real_or_generated(A, B[:4]), "generated holds 4 samples; at least 5 are needed"),
    (lambda: nearest(A, A[:0]), "references holds 0 samples"),
])
def test_sets_that_cannot_be_judged_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
