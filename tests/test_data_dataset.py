"""What Dataset and load_data promise: the split, the digest, the statistics, names and messages."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
import torch

from ornstein.data import Dataset, DataSpec, load_data, sources


def make(values, labels=None, held=None, classes=("a", "b")):
    values = np.asarray(values)
    labels = np.full(len(values), -1) if labels is None else np.asarray(labels)
    held = np.zeros(len(values), bool) if held is None else np.asarray(held)
    return Dataset(values, labels, held, DataSpec("x", "array", values.shape[1:], -1, 1, None, classes))


@pytest.fixture(scope="module")
def digits():
    return load_data("digits")


def test_the_digits_are_those_of_sklearn_with_the_stated_split(digits):
    from sklearn.datasets import load_digits
    source, order = load_digits(), np.random.default_rng(0).permutation(1797)
    assert np.array_equal(digits.values[:, 0], source.images)
    assert np.array_equal(digits.labels, source.target)
    train, held = digits.split()
    assert np.array_equal(held.values[:][:, 0], source.images[np.sort(order[1500:])])
    assert len(train) == 1500
    assert np.array_equal(train.labels, source.target[np.sort(order[:1500])])
    spec = digits.spec
    assert (spec.low, spec.high, spec.levels, spec.classes) == (0, 16, 17, tuple("0123456789"))
    assert np.array_equal(spec.decode(digits.batch(range(1797))[0]), digits.values)


def test_the_moons_are_two_half_circles():
    data = load_data("moons")
    centre = np.array([[0, 0], [1, 0.5]])[data.labels]
    offset = data.values - centre
    assert np.abs(np.hypot(*offset.T) - 1).max() < 0.3
    side = np.where(data.labels == 0, 1, -1)
    assert (offset[:, 1] * side).min() > -0.3
    assert data.spec.classes == ("upper", "lower")


def test_the_mixture_is_eight_gaussians_by_class():
    data = load_data("mixture")
    for label in range(8):
        points = data.values[data.labels == label]
        angle = np.pi * label / 4
        assert len(points) == 1000
        assert np.allclose(points.mean(0), [np.cos(angle), np.sin(angle)], atol=0.015)
        assert np.allclose(points.std(0), 0.1, atol=0.01)


@pytest.mark.parametrize("name", sources())
def test_every_named_set_is_the_same_each_time_and_fills_the_range(name):
    data = load_data(name)
    assert data.digest() == load_data(name).digest()
    x, labels = data.batch(np.arange(len(data)))
    assert x.dtype == torch.float32
    assert labels.dtype == torch.int64
    assert x.min() == -1
    assert abs(x.max() - 1) < 1e-6


@pytest.mark.parametrize(("count", "held"), [(9, 0), (10, 1), (1234, 123), (30_000, 2000)])
def test_the_held_out_rows_are_the_end_of_the_stated_permutation(count, held):
    data = load_data(np.arange(count, dtype=np.float32)[:, None])
    order = np.random.default_rng(0).permutation(count)
    assert set(np.flatnonzero(data.held)) == set(order[count - held:].tolist())
    assert any("nothing is held out" in note for note in data.notes) == (held == 0)
    train, rest = data.split()
    assert len(rest) == held
    assert not train.held.any()
    assert rest.held.all()
    assert np.array_equal(np.sort(np.concatenate([train.values, rest.values]), 0), data.values)


def test_a_batch_has_the_rows_asked_for_in_their_order():
    data = make(np.array([[-1], [0], [1]], np.float32), [0, -1, 1])
    for index in ([2, 0, 0], np.array([2, 0, 0]), torch.tensor([2, 0, 0])):
        x, labels = data.batch(index)
        assert x.tolist() == [[1], [-1], [-1]]
        assert labels.tolist() == [1, 0, 0]
    for index in ([0.5], [True, False, True], 1):
        with pytest.raises(ValueError, match="index is"):
            data.batch(index)
    with pytest.raises(IndexError):
        data.batch([3])


def test_the_digest_tells_one_pixel_one_label_shape_and_type_apart(digits):
    def copy(values=digits.values, labels=digits.labels, spec=digits.spec):
        return Dataset(values.copy(), labels.copy(), digits.held, spec).digest()

    pixel, label = digits.values.copy(), digits.labels.copy()
    pixel[1000, 0, 4, 4] += 1
    label[-1] = -1
    flat = DataSpec("digits", "array", (64,), 0, 16, 17, digits.spec.classes)
    seen = [copy(), copy(pixel), copy(labels=label), copy(digits.values.astype(np.float32)),
            copy(digits.values.reshape(-1, 64), spec=flat)]
    assert len(set(seen)) == 5
    assert seen[0] == digits.digest()


ZERO = np.zeros((3, 2), np.float32)


@pytest.mark.parametrize(("build", "message"), [
    (lambda: make(ZERO[:0]), "data 'x' holds 0 samples"),
    (lambda: make(ZERO, [0, 1, 7]), "label 7 in row 2 is out of range; it must be -1 (none) or 0..1"),
    (lambda: make(ZERO, [0, -2, 7]), "label -2 in row 1"),
    (lambda: make(ZERO, [-1, 0, -1], classes=()), "label 0 in row 1 is out of range; it must be -1 (none), because"),
    (lambda: make(ZERO, [0, 1]), "labels is int64 of shape (2,); it must be int64 of shape (3,)"),
    (lambda: make(ZERO, np.zeros(3, np.int32)), "labels is int32"),
    (lambda: make(ZERO, held=[0, 1, 0]), "held is int64"),
    (lambda: make(ZERO.astype(complex)), "values is complex128; it must be bool, whole or floating"),
    (lambda: make(np.array([[0, 0], [0, np.nan], [np.inf, np.nan]], np.float32)),
     "values has 3 values that are not finite, the first in row 1"),
])
def test_a_wrong_set_is_refused(build, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        build()
    assert "\n" not in str(caught.value)


def test_names_win_over_paths_and_a_path_object_is_a_path(tmp_path, monkeypatch, digits):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digits").mkdir()
    assert load_data("digits").digest() == digits.digest()
    for source in ("./digits", tmp_path / "digits"):
        with pytest.raises(ValueError, match="the folder is empty"):
            load_data(source)


@pytest.mark.parametrize(("source", "kind", "message"), [
    ("digit", ValueError, "data 'digit' is unknown; did you mean 'digits'"),
    ("digit", ValueError, "no such path exists"), ("", ValueError, "data '' is unknown"),
    ("nowhere/", FileNotFoundError, "nowhere: no such folder"),
    ("nowhere.npz", FileNotFoundError, "nowhere.npz: no such file"),
    (__file__, ValueError, "is not a folder; give a folder of pictures"),
    (7, TypeError, "data is int; it must be a name"), ((ZERO, None), TypeError, "data is tuple"),
    ((ZERO, ZERO, ZERO), TypeError, "data is tuple"),
    ([1, 2], TypeError, "data: item 0 is int; items must be pictures"),
    ({"x": ZERO}, TypeError, "data is dict"),
])
def test_a_source_that_is_not_there_is_refused(source, kind, message):
    with pytest.raises(kind, match=re.escape(message)) as caught:
        load_data(source)
    assert "\n" not in str(caught.value)


def test_classes_are_kept_dropped_or_demanded(digits):
    assert load_data("digits", classes=True).spec == digits.spec
    bare = load_data("digits", classes=False)
    assert bare.spec.classes == ()
    assert set(bare.labels) == {-1}
    assert np.array_equal(bare.values, digits.values)
    with pytest.raises(ValueError, match="data 'array' has no labels"):
        load_data(ZERO, classes=True)
    with pytest.raises(ValueError, match="classes is 'yes'"):
        load_data(ZERO, classes="yes")


def test_size_is_for_folders_or_must_be_the_size_there_is(digits):
    assert load_data("digits", size=8).digest() == digits.digest()
    for source, shape in (("digits", r"\(1, 8, 8\)"), ("moons", r"\(2,\)"), (np.zeros((5, 16, 8), "u1"), "16, 8")):
        with pytest.raises(ValueError, match=f"size 16 is not possible: .*{shape}.*only picture files"):
            load_data(source, size=16)


def test_importing_data_imports_neither_pillow_nor_sklearn():
    code = "import sys, ornstein.data; sys.exit(bool({'PIL', 'sklearn'} & set(sys.modules)))"
    path = {"PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], check=True, env=path)
