"""Labels of any kind, from any source, become the classes that rows have; default samples are of those alone."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import ornstein as orn
from data_corpus import fill
from ornstein.data import DataSpec, load_data
from ornstein.data.labels import natural_key
from ornstein.evaluation.preparation import adapt

TINY = np.random.default_rng(0).standard_normal((200, 1)).astype(np.float32)


def with_labels(labels):
    return load_data((TINY[:len(labels)], labels))


def words(label):
    """What a label is called, None for none."""
    if label is None or label == "" or label != label:
        return None
    return str(int(label)) if isinstance(label, float) else str(label)


NUMBERS = st.integers(-300, 300) | st.integers(-2**62, 2**62)
KINDS = [NUMBERS, NUMBERS.map(float), st.booleans(), st.integers(0, 40),
         st.text(st.characters(min_codepoint=33, max_codepoint=126), max_size=4), st.integers(0, 40).map(str)]


@given(st.sampled_from(KINDS).flatmap(lambda kind: st.lists(kind | st.none(), min_size=9, max_size=60)))
def test_the_classes_are_those_that_rows_have_in_natural_order(labels):
    data = with_labels(labels)
    named = [words(label) for label in labels]
    whole = all(name is None or re.fullmatch("-1|[0-9]+", name) for name in named)
    named = [None if name == "-1" and whole else name for name in named]
    assert [None if number < 0 else data.spec.classes[number] for number in data.labels] == named
    there = {name for name, held in zip(named, data.held, strict=True) if name is not None and not held}
    assert [data.spec.classes[number] for number in data.spec.drawn] == (
        sorted(there, key=natural_key)
        if not isinstance(labels[0] or next((x for x in labels if x is not None), 0), bool)
        else [name for name in ("False", "True") if name in there])
    drawn = data.spec.cycle(100)
    if there:
        assert set(drawn.tolist()) == set(data.spec.drawn)
        assert [data.spec.label(data.spec.classes[number]) for number in data.spec.drawn] == list(data.spec.drawn)
    else:
        assert drawn is None
    for number in data.spec.empty:
        with pytest.raises(ValueError, match="it has no training samples"):
            data.spec.label(data.spec.classes[number])
    assert DataSpec.from_dict(data.spec.as_dict()) == data.spec


@given(st.lists(st.integers(-3, 70), min_size=9, max_size=60))
def test_the_type_that_labels_have_in_memory_changes_nothing(numbers):
    expected = with_labels(np.array(numbers))
    kinds = ["i1", "i2", "i4", ">i8", "f2", "f4", "f8", object] + ["u1", "u2", "u4", "u8"] * (min(numbers) >= 0)
    for kind in kinds:
        data = with_labels(np.array(numbers).astype(kind))
        assert data.spec.classes == expected.spec.classes
        assert np.array_equal(data.labels, expected.labels)
    for same in (torch.tensor(numbers), numbers, np.array(numbers)[:, None], list(map(str, numbers))):
        assert np.array_equal(with_labels(same).labels, expected.labels)
    pairs = load_data([(x, number) for x, number in zip(TINY, numbers, strict=False)])
    assert np.array_equal(pairs.labels, expected.labels)
    assert pairs.spec.classes == expected.spec.classes


def test_a_whole_number_is_the_number_of_its_class_where_few_are_left_out():
    data = with_labels([1, 2, 5, 5] * 10)
    assert data.labels[:4].tolist() == [1, 2, 5, 5]
    assert data.spec.drawn == (1, 2, 5)
    assert data.notes[:2] == ["classes: 1 (10), 2 (10), 5 (20)",
                              "classes without training samples, which are never drawn: 0, 3, 4"]
    assert with_labels([1990, 2020] * 10).spec.classes == ("1990", "2020")
    assert with_labels(["01", "2"] * 10).spec.classes == ("0", "01", "2")
    assert with_labels(["1", "01"] * 10).spec.classes == ("01", "1")
    assert with_labels([-1, 1] * 10).notes[0] == "classes: 1 (10); 10 without a class (none, NaN or -1)"
    assert with_labels([-2, -1, 1] * 10).spec.classes == ("-2", "-1", "1")
    assert with_labels([-1] * 10).spec.classes == ()


def test_names_of_classes_that_no_row_has_are_kept_and_not_drawn(tmp_path):
    np.savez(tmp_path / "a.npz", x=TINY[:40], y=np.array([0, 2] * 20), classes=np.array(["a", "b", "c", "d"]))
    spec = load_data(tmp_path / "a.npz").spec
    assert (spec.classes, spec.empty, spec.drawn) == (("a", "b", "c", "d"), (1, 3), (0, 2))
    held = np.zeros(9, bool)
    held[3:] = True
    data = orn.Dataset(TINY[:9], np.array([0, 0, 2, 1, 1, 1, 2, 2, 3]), held, spec)
    assert data.spec.empty == (1, 3)  # rows that are held out teach nothing
    assert load_data(tmp_path / "a.npz", classes=False).spec.empty == ()


@pytest.mark.parametrize(("labels", "message"), [
    (np.zeros(11, int), "labels are int64 of shape (11,); they must be whole numbers or text of shape (12,)"),
    (np.eye(4)[[0, 1, 2, 3] * 3], "labels are one-hot rows of shape (12, 4); give the class indices, labels."),
    (np.eye(4, dtype=int)[[0, 1, 2, 3] * 3], "labels are one-hot rows"),
    (np.array([0, "a"] * 6, object), "the label of sample 1 is 'a', that of another 0; labels must be all whole"),
    (np.array([0, True] * 6, object), "the label of sample 1 is True, that of another 0"),
    (np.array([(1, 2)] * 12, "i4,i4"), "labels are [("), (np.zeros(12, complex), "labels are complex128"),
    (np.array([0, np.inf] * 6), "the label of sample 1 is inf; labels must be"),
])
def test_labels_that_cannot_be_used_are_refused(labels, message):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_data((TINY[:12], labels))
    assert "\n" not in str(caught.value)


def test_conditions_may_be_of_one_column_and_whole(tmp_path):
    numbers = np.arange(12)
    np.savez(tmp_path / "a.npz", x=TINY[:12], condition=numbers)
    data = load_data(tmp_path / "a.npz")
    assert data.conditions.tolist() == [[float(k)] for k in range(12)]
    assert data.spec.conditions == ("0",)
    pair = load_data((TINY[:12], numbers + 0.5))
    assert pair.conditions[:, 0].tolist() == (numbers + 0.5).tolist()
    assert "the second array has fractions: it was read as conditions, not as classes" in pair.notes
    assert load_data((TINY[:12], numbers.reshape(6, 2).repeat(2, 0))).spec.conditions == ("0", "1")
    np.savez(tmp_path / "b.npz", x=TINY[:12], conditions=np.eye(3)[numbers % 3])
    assert any("one-hot" in note for note in load_data(tmp_path / "b.npz").notes)
    rows = load_data([{"x": x, "condition": float(k)} for k, x in enumerate(TINY[:12])])
    assert np.array_equal(rows.conditions, data.conditions)


def test_unseen_data_are_told_the_classes_that_they_share_with_the_model():
    trained = with_labels(["a", "b", "c"] * 10)
    model = orn.NetworkDenoiser(torch.nn.Identity(), orn.Cosine(), (1,), data=trained.spec)
    unseen, notes = adapt(model, with_labels(["c", "a", "z"] * 10), "held", trained.spec)
    assert unseen.labels[:3].tolist() == [2, 0, -1]
    assert unseen.spec.classes == trained.spec.classes
    assert notes == ["held 'array' has 10 rows of classes that the model was not trained on: they are left without a "
                     "class"]
    unseen, notes = adapt(model, load_data(TINY[:30]), "held", trained.spec)
    assert set(unseen.labels.tolist()) == {-1}
    assert "held 'array' has no classes: the model is given none" in notes


def test_folders_of_numbers_are_counted_and_not_spelt(tmp_path):
    for number in range(12):
        fill(tmp_path, 2, f"{number}/{{}}.png")
    data = load_data(tmp_path)
    assert data.spec.classes == tuple(map(str, range(12)))
    assert data.labels.tolist() == sorted(data.labels.tolist(), key=lambda number: str(number))
    for number in range(12):
        assert data.spec.label(str(number)) == number


def folder(path, *names):
    for name in names:
        fill(path, 2, f"{name}/{{}}.png")
    return load_data(path)


def test_of_splits_only_the_one_for_training_is_read(tmp_path):
    for place, names in (("a", ("train/cat", "train/dog", "val/cat", "test/dog")),
                         ("b", ("cat/Train", "dog/Train", "cat/val", "dog/test"))):
        data = folder(tmp_path / place, *names)
        assert data.spec.classes == ("cat", "dog")
        assert len(data) == 4
        assert any("not the 4 in test, val" in note for note in data.notes)
    assert folder(tmp_path / "c", "train", "val").spec.classes == ()
    assert folder(tmp_path / "d", "train", "cat").spec.classes == ("cat", "train")
    with pytest.raises(ValueError, match="none is train; name the one to train on"):
        folder(tmp_path / "e", "val/cat", "test/cat")
    assert load_data(tmp_path / "e/val").spec.classes == ()


def test_a_folder_around_the_class_folders_is_looked_into(tmp_path):
    data = folder(tmp_path, "set/pictures/cat", "set/pictures/dog/old", "set/pictures/dog/new")
    assert data.spec.classes == ("cat", "dog")
    assert "the classes are the folders in set/pictures (--no-classes drops them)" in data.notes


def test_links_to_class_folders_are_followed_once_and_never_round(tmp_path):
    for name in ("cat", "dog"):
        fill(tmp_path / "pool", 2, name + "/{}.png")
        (tmp_path / "set").mkdir(exist_ok=True)
        (tmp_path / "set" / name).symlink_to(tmp_path / "pool" / name)
    (tmp_path / "set/again").symlink_to("cat")
    (tmp_path / "set/round").symlink_to(tmp_path / "set")
    (tmp_path / "pool/cat/up").symlink_to(tmp_path / "pool")
    (tmp_path / "pool/dog/top").symlink_to(tmp_path)
    data = load_data(tmp_path / "set")
    assert data.spec.classes[-1] == "dog"
    assert len(data.spec.classes) == 2
    assert len(data) == 4
    assert {line.split(":")[1] for line in data.skipped} == {" a link to a folder that is read already"}
    assert len(data.skipped) == 4


def test_the_first_notes_name_the_classes_and_the_white_behind(tmp_path):
    fill(tmp_path, 3, "animals/{}.png", (8, 8, 4))
    data = folder(tmp_path, "faces")
    assert data.notes[0] == "classes: animals (3), faces (2)"
    said = "3 of 5 pictures have transparency, which was laid on white (--alpha learns it)"
    assert said in data.notes
    streamed = load_data(tmp_path, reader="stream").notes
    assert said in streamed


class Series:
    """What a column of pandas shows of itself."""

    def to_numpy(self):
        return TINY


@pytest.mark.parametrize(("source", "kind", "message"), [
    (Series(), TypeError, "data is Series; pass an array, data.to_numpy(), or a table"),
    ({"x": TINY}, TypeError, "data is dict; pass one of its arrays, data['x']"),
    ("table.xlsx", ValueError, "table.xlsx: is not read; save its table as .csv"),
    ("weights.pt", ValueError, "could run code, so it is never loaded"),
    ("one.PNG", ValueError, "one.PNG: is one picture; give several, or the folder that holds them"),
])
def test_what_is_not_read_says_what_to_give(tmp_path, monkeypatch, source, kind, message):
    monkeypatch.chdir(tmp_path)
    for name in ("table.xlsx", "weights.pt", "one.PNG"):
        (tmp_path / name).write_text("1")
    with pytest.raises(kind, match=re.escape(message)) as caught:
        load_data(source)
    assert "\n" not in str(caught.value)


def test_an_open_archive_says_to_give_its_path(tmp_path):
    np.savez(tmp_path / "a.npz", x=TINY)
    with np.load(tmp_path / "a.npz") as archive, pytest.raises(TypeError, match=r"for an \.npz file pass its path"):
        load_data(archive)


def test_a_fourth_channel_is_said_to_be_drawn_without():
    notes = load_data(np.zeros((9, 8, 8, 4), np.uint8)).notes
    assert any("only the first three are drawn" in note for note in notes)
    assert not any("first three" in note for note in load_data(np.zeros((9, 8, 8, 3), np.uint8)).notes)


@pytest.mark.parametrize("name", ["large.jpg", "large.jfif", "large.JPE"])
def test_a_jpeg_of_more_is_reduced_as_it_is_decoded(tmp_path, name):
    ramp = Image.linear_gradient("L").resize((5120, 5120))
    ramp.save(tmp_path / name, format="JPEG")
    rows = load_data(tmp_path, size=8).values[0, 0].astype(float)
    assert np.abs(rows - (32 * np.arange(8) + 15.5)[:, None]).max() <= 1


def test_pictures_in_newer_formats_say_what_to_do(tmp_path):
    for name in ("a.jxl", "b.SVG"):
        (tmp_path / name).write_bytes(b"1")
    with pytest.raises(ValueError, match=r"none of the 2 files .*; \.jxl is not supported, save it as PNG; \.svg"):
        load_data(tmp_path)
    fill(tmp_path, 1)
    assert load_data(tmp_path).skipped == [f"{name}: {name[1:].lower()} is not supported, save it as PNG"
                                           for name in ("a.jxl", "b.SVG")]
