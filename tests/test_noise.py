"""Random numbers are a pure function of (seed, stream, index, step), and they are standard normal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from ornstein import noise

F64 = torch.float64
seeds = st.integers(0, 2**64 - 1)
places = st.tuples(seeds, st.sampled_from(sorted(noise.STREAMS)), st.integers(0, 2**63), st.integers(0, 2**63))


@given(places, places)
def test_a_draw_is_a_function_of_its_place_alone(one, other):
    """Whatever was drawn before, and in whatever order, the same place gives the same numbers and no other does."""
    assume(one != other)
    first = noise.normal(*one, (5,))
    second = noise.normal(*other, (5,))
    assert torch.equal(noise.normal(*other, (5,)), second)
    assert torch.equal(noise.normal(*one, (5,)), first)
    assert (first != second).all()


@given(st.integers(0, 2**64 - 2), st.sampled_from(sorted(noise.STREAMS)))
def test_neighbouring_seeds_differ(seed, stream):
    """From 2^53 on as well, where a seed that passed through a float would be its neighbour."""
    assert (noise.normal(seed, stream, 0, 0, (4,)) != noise.normal(seed + 1, stream, 0, 0, (4,))).all()


def test_every_stream_has_its_own_number():
    assert len(set(noise.STREAMS.values())) == len(noise.STREAMS)


def test_draws_are_standard_normal():
    """Mean, variance, skewness, kurtosis and Kolmogorov-Smirnov of 10^6 numbers; false alarm below 1e-5 in all."""
    x = noise.normal(0, "exact", 0, 0, (10**6,)).numpy()
    n = len(x)
    assert abs(x.mean()) < 5 / math.sqrt(n)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert stats.kstest(x, "norm").pvalue > 1e-6


@pytest.mark.parametrize("other", [(1, "start", 0, 0), (0, "sample", 0, 0), (0, "start", 1, 0), (0, "start", 0, 1),
                                   (2**63, "start", 0, 0), (0, "start", 0, 1 << 32)])
def test_neighbouring_streams_are_uncorrelated(other):
    """10^5 numbers each, at every lag up to 3; false alarm 4e-6 each."""
    n = 10**5
    x, y = noise.normal(0, "start", 0, 0, (n,)), noise.normal(*other, (n,))
    for lag in range(4):
        assert abs(float((x[: n - lag] * y[lag:]).mean())) < 5 / math.sqrt(n - lag)


def test_neighbouring_streams_never_meet():
    """No 64-bit word of one is among the first 10,000 of another (by chance: 1e-10), so none runs into the next."""
    places = [(0, "start", 0, 0), (0, "start", 1, 0), (0, "start", 0, 1), (1, "start", 0, 0), (0, "sample", 0, 0)]
    words = [noise.generator(*place).bit_generator.random_raw(10_000) for place in places]
    assert len(set(np.concatenate(words).tolist())) == 50_000


def test_the_first_numbers_of_many_places_are_standard_normal():
    """Counter-based streams must be good across indices too: 20,000 first numbers; false alarm 1e-6."""
    x = noise.per_sample(3, "sample", range(20_000), 5, torch.empty(20_000, 1, dtype=F64))
    assert stats.kstest(x[:, 0].numpy(), "norm").pvalue > 1e-6


@given(st.integers(0, 50), st.integers(1, 8), st.integers(0, 5))
def test_a_row_does_not_depend_on_the_rows_beside_it(start, count, step):
    whole = noise.per_sample(1, "sample", range(60), step, torch.empty(60, 2, 3, dtype=F64))
    part = noise.per_sample(1, "sample", range(start, start + count), step, torch.empty(count, 2, 3, dtype=F64))
    assert torch.equal(part, whole[start:start + count])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_precision_has_the_same_picture(dtype):
    exact = noise.per_sample(1, "sample", range(9), 2, torch.empty(9, 4, dtype=F64))
    assert torch.equal(noise.per_sample(1, "sample", range(9), 2, torch.empty(9, 4, dtype=dtype)), exact.to(dtype))


@pytest.mark.parametrize("seed", [-1, 2**64, math.nan])
def test_seeds_outside_their_range_are_refused(seed):
    with pytest.raises(ValueError, match=f"seed is {seed}"):
        noise.generator(seed, "start")


@pytest.mark.parametrize("seed", [0.5, 5.0, True, "3", None, math.inf])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed is .*; it must be a whole number, from 0"):
        noise.generator(seed, "start")
