"""What DataSpec promises: exact round trips, classes by name or index, and strict records."""

import json
import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from ornstein.data import DataSpec

PICTURE = DataSpec("faces", "picture", (3, 4, 4), 0, 255, 256, ("cat", "dog", "3"))


@given(low=st.integers(-1000, 1000), step=st.sampled_from([0.25, 0.5, 1, 3]), levels=st.integers(2, 65536))
def test_every_level_survives_the_round_trip_exactly(low, step, levels):
    spec = DataSpec("x", "array", (1,), low, low + step * (levels - 1), levels)
    values = (low + step * np.arange(levels)).astype(np.float32)
    x = spec.encode(values)
    assert x.dtype == torch.float32
    assert x[0] == -1
    assert x[-1] == 1
    assert x.abs().max() == 1
    assert np.array_equal(spec.decode(x), values)


def test_bytes_survive_the_round_trip_as_bytes_from_any_layout():
    values = np.arange(256, dtype=np.uint8)[::-1]
    back = PICTURE.decode(PICTURE.encode(values))
    assert back.dtype == np.uint8
    assert np.array_equal(back, values)
    assert np.array_equal(PICTURE.decode(PICTURE.encode(values).to(torch.bfloat16))[[0, -1]], [255, 0])


@given(st.lists(st.floats(-50, 50, width=32), min_size=1))
def test_without_levels_values_are_only_mapped(values):
    spec = DataSpec("x", "array", (1,), -10, 30, None)
    back = spec.decode(spec.encode(np.array(values)))
    assert back.dtype == np.float32
    assert np.allclose(back, values, atol=1e-5)


def test_encode_leaves_its_argument_as_it_was():
    values = np.array([0, 5, 10], np.float32)
    assert DataSpec("x", "array", (3,), 0, 10, None).encode(values).tolist() == [-1, 0, 1]
    assert values.tolist() == [0, 5, 10]


def test_decode_clips_and_rounds_to_levels_and_refuses_nan():
    digits = DataSpec("digits", "picture", (1, 8, 8), 0, 16, 17)
    assert digits.decode(torch.tensor([-9.0, -1, 0.07, 1.5, torch.inf])).tolist() == [0, 0, 9, 16, 16]
    with pytest.raises(ValueError, match="x holds 2 values that are not a number"):
        digits.decode(torch.tensor([torch.nan, 0, torch.nan]))
    learned = torch.zeros(2, requires_grad=True)
    assert digits.decode(learned).tolist() == [8, 8]


def test_a_class_is_found_by_name_before_index():
    assert [PICTURE.label(name) for name in ("cat", "dog", "3", "0", "1")] == [0, 1, 2, 0, 1]
    named = DataSpec("x", "array", (1,), 0, 1, None, ("2", "1", "0"))
    assert [named.label(name) for name in "012"] == [2, 1, 0]


def test_an_unknown_class_gets_the_nearest_name():
    with pytest.raises(ValueError, match="class 'dgo' is unknown; did you mean 'dog'"):
        PICTURE.label("dgo")
    for name in ("4", "-1", "²", ""):
        with pytest.raises(ValueError, match="is unknown"):
            PICTURE.label(name)
    with pytest.raises(ValueError, match="data 'x' has no classes"):
        DataSpec("x", "array", (1,), 0, 1, None).label("0")


@given(st.builds(DataSpec, st.just("x"), st.just("array"), st.tuples(st.integers(1, 99)), st.floats(-9, 0),
                 st.floats(1, 9), st.none() | st.integers(2, 65536), st.sampled_from([(), ("a", "b")])))
def test_the_record_goes_through_json_unchanged(spec):
    assert DataSpec.from_dict(json.loads(json.dumps(spec.as_dict()))) == spec


@pytest.mark.parametrize(("change", "message"), [
    ({"name": ""}, "name is ''"), ({"name": "a\nb"}, "name is 'a"), ({"kind": "sound"}, "kind is 'sound'"),
    ({"kind": ["picture"]}, "kind is"), ({"shape": [3, 4]}, "shape is (3, 4); it must be 3 whole numbers"),
    ({"shape": [3, 4, 4.0]}, "shape is"), ({"shape": "344"}, "shape is '344'; it must be a list"),
    ({"shape": [0, 4, 4]}, "shape is"), ({"low": "0"}, "low is '0'"), ({"low": True}, "low is True"),
    ({"high": float("nan")}, "high is nan"), ({"high": 0}, "high is 0; it must be above low = 0"),
    ({"high": float("inf")}, "high is inf"), ({"levels": 1}, "levels is 1"), ({"levels": 256.0}, "levels is 256.0"),
    ({"levels": 2**60}, "levels is"), ({"classes": ["a", 1]}, "classes is"), ({"classes": ["a", "a"]}, "classes is"),
    ({"classes": "ab"}, "classes is"), ({"extra": 1}, "key 'extra' is unknown"),
])
def test_a_wrong_record_is_refused_by_key(change, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        DataSpec.from_dict(PICTURE.as_dict() | change)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("key", ["name", "kind", "shape", "low", "high", "levels"])
def test_a_missing_key_is_named(key):
    record = PICTURE.as_dict()
    del record[key]
    with pytest.raises(ValueError, match=f"key '{key}' is missing"):
        DataSpec.from_dict(record)
    with pytest.raises(ValueError, match="must be a table"):
        DataSpec.from_dict([record])
