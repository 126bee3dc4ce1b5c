"""How axes and ranges of arrays are read: every layout there and back, mapped files, vector conditions."""

import re

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from ornstein.data import DataSpec, cache, load_data
from ornstein.data.spec import LAYOUTS
from ornstein.data.stored import StoredRows

WORDS = [word for group in LAYOUTS.values() for word in group]


def floats(*shape):
    return np.random.default_rng(0).standard_normal(shape)


def refuse(source, message, **options):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_data(source, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("word", WORDS)
def test_every_layout_comes_back_as_it_was_given(word):
    sides = {"C": 2, "D": 3, "H": 4, "W": 5, "L": 6, "V": 7}
    values = floats(11, *(sides[letter] for letter in word)).astype(np.float32)
    data = load_data(values, layout=word)
    channel = word.index("C") if "C" in word else None
    first = values if word == "V" else values[:, None] if channel is None else np.moveaxis(values, channel + 1, 1)
    assert np.array_equal(data.values, first)
    assert data.spec.layout == word
    back = data.spec.arrange(data.spec.decode(data.batch(range(11))[0]))
    assert back.shape == values.shape
    assert np.allclose(back, values, atol=1e-6)
    assert DataSpec.from_dict(data.spec.as_dict()) == data.spec
    with pytest.raises(ValueError, match="they must be"):
        data.spec.arrange(values[..., None])


@pytest.mark.parametrize(("shape", "word", "kind"), [
    ((9, 5), "V", "array"), ((9, 8, 8), "HW", "picture"), ((9, 8, 32), "HW", "picture"), ((9, 8, 33), "CL", "array"),
    ((9, 3, 256), "CL", "array"), ((9, 256, 3), "LC", "array"), ((9, 7, 8), "CL", "array"),
    ((9, 3, 8, 8), "CHW", "picture"), ((9, 8, 8, 3), "HWC", "picture"), ((9, 2, 8, 8), "CHW", "array"),
    ((9, 5, 6, 6, 6), "CDHW", "array"), ((9, 6, 6, 6, 2), "DHWC", "array"), ((9, 4, 6, 6, 2), "CDHW", "array"),
])
def test_the_shape_alone_settles_the_layout_and_a_note_says_so(shape, word, kind):
    data = load_data(np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8))
    assert (data.spec.layout, data.spec.kind) == (word, kind)
    plain = word == "V" or (word == "CHW" and kind == "picture")
    assert any("--layout" in note for note in data.notes) != plain


def test_a_layout_of_other_axes_is_refused():
    refuse(floats(9, 4, 4), "array: layout 'CHW' has 3 axes and a sample has 2, (4, 4); it must be CL or HW or LC",
           layout="CHW")
    refuse(floats(9, 4, 4), "layout 'WH' is unknown", layout="WH")
    refuse("digits", "layout 'CL' is not possible: data 'digits' are ", layout="CL")
    spec = load_data("digits").spec
    assert load_data("digits", layout=spec.layout).spec == spec


def test_a_large_array_file_stays_on_the_disk_and_keeps_its_type(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 1)
    for kind in ("u1", "?", "i2", "u4", "i8", "f2", "f4", "f8", ">f4"):
        values = (floats(20, 3, 16) * 50).astype(kind)
        np.save(tmp_path / "a.npy", values)
        data = load_data(tmp_path / "a.npy")
        assert isinstance(data.values, StoredRows)
        assert data.values.dtype == values.dtype
        assert data.digest() == load_data(values).digest()
        train, held = data.split()
        assert train.values.values is data.values
        assert np.array_equal(np.asarray(held.values), values[data.held])
        x = data.batch([3, 1])[0]
        wide = values[[3, 1]].astype(np.float64)
        low, high = data.spec.low, data.spec.high
        assert np.allclose(x, 2 * (wide - low) / (high - low) - 1, atol=2e-6)


def test_numbers_that_float32_cannot_tell_apart_are_encoded_apart():
    values = 1e9 + np.linspace(0, 1, 9)[:, None]
    x = load_data(values).batch(range(9))[0][:, 0]
    assert np.allclose(x, np.linspace(-1, 1, 9), atol=1e-6)
    assert load_data(np.arange(9)[:, None] + 2**50).batch(range(9))[0][:, 0].tolist() == [
        pytest.approx(v) for v in np.linspace(-1, 1, 9)]


@given(st.lists(st.tuples(st.floats(-100, 100), st.floats(0.01, 100)), min_size=2, max_size=5))
def test_channels_share_a_range_unless_they_lie_more_than_fourfold_apart(spans):
    values = np.stack([np.linspace(low, low + width, 12) for low, width in spans], 1)[:, :, None]
    data = load_data(values, layout="CL")
    least, most = values.min((0, 2)), values.max((0, 2))
    apart = most.max() - least.min() > 4 * (most - least).min()
    assert isinstance(data.spec.low, tuple) == bool(apart)
    x = data.batch(range(12))[0]
    if apart:
        assert np.allclose(x.amin((0, 2)), -1)
        assert np.allclose(x.amax((0, 2)), 1, atol=1e-5)
        assert any("each maps from its own" in note for note in data.notes)
    assert np.allclose(data.spec.decode(x), values, rtol=1e-5, atol=1e-4)


def test_a_constant_channel_divides_nothing_by_zero():
    values = np.zeros((10, 3, 16))
    values[:, 0], values[:, 1], values[:, 2] = 5, np.linspace(0, 1, 16), np.linspace(0, 100, 16)
    data = load_data(values)
    assert data.spec.low == (0, 0, 0)
    assert data.spec.high == (10, 1, 100)
    assert data.spec.levels == (3, None, None)
    assert "channels with a single value: 1; samples keep it" in data.notes
    x = data.batch(range(10))[0]
    assert np.allclose(data.spec.decode(x), values, atol=1e-5)
    assert (data.spec.decode(x + 0.1)[:, 0] == 5).all()


def test_bytes_and_whole_numbers_of_one_kind_keep_their_levels_and_one_range():
    """Pictures in rows have a few pixels that hardly change."""
    rng = np.random.default_rng(0)
    for top, kind in ((255, "u1"), (255, "i8"), (16, "i4")):
        pixels = rng.integers(0, top + 1, (50, 9))
        pixels[:, 3], pixels[:, 5] = pixels[:, 3] % 2, 0
        spec = load_data(pixels.astype(kind)).spec
        assert (spec.low, spec.high, spec.levels, spec.bins) == (0, top, top + 1, top + 1)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.integers(-2**40, 2**40), st.integers(1, 10**6), st.integers(1, 2000)), min_size=1,
                max_size=4))
@example([(0, 48896, 2000), (1, 1, 1)])
def test_whole_numbers_of_any_columns_come_back_as_whole_numbers_of_their_column(columns):
    """Age, income, a flag, a time: what a model says between two of them is rounded to the nearest."""
    rng = np.random.default_rng(0)
    values = np.stack([start + step * rng.integers(0, levels, 40) for start, step, levels in columns], 1)
    data = load_data(values)
    spec, apart = data.spec, isinstance(data.spec.low, tuple)
    back, drawn = spec.decode(data.batch(range(40))[0]), spec.decode(torch.rand(99, len(columns)) * 3 - 1.5)
    for column in range(len(columns)):
        mine = values[:, column] if apart else values
        step, ends = int(np.gcd.reduce((mine - values[0, column]).ravel())), (mine.min(), mine.max())
        if (ends[1] - ends[0]) // max(step, 1) < 2**22:  # what float32 tells apart in -1..1
            assert np.array_equal(back[:, column], values[:, column])
        if step:
            assert ((drawn[:, column] - values[0, column]) % step == 0).all()
            assert drawn[:, column].min() >= ends[0]
            assert drawn[:, column].max() <= ends[1]


def test_vector_conditions_come_with_the_batch(tmp_path):
    conditions = floats(20, 2)
    conditions[3] = np.nan
    np.savez(tmp_path / "a.npz", x=floats(20, 5), conditions=conditions, names=np.array(["heat", "force"]))
    data = load_data(tmp_path / "a.npz")
    assert data.spec.conditions == ("heat", "force")
    assert data.spec.classes == ()
    x, given = data.batch([3, 4])
    assert x.shape == (2, 5)
    assert np.array_equal(given, conditions[[3, 4]].astype(np.float32), equal_nan=True)
    train, _ = data.split()
    assert np.array_equal(train.conditions, data.conditions[~data.held], equal_nan=True)
    pair = load_data((floats(20, 5), conditions))
    assert pair.spec.conditions == ("0", "1")
    other = conditions.copy()
    other[5, 0] += 1
    assert load_data((pair.values[:], other)).digest() != load_data((pair.values[:], conditions)).digest()
    assert load_data(tmp_path / "a.npz", classes=False).conditions is None


@pytest.mark.parametrize(("beside", "message"), [
    ({"conditions": np.zeros((9, 2))}, "conditions have shape (9, 2); they must be (20, K) with K >= 1"),
    ({"conditions": np.zeros((20, 0))}, "conditions have shape (20, 0)"),
    ({"conditions": np.full((20, 2), np.inf)}, "conditions has 20 rows that are neither finite nor all NaN"),
    ({"conditions": np.array([[np.nan, 0]] * 20)}, "has 20 rows that are neither"),
    ({"conditions": np.zeros((20, 2)), "names": np.array(["a"])}, "names are <U1 of shape (1,)"),
    ({"conditions": np.zeros((20, 2)), "names": np.array(["a", "a"])}, "distinct"),
    ({"conditions": np.zeros((20, 2)), "labels": np.zeros(20, int)}, "holds x, conditions, labels"),
    ({"names": np.array(["a"])}, "has names but no conditions"),
])
def test_conditions_that_cannot_be_used_are_refused(tmp_path, beside, message):
    np.savez(tmp_path / "a.npz", x=np.zeros((20, 3)), **beside)
    refuse(tmp_path / "a.npz", message)


@pytest.mark.parametrize(("change", "message"), [
    ({"low": (0, 0, 0)}, "high is 255; it must be a tuple if and only if low"),
    ({"low": (0, 0), "high": (1, 1)}, "low is (0, 0); it must be a finite number, or a tuple of 3"),
    ({"low": (0, 0, 0), "high": (1, 1, 0)}, "high is (1, 1, 0); it must be above low"),
    ({"low": (0, 0, 0), "high": (1, 1, 1)}, "levels is 256; it must be one entry for each of the 3 channels"),
    ({"layout": "HW"}, "layout is 'HW'; it must be one with C"), ({"layout": "CL"}, "layout is 'CL'; it must be CHW"),
    ({"conditions": ("a",), "classes": ("b",)}, "conditions is ('a',); it must be () if there are classes"),
    ({"kind": "array", "shape": (1, 2, 3, 4, 5)}, "it must be 1 to 4 whole numbers"),
])
def test_a_wrong_spec_is_refused(change, message):
    fields = {"name": "x", "kind": "picture", "shape": (3, 4, 4), "low": 0, "high": 255, "levels": 256}
    with pytest.raises(ValueError, match=re.escape(message)):
        DataSpec(**fields | change)


def test_a_record_from_before_layouts_is_read():
    spec = DataSpec("digits", "picture", (1, 8, 8), 0, 16, 17, ("0",))
    record = spec.as_dict()
    del record["layout"], record["conditions"]
    assert DataSpec.from_dict(record) == spec
    assert spec.layout == "CHW"
