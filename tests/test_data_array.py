"""What arrays in memory and in .npy and .npz files become, and what is refused."""

import io
import os
import pickle
import re
import zipfile

import numpy as np
import pytest
import torch

from ornstein.data import load_data

BYTES = np.random.default_rng(0).integers(0, 256, (12, 3, 6, 5), dtype=np.uint8)


def refuse(source, *messages):
    with pytest.raises(ValueError, match=".*".join(map(re.escape, messages))) as caught:
        load_data(source)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("shape", "stored"), [
    ((12, 7), (7,)), ((12, 9, 8), (1, 9, 8)), ((12, 6, 5), (5, 6)), ((12, 3, 256), (3, 256)),
    ((12, 3, 6, 5), (3, 6, 5)), ((12, 6, 5, 3), (3, 6, 5)),
    ((12, 6, 5, 1), (1, 6, 5)), ((12, 6, 5, 4), (4, 6, 5)), ((12, 3, 5, 3), (3, 5, 3)), ((12, 2, 6, 5), (2, 6, 5)),
])
def test_the_rank_and_the_axes_settle_the_shape(shape, stored):
    values = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    data = load_data(values)
    assert data.spec.shape == stored
    assert data.spec.kind == ("picture" if len(stored) == 3 and stored[0] in (1, 3, 4) else "array")
    last = data.spec.layout.endswith("C")
    assert last == (stored != shape[1:] and stored[0] == shape[-1])
    assert np.array_equal(data.values, np.moveaxis(values, -1, 1) if last else values.reshape(12, *stored))
    assert np.array_equal(data.spec.arrange(data.values), values)


@pytest.mark.parametrize(("values", "low", "high", "levels"), [
    (np.array([3, 9, 7], np.uint8), 3, 9, 4), (np.array([True, True]), 0, 1, 2),
    (np.array([9, 90, 7], np.uint8), 0, 255, 256), (np.array([9, 9], np.uint8), 0, 255, 256),
    (np.array([0, 255], np.uint8), 0, 255, 2), (np.array([-3, 9], np.int64), -3, 9, 2),
    (np.array([-3, 9, 10], np.int64), -3, 10, 14), (np.array([0, 1, 65535], np.uint16), 0, 65535, 65536),
    (np.array([0, 65536, 2]), 0, 65536, 32769), (np.array([0.25, 1.0]), 0.25, 1, None),
    (np.array([-0.25, 1.0]), -0.25, 1, None), (np.array([-0.25, 7.5]), -0.25, 7.5, None),
    (np.array([3.0, 3.0], ">f8"), 0, 6, 3), (np.array([5, 5], np.int8), 0, 10, 3),
    (np.array([0.0, 0.0], np.float16), -1, 1, 3), (np.array([-7, 2**40]), -7, 2**40, 2),
    (np.array([-2**63, 2**63 - 2, 2**63 - 1]), -2**63, 2**63 - 1, None),
    (np.array([2**60, 2**60 + 3, 2**60 + 7]), 2**60, 2**60 + 7, 8),
    (np.array([2**64 - 1, 2**64 - 5], np.uint64), 2**64 - 5, 2**64 - 1, 2),
])
def test_the_type_and_the_values_settle_the_range(values, low, high, levels):
    data = load_data(values[:, None])
    assert (data.spec.low, data.spec.high, data.spec.levels) == (low, high, levels)
    assert np.array_equal(data.values[:, 0], values.astype(np.float32))
    if levels:
        assert np.array_equal(data.spec.decode(data.batch(range(len(values)))[0])[:, 0], values)


def test_what_the_values_are_is_said():
    assert load_data(np.full((5, 2), 3.0)).notes[0] == "every value is 3"
    masks = load_data(np.random.default_rng(0).integers(0, 2, (20, 1, 6, 6)).astype(np.uint8))
    assert masks.spec.kind == "picture"
    assert "pictures in so narrow a range are drawn from 0, black, to 1, white" in masks.notes
    data = load_data(np.array([[2**30], [2**30 + 1]]))
    assert "source values 1073741824..1073741825 map to -1..1" in data.notes
    assert data.batch([0, 1])[0].tolist() == [[-1], [1]]


@pytest.mark.parametrize("change", [np.asfortranarray, lambda a: a[::-1, :, ::-1][::-1, :, ::-1],
                                    lambda a: np.repeat(a, 2, axis=0)[::2], torch.from_numpy])
def test_layout_and_tensors_make_no_difference(change):
    assert load_data(change(BYTES)).digest() == load_data(BYTES).digest()


def test_tensors_of_any_type_and_state_are_taken():
    x = torch.linspace(-1, 1, 24).reshape(12, 2)
    for given in (x.requires_grad_(), x.detach().to(torch.bfloat16), x.detach().half(), x.detach().double()):
        assert np.array_equal(load_data(given).values, given.detach().float().numpy())


def test_a_set_does_not_change_with_the_array_it_came_from():
    values = BYTES.copy()
    data = load_data(values)
    values[:] = 0
    assert np.array_equal(data.values, BYTES)


@pytest.mark.parametrize("name", ["x", "images", "data", "arr_0", "faces"])
@pytest.mark.parametrize("key", ["labels", "y"])
def test_files_hold_what_the_array_holds(tmp_path, name, key):
    labels = np.arange(12) % 3 - 1
    np.savez(tmp_path / "some.npz", **{name: BYTES, key: labels, "classes": np.array(["cat", "dog"])})
    np.save(tmp_path / "some.npy", np.asfortranarray(BYTES))
    data, bare = load_data(tmp_path / "some.npz"), load_data(str(tmp_path / "some.npy"))
    assert np.array_equal(data.values, BYTES)
    assert np.array_equal(bare.values, BYTES)
    assert data.spec.name == "some"
    assert np.array_equal(data.labels, labels)
    assert data.spec.classes == ("cat", "dog")
    assert bare.spec.classes == ()
    assert bare.digest() == load_data(BYTES).digest()


def test_labels_without_names_are_named_by_number():
    data = load_data((BYTES, torch.arange(12) % 4 - 1))
    assert data.spec.classes == ("0", "1", "2")
    assert data.labels[:5].tolist() == [-1, 0, 1, 2, -1]


@pytest.mark.parametrize(("values", "message"), [
    (np.zeros(5), "has shape (5,); it must be (N, D)"), (np.zeros((1,) * 6), "has shape (1, 1, 1, 1, 1, 1)"),
    (np.float64(1), None), (np.zeros((0, 3)), "has shape (0, 3); at least 1 sample"),
    (np.zeros((3, 0)), "at least 1 value"), (np.zeros((3, 1), complex), "holds complex128"),
    (np.array([["a"]]), "holds <U1"), (np.array([[None]]), "holds object"),
    (np.zeros((2, 2), "datetime64[s]"), "holds datetime64[s]"), (np.zeros((2, 2), "i4,f4"), "holds [("),
    (np.array([[0], [np.nan], [np.inf]]), "has 2 values that are not finite, the first in row 1"),
    (np.array([[0], [1e300]]), "must be within +-1e+100"), (np.array([[0], [1e-200]]), "high is"),
    (np.ma.masked_array(np.zeros((2, 2)), True), "is a masked array"),
])
def test_values_that_cannot_be_used_are_refused(values, message):
    if message is None:
        with pytest.raises(TypeError, match="data is float64"):
            load_data(values)
    else:
        refuse(values, "array: ", message)


class Canary:
    def __reduce__(self):
        return os.mkdir, ("canary",)


def test_python_objects_are_never_loaded(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    nasty = np.array([[Canary()]], dtype=object)
    np.save("a.npy", nasty, allow_pickle=True)
    np.savez("b.npz", x=BYTES, classes=nasty)
    with open("c.npy", "wb") as file:
        pickle.dump(Canary(), file)
    with zipfile.ZipFile("d.npz", "w") as archive:
        archive.writestr("x.npy", pickle.dumps(Canary()))
    for name in ("a.npy", "b.npz"):
        refuse(name, f"{name}: holds Python objects, which are never loaded; save plain numbers")
    refuse("c.npy", "c.npy: is neither a .npy nor a .npz file")
    refuse("d.npz", "d.npz: member 'x' is not an array")
    assert not os.path.exists("canary")
    # The canary does sing when it is loaded.
    pickle.loads(pickle.dumps(Canary()))  # noqa: S301
    assert os.path.exists("canary")


def npz(**arrays):
    file = io.BytesIO()
    np.savez_compressed(file, **arrays)
    return file.getvalue()


def npy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def flipped(content):
    middle = len(content) // 2
    return content[:middle] + bytes(255 - c for c in content[middle:middle + 40]) + content[middle + 40:]


HUGE = npy(BYTES).replace(b"(12, 3, 6, 5)", b"(10**99, 1,) ")


@pytest.mark.parametrize(("name", "content", "message"), [
    ("a.npy", b"", "is neither a .npy nor"), ("a.npy", b"hello", "is neither"),
    ("a.npy", npy(BYTES)[:-9], "is broken or truncated"), ("a.npy", npy(BYTES)[:20], "is broken or truncated"),
    ("a.npy", HUGE, "is broken or truncated"),
    ("a.npy", npy(BYTES).replace(b"(12, 3, 6, 5)", b"(12, 3, 6,99)"), "is broken or truncated"),
    ("a.npz", npz(x=BYTES)[:-30], "is broken or truncated"), ("a.npz", flipped(npz(x=BYTES)), "is broken"),
    ("a.npz", b"PK\3\4", "is broken or truncated"), ("a.npz", b"", "is neither"),
    ("a.npz", npz(x=BYTES, z=BYTES), "holds x, z; it must hold one array"), ("a.npz", npz(), "holds nothing"),
    ("a.npz", npz(x=BYTES, y=np.zeros(12, int), labels=np.zeros(12, int)), "holds x, y, labels"),
    ("a.npz", npz(labels=np.zeros(12, int)), "holds labels; it must hold one array"),
    ("a.npz", npz(x=BYTES, classes=np.array(["a"])), "has classes but no labels"),
    ("a.npz", npz(x=BYTES, y=np.arange(12), classes=np.array(["a", "b"])),
     "the label of sample 2 is 2; it must be -1 (none) or 0..1"),
    ("a.npz", npz(x=BYTES, y=np.zeros(12, int), classes=np.arange(3)), "classes are int64 of shape (3,)"),
    ("a.npz", npz(x=BYTES, y=np.zeros(12, int), classes=np.array([["a"]])), "classes are <U1 of shape (1, 1)"),
    ("a.npz", npz(x=BYTES, y=np.zeros(12, int), classes=np.array(["a", "a"])), "distinct"),
    ("a.npy", npy(np.zeros((0, 4))), "at least 1 sample"), ("a.npy", npy(np.float64(3)), "has shape ()"),
    ("a.npy", npy(np.array([[np.nan]])), "first in row 0"),
])
def test_a_broken_or_strange_file_is_refused_in_one_line(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    refuse(tmp_path / name, f"{tmp_path / name}: ", message)


def test_every_cut_of_a_file_is_refused(tmp_path):
    for name, content in (("a.npy", npy(BYTES[:2])), ("a.npz", npz(x=BYTES[:2], y=np.arange(2)))):
        for length in range(0, len(content), 7):
            (tmp_path / name).write_bytes(content[:length])
            refuse(tmp_path / name, f"{tmp_path / name}: ")


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.npy")
    refuse(tmp_path / "a.npy", "is not a regular file")


def test_labels_and_conditions_in_one_file_are_refused_as_excluding_each_other(tmp_path):
    np.savez(tmp_path / "both.npz", x=np.zeros((9, 8)), labels=np.zeros(9, int), conditions=np.zeros((9, 2)))
    with pytest.raises(ValueError, match="or conditions and names, but not both"):
        load_data(tmp_path / "both.npz")
