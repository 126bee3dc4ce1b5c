"""Random numbers are a pure function of (seed, stream, index, step), and they are standard normal."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given
from hypothesis import strategies as st
from scipy import stats

from ornstein import Settings, noise
from ornstein.training.plan import with_current_noise

F32, F64, CPU = torch.float32, torch.float64, torch.device("cpu")
seeds = st.integers(0, 2**64 - 1)
places = st.tuples(seeds, st.sampled_from(sorted(noise.STREAMS)), st.integers(0, 2**32 - 1), st.integers(0, 2**56 - 1))
# Random123, kat_vectors: counter, key, what philox4x32-10 makes of them.
KNOWN = [("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
         ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
         ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1")]
KINDS = {"tensors": lambda word: torch.tensor([word]), "arrays": lambda word: np.array([word], dtype=np.uint64),
         "integers": int}


@pytest.fixture(params=["tensors", "arrays", "integers"])
def way(request, monkeypatch):
    """The ways to the integers: on another device or compiled, on a CPU, and of few numbers on a CPU."""
    if request.param == "tensors":
        monkeypatch.setattr(noise, "_on_host", lambda _: False)
    monkeypatch.setattr(noise, "SMALL", 10**9 if request.param == "integers" else 0)


@pytest.mark.parametrize(("counter", "key", "words"), KNOWN)
@pytest.mark.parametrize("kind", KINDS)
def test_known_answers(counter, key, words, kind):
    """Those that Random123 is published with, by each way to them."""
    low, high = (int(word, 16) for word in key.split())
    four = noise._philox([KINDS[kind](int(word, 16)) for word in counter.split()], low | high << 32)
    assert " ".join(f"{int(np.squeeze(word)):08x}" for word in four) == words


@pytest.mark.usefixtures("way")
def test_every_way_has_the_same_integers():
    """Words of any batch, by each way, are those of one place at a time in Python's integers."""
    place = 2**32 - 5, noise.STREAMS["tune"] | 77 << 8
    words = torch.stack(noise._words(2**63 + 11, range(2**32 - 4, 2**32 - 1), range(5, 12), place, CPU))
    assert words.shape == (2, 3, 7, 2)
    for row in range(3):
        for block in range(7):
            a, b, c, d = noise._philox([5 + block, 2**32 - 4 + row, *place], 2**63 + 11)
            assert words[:, row, block].tolist() == [[a, c], [b, d]]


@given(places, places)
@example((0, "start", 0, 0), (1, "start", 0, 0))
@example((0, "start", 0, 0), (2**63, "start", 0, 0))
@example((0, "start", 1, 0), (0, "start", 0, 1))
@example((0, "start", 0, 0), (0, "start", 0, 1 << 32))
@example((0, "start", 0, 1 << 32), (0, "sample", 0, 1 << 32))
def test_a_draw_is_a_function_of_its_place_alone(one, other):
    """Whatever was drawn before, the same place gives the same numbers and no other does."""
    assume(one != other)
    first = noise.normal(*one, (5,))
    second = noise.normal(*other, (5,))
    assert torch.equal(noise.normal(*other, (5,)), second)
    assert torch.equal(noise.normal(*one, (5,)), first)
    # Two numbers of 2^32 values each are equal by chance once in 10^9 draws.
    assert (first != second).sum() >= 4


def test_every_stream_has_its_own_number():
    """In the eight bits of a word that are the stream's."""
    assert len(set(noise.STREAMS.values())) == len(noise.STREAMS)
    assert max(noise.STREAMS.values()) < 2**8


def is_standard_normal(x: torch.Tensor) -> None:
    """Four moments within 5 standard errors, tails from 2 to 5 by their counts; false alarm below 1e-5 in all."""
    n = x.numel()
    assert abs(x.mean()) < 5 / math.sqrt(n)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / n)
    for edge in (2, 3, 4, 5):
        for side in (x, -x):
            expected, count = n * stats.norm.sf(edge), int((side > edge).sum())
            law = stats.poisson(expected) if edge > 3 else stats.norm(expected, math.sqrt(expected))
            assert law.sf(count - 1) > 1e-7
            assert law.cdf(count) > 1e-7


def test_draws_are_standard_normal():
    """10^6 numbers of one place; false alarm below 1e-5 in all."""
    x = noise.normal(0, "exact", 0, 0, (10**6,))
    is_standard_normal(x)
    assert stats.kstest(x.numpy(), "norm").pvalue > 1e-6


@pytest.mark.slow
def test_a_hundred_million_draws_are_standard_normal():
    """And their tails: 29 are beyond 5 on each side; the largest of 10^8 is within 4.6 and 6.76, but for 1 in 10^6."""
    x = torch.cat([noise.per_sample(1, "sample", range(2500), step, torch.empty(2500, 4000)) for step in range(10)])
    is_standard_normal(x.double())
    assert 4.6 < x.abs().max() < math.sqrt(66 * math.log(2))


def test_the_tails_end_where_the_page_says():
    """At the least word of the radius, sqrt(66 log 2) = 6.76, and at the greatest all but 0: both precisions agree."""
    ends = torch.tensor([[[0, 2**32 - 1]]])
    for dtype in (F32, F64):
        x = noise._normals(ends, torch.zeros_like(ends), dtype)[0]
        assert x[0].item() == pytest.approx(math.sqrt(66 * math.log(2)), rel=1e-6)
        assert x[2].item() == pytest.approx(math.sqrt(-2 * math.log1p(-(2.0**-33))), rel=1e-6)


@pytest.mark.parametrize("other", [(1, "start", 0, 0), (0, "sample", 0, 0), (0, "start", 1, 0), (0, "start", 0, 1),
                                   (2**63, "start", 0, 0), (0, "start", 0, 1 << 32)])
def test_neighbouring_streams_are_uncorrelated(other):
    """10^5 numbers each, at every lag up to 3; false alarm 4e-6 each."""
    n = 10**5
    x, y = noise.normal(0, "start", 0, 0, (n,)), noise.normal(*other, (n,))
    for lag in range(4):
        assert abs(float((x[: n - lag] * y[lag:]).mean())) < 5 / math.sqrt(n - lag)


def test_the_first_numbers_of_many_places_are_standard_normal():
    """Counter-based streams must be good across indices too: 20,000 first numbers; false alarm 1e-6."""
    x = noise.per_sample(3, "sample", range(20_000), 5, torch.empty(20_000, 1, dtype=F64))
    assert stats.kstest(x[:, 0].numpy(), "norm").pvalue > 1e-6


@given(st.integers(0, 50), st.integers(1, 8), st.integers(0, 5), st.sampled_from([F32, F64]), st.integers(1, 40))
def test_a_row_does_not_depend_on_the_rows_beside_it(start, count, step, dtype, chunk):
    """Nor on the chunks that it is drawn in, bit for bit."""
    whole = noise.per_sample(1, "sample", range(60), step, torch.empty(60, 2, 13, dtype=dtype))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(noise, "CHUNK", chunk)
        part = noise.per_sample(1, "sample", range(start, start + count), step, torch.empty(count, 2, 13, dtype=dtype))
    assert torch.equal(part, whole[start:start + count])


def test_more_numbers_begin_with_the_same():
    """As the draws of a likelihood and of a closed form rely on."""
    assert torch.equal(noise.normal(1, "exact", 0, 0, (50_000, 3))[:7], noise.normal(1, "exact", 0, 0, (7, 3)))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("dtype", [F32, torch.bfloat16, torch.float16])
def test_every_precision_has_the_same_picture(dtype):
    """To rounding: a rounding of the angle counts as often as the radius is large."""
    like = torch.empty(50, 300, dtype=dtype)
    exact = noise.per_sample(1, "sample", range(50), 2, like.double())
    part = noise.per_sample(1, "sample", range(50), 2, like)
    assert part.dtype == dtype
    torch.testing.assert_close(part.double(), exact, rtol=torch.finfo(dtype).eps, atol=1e-6)


@pytest.mark.parametrize("seed", [-1, 2**64, math.nan])
def test_seeds_outside_their_range_are_refused(seed):
    with pytest.raises(ValueError, match=f"seed is {seed}"):
        noise.generator(seed, "start")


@pytest.mark.parametrize("seed", [0.5, 5.0, True, "3", None, math.inf])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(ValueError, match=r"seed is .*; it must be a whole number, from 0"):
        noise.per_sample(seed, "start", range(1), 0, torch.empty(1, 2))


@pytest.mark.parametrize(("index", "step", "name"), [(2**32, 0, "index"), (-1, 0, "index"), (0, 2**56, "step"),
                                                     (0, -1, "step")])
def test_places_outside_their_range_are_refused(index, step, name):
    with pytest.raises(ValueError, match=f"{name} is .*; it must be a whole number, from 0"):
        noise.normal(0, "start", index, step, (3,))


def test_the_version_of_a_run_is_named():
    """A new one is written down, another one is told, a finished training keeps what it was drawn with."""
    for settings, note, version, told in ((Settings(), {}, noise.VERSION, 0), (Settings(noise=1), {}, noise.VERSION, 1),
                                          (Settings(), {"finished": False}, noise.VERSION, 1),
                                          (Settings(noise=1), {"finished": True, "noise": 1}, 1, 0)):
        faults: list[str] = []
        assert with_current_noise(settings, note, faults).noise == version
        assert [f"version 1 and has version {noise.VERSION} from now on" in fault for fault in faults] == [True] * told


@pytest.mark.parametrize("seed", [0, 2**53, 2**63, 2**64 - 2])
def test_neighbouring_seeds_and_all_streams_have_generators_of_their_own(seed):
    """In whole numbers: a seed that became float64 would be its neighbour's."""
    first = {(one, stream): noise.generator(one, stream).integers(2**63) for one in (seed, seed + 1)
             for stream in noise.STREAMS}
    assert len(set(first.values())) == len(first)
