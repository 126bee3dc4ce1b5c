"""Distances against their closed forms, brute force, and the libraries that others compute them with."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as some
from scipy.linalg import sqrtm

from ornstein.evaluation import distances
from ornstein.evaluation.distances import frechet, kernel, nearest, neighbours

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


class AsTheyAre(torch.nn.Module):
    """Features for torchmetrics that are the rows themselves."""

    num_features = 6

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


def by_torchmetrics(metric, a: np.ndarray, b: np.ndarray):
    metric.set_dtype(torch.float64)
    metric.update(torch.from_numpy(a), real=True)
    metric.update(torch.from_numpy(b), real=False)
    return metric.compute()


def test_frechet_is_that_of_torchmetrics():
    fid = pytest.importorskip("torchmetrics.image.fid")
    metric = fid.FrechetInceptionDistance(AsTheyAre(), input_img_size=(6,))
    assert frechet(A, B) == pytest.approx(float(by_torchmetrics(metric, A, B)), rel=1e-6)


def test_kernel_is_that_of_torchmetrics():
    kid = pytest.importorskip("torchmetrics.image.kid")
    # One subset that is the whole set, so that its random choice changes nothing.
    metric = kid.KernelInceptionDistance(AsTheyAre(), subsets=1, subset_size=200)
    mean, _ = by_torchmetrics(metric, A[:200], B)
    assert kernel(A[:200], B) == pytest.approx(float(mean), rel=1e-6)


@pytest.mark.parametrize("k", [1, 5])
def test_neighbours_are_those_of_prdc(k):
    prdc = pytest.importorskip("prdc")
    whole = [np.random.default_rng(3).integers(0, 4, (count, 6)).astype(float) for count in (300, 200)]
    for a, b in ((A, B), (A, A[:200] + 0.3), whole):  # whole numbers have ties, which count as outside
        assert neighbours(a, b, k)._asdict() == pytest.approx(prdc.compute_prdc(a, b, k), rel=1e-6)


def test_frechet_of_fewer_samples_than_values_equals_the_formula():
    a, b = A.reshape(-1, 30)[:20], B.reshape(-1, 30)[:25]
    product = np.linalg.eigvals(np.cov(a, rowvar=False) @ np.cov(b, rowvar=False)).real
    overlap = np.sqrt(np.sort(product)[-19:]).sum()  # the rank; rounding makes the other eigenvalues of either sign
    shift, traces = a.mean(0) - b.mean(0), a.var(0, ddof=1).sum() + b.var(0, ddof=1).sum()
    assert frechet(a, b) == pytest.approx(shift @ shift + traces - 2 * overlap, rel=1e-9)


def test_kernel_is_the_mean_over_pairs_of_different_samples():
    a, b = A[:7], B[:5]
    k = [[(x @ y / 6 + 1) ** 3 for y in (*a, *b)] for x in (*a, *b)]
    pairs = {"a": [], "b": [], "ab": []}
    for i in range(12):
        for j in range(12):
            if i != j:
                pairs["ab" if (i < 7) != (j < 7) else "a" if i < 7 else "b"].append(k[i][j])
    expected = np.mean(pairs["a"]) + np.mean(pairs["b"]) - 2 * np.mean(pairs["ab"])
    assert kernel(a, b) == pytest.approx(expected, rel=1e-10)


def test_kernel_of_two_points_each_is_the_distance_of_the_points():
    a, b = np.array([1.0, 2.0]), np.array([0.0, -1.0])
    expected = (5 / 2 + 1) ** 3 + (1 / 2 + 1) ** 3 - 2 * (-2 / 2 + 1) ** 3
    assert kernel(np.tile(a, (3, 1)), np.tile(b, (2, 1))) == pytest.approx(expected, rel=1e-12)


def test_neighbours_on_a_line():
    """Real at 0, 1, 2, 3 and k = 1: open balls of radius 1; generated in pairs 0.5 apart, two of them far away."""
    real, generated = np.array([[0.0], [1], [2], [3]]), np.array([[0.25], [0.75], [9.0], [9.5]])
    # Balls around 0 and 1 hold 0.25 and 0.75: half are precise, 4 of 4 counts, 2 of 4 covered. Balls of radius 0.5
    # around 0.25 and 0.75 hold 0 and 1.
    assert neighbours(real, generated, 1) == (0.5, 0.5, 1.0, 0.5)


@settings(max_examples=25, deadline=None)
@given(some.integers(0, 2**32 - 1), some.floats(0.01, 100), some.integers(2, 5))
def test_distances_do_not_depend_on_order_orientation_place_or_unit(seed, unit, width):
    rng = np.random.default_rng(seed)
    a, b = rng.standard_normal((20, width)), rng.standard_normal((15, width)) + 0.5
    turn, _ = np.linalg.qr(rng.standard_normal((width, width)))
    place = rng.standard_normal(width)
    moved = [rng.permutation(rows) @ turn * unit + place for rows in (a, b)]
    assert frechet(*moved) == pytest.approx(unit**2 * frechet(a, b), rel=1e-7)
    assert neighbours(*moved, 3) == pytest.approx(neighbours(a, b, 3), abs=1e-12)
    turned = [rng.permutation(rows) @ turn for rows in (a, b)]  # the kernel has a place and a unit
    assert kernel(*turned) == pytest.approx(kernel(a, b), rel=1e-8, abs=1e-10)


def test_blocks_change_nothing(monkeypatch):
    whole = kernel(A, B), neighbours(A, B), nearest(A, B)
    monkeypatch.setattr(distances, "ENTRIES", 7 * 300)  # a block is 7 to 10 rows, the last one shorter
    assert kernel(A, B) == pytest.approx(whole[0], rel=1e-10)
    assert neighbours(A, B) == whole[1]


def test_ten_thousand_rows_need_less_than_half_a_gigabyte():
    rows = np.random.default_rng(0).standard_normal((10_000, 4))
    tracemalloc.start()
    kernel(rows, rows + 1)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 5e8


def test_nearest_is_the_brute_force_minimum():
    brute = np.sqrt(((B[:, None] - A[None]) ** 2).sum(-1)).min(1)
    assert np.allclose(nearest(B, A), brute, rtol=1e-9)
    assert np.array_equal(nearest(A[:5], A), np.zeros(5))


@pytest.mark.parametrize(("call", "message"), [
    (lambda: frechet(A[:1], B), "real holds 1 samples; at least 2 are needed"),
    (lambda: frechet(A, B[:, :3]), "generated has 3 values a sample; real has 6"),
    (lambda: frechet(A, np.full((3, 6), np.nan)), "generated holds values that are not finite"),
    (lambda: kernel(A, B[:1]), "generated holds 1 samples; at least 2 are needed"),
    (lambda: kernel(A, B[:, :3]), "generated has 3 values a sample; real has 6"),
    (lambda: neighbours(A, B[:5]), "generated holds 5 samples; at least 6 are needed"),
    (lambda: neighbours(A, B, 0), "k is 0; it must be at least 1"),
    (lambda: nearest(A, A[:0]), "references holds 0 samples"),
])
def test_sets_that_cannot_be_judged_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
