"""Rows of a .npy file that are read from the disk: what a memory map gives, and one line where the file changes."""

import os
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ornstein.data import cache, load_data
from ornstein.data.spec import LAYOUTS, channel_first
from ornstein.data.stored import StoredRows

VALUES = np.random.default_rng(0).standard_normal((40, 6, 5)).astype("f4")


@pytest.fixture
def stored(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    return StoredRows(tmp_path / "a.npy")


rows = st.one_of(st.lists(st.integers(-40, 39), max_size=60), st.integers(-40, 39), st.lists(st.booleans(), min_size=40,
                 max_size=40).map(np.array), st.builds(slice, *[st.none() | st.integers(-50, 50)] * 2,
                 st.none() | st.integers(-9, 9).filter(bool)))


@given(wanted=rows)
@settings(max_examples=60)
def test_any_rows_are_those_of_the_array(wanted, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "any.npy"
    if not path.exists():
        np.save(path, VALUES)
    wanted = np.array(wanted, np.int64) if isinstance(wanted, list) else wanted
    found = StoredRows(path)[wanted]
    assert found.dtype == VALUES.dtype
    assert np.array_equal(found, VALUES[wanted])


@pytest.mark.parametrize("layout", sorted(word for group in LAYOUTS.values() for word in group))
@pytest.mark.parametrize("kind", ["u1", "?", "<i8", ">f4", "f2"])
def test_any_layout_and_type_is_that_of_the_array(tmp_path, layout, kind):
    values = (np.random.default_rng(1).random((7, *range(2, 2 + len(layout)))) * 9).astype(kind)
    np.save(tmp_path / "a.npy", values)
    stored = StoredRows(tmp_path / "a.npy", layout)
    expected = channel_first(values, layout)
    assert (stored.shape, stored.dtype, stored.nbytes) == (expected.shape, values.dtype, values.nbytes)
    assert np.array_equal(stored[[4, 1]], expected[[4, 1]])
    assert np.array_equal(np.asarray(stored), expected)


@pytest.mark.parametrize("wanted", [[40], [-41], [[1]], [0.5], "a"])
def test_rows_that_are_not_there_are_refused(stored, wanted):
    with pytest.raises((IndexError, ValueError)):
        stored[wanted]


def overwritten(path):
    np.save(path, VALUES + 1)


def cut_and_filled_with_zeros(path):
    size = path.stat().st_size
    os.truncate(path, 500)
    os.truncate(path, size)


@pytest.mark.parametrize("change", [lambda path: os.truncate(path, 128), lambda path: os.truncate(path, 3000),
                                    lambda path: path.write_bytes(b""), overwritten, cut_and_filled_with_zeros],
                         ids=["all", "half", "empty", "overwritten", "zeros"])
@pytest.mark.parametrize("wanted", [slice(None), slice(35, 40), [39], [39, 3]])
def test_a_file_that_changes_while_it_is_in_use_is_one_line(tmp_path, change, wanted):
    path = tmp_path / "a.npy"
    np.save(path, VALUES)
    os.utime(path, ns=(0, 0))  # so that the change has another time, however fast it comes
    stored = StoredRows(path)
    change(path)
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}: changed since it was opened; start again"):
        stored[wanted]


def test_a_set_of_a_file_that_is_cut_is_one_line_and_no_zeros(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 1)
    np.save(tmp_path / "a.npy", VALUES)
    train, _ = load_data(tmp_path / "a.npy").split()
    os.truncate(tmp_path / "a.npy", 900)
    with pytest.raises(ValueError, match=r"a\.npy: changed since it was opened"):
        train.batch(range(9))


def test_a_file_that_is_replaced_or_removed_is_still_read_as_it_was(tmp_path, stored):
    np.save(tmp_path / "b.npy", VALUES + 1)
    os.replace(tmp_path / "b.npy", tmp_path / "a.npy")
    assert np.array_equal(stored[[3, 30]], VALUES[[3, 30]])
    os.unlink(tmp_path / "a.npy")
    assert np.array_equal(stored[5:7], VALUES[5:7])


def test_columns_first_is_read_into_memory_and_said(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "MIN_CACHED_BYTES", 1)
    np.save(tmp_path / "a.npy", np.asfortranarray(VALUES))
    data = load_data(tmp_path / "a.npy")
    assert data.digest() == load_data(VALUES).digest()
    assert any("by columns" in note for note in data.notes)
