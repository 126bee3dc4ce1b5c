"""Tables of numbers: CSV, parquet and data frames give the same vectors, labels and refusals."""

import re

import numpy as np
import pytest
import torch

import ornstein as orn
from ornstein.data import load_data
from ornstein.evaluation.preparation import adapt

pd = pytest.importorskip("pandas")
pytest.importorskip("pyarrow")
BODIES = {"height": [1.75, 1.62, 1.81, 1.7] * 5, "weight": [70, 58, 84, 66] * 5, "sports": [True, False] * 10}
KINDS = ["big", "small", "big", None] * 5
VALUES = np.array(list(BODIES.values()), dtype=np.float64).T


def from_csv(folder, frame, separator=","):
    frame.to_csv(folder / "t.csv", index=False, sep=separator)
    return load_data(folder / "t.csv")


def from_tabs(folder, frame):
    return from_csv(folder, frame, "\t")


def from_parquet(folder, frame):
    frame.to_parquet(folder / "t.parquet")
    return load_data(folder / "t.parquet")


def from_frame(_, frame):
    return load_data(frame)


WAYS = [from_csv, from_tabs, from_parquet, from_frame]


def refused(load, folder, frame):
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        load(folder, frame)
    assert "\n" not in str(caught.value)
    return str(caught.value).partition(": ")[2]


@pytest.mark.parametrize("load", WAYS)
def test_columns_of_numbers_are_vectors_and_one_of_labels_their_classes(tmp_path, load):
    data = load(tmp_path, pd.DataFrame({"height": BODIES["height"], "Class": KINDS, **BODIES}))
    assert np.array_equal(data.values, VALUES)
    assert data.spec.classes == ("big", "small")
    assert data.labels.tolist() == [0, 1, 0, -1] * 5
    assert "vectors of the columns height, weight, sports" in data.notes
    assert "labels are in column 'Class'" in data.notes
    # Whole numbers come back as such beside a column of fractions, which comes back as it is.
    decoded = data.spec.decode(data.spec.encode(data.values) + 1e-3)
    assert np.array_equal(decoded[:, 1:], VALUES[:, 1:])
    assert np.allclose(decoded[:, 0], VALUES[:, 0] + 1e-3 * np.ptp(VALUES[:, 0]) / 2, rtol=1e-5)


@pytest.mark.parametrize("load", WAYS)
def test_a_target_with_fractions_is_what_vectors_are_conditioned_on(tmp_path, load):
    prices = np.linspace(0.5, 9.5, 20)
    data = load(tmp_path, pd.DataFrame({"x": np.arange(20), "y": np.arange(20) % 7, "target": prices}))
    assert data.spec.conditions == ("target",)
    assert np.allclose(data.conditions[:, 0], prices)
    assert np.array_equal(data.values, [[k, k % 7] for k in range(20)])
    assert data.spec.rounds  # whole numbers come back as such


@pytest.mark.parametrize("load", WAYS)
def test_what_is_no_number_is_refused_by_name(tmp_path, load):
    there = pd.DataFrame(BODIES)
    assert refused(load, tmp_path, there.assign(city="Rome", name=KINDS)) == (
        "not all columns are numbers: city, name; leave those out, or write numbers in them (a column of class names "
        "must be called label)")
    holes = there.assign(weight=[1.0, None] * 10, age=[None, 3.0] * 10)
    assert refused(load, tmp_path, holes) == (
        "values are missing from its columns: weight (10), age (10); fill them in, or leave those rows out")
    assert re.match("(has )?no column (of|holds)", refused(load, tmp_path, pd.DataFrame({"label": KINDS})))


@pytest.mark.parametrize(("text", "says"), [
    ("", "is empty; a table has a line of names"), ("a,b\n", "has no rows"),
    ("a,b\n1,2\n\n3\n", "line 4 has 1 values, but there are 2 columns; fix it"),
    ("a,a\n1,2\n", "has several columns called a; give each its own"),
    ("a,b\n\xff\xfe,1", "is not a CSV file in UTF-8"),
    ('a,b\n"1,2\n', "line 2 has 1 values")])
def test_a_broken_table_says_where(tmp_path, text, says):
    (tmp_path / "t.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(ValueError, match=re.escape(f"{tmp_path / 't.csv'}: {says}")):
        load_data(tmp_path / "t.csv")


def test_a_table_may_lack_names_have_quotes_and_say_none_in_words(tmp_path):
    (tmp_path / "t.csv").write_text("1,2.5\n3,4\n")
    data = load_data(tmp_path / "t.csv")
    assert data.values.tolist() == [[1, 2.5], [3, 4]]
    assert "the first line is all numbers: read as a row" in data.notes
    (tmp_path / "q.csv").write_text('\ufeff"size, cm";label\n 1 ;NA\n"2";"a;b"\n', "utf-8")
    data = load_data(tmp_path / "q.csv")
    assert data.values.tolist() == [[1], [2]]
    assert "vectors of the columns size, cm" in data.notes


def test_the_columns_of_a_table_come_back(tmp_path):
    """Their names, whole numbers as such and within what was there, classes by name; in a CSV file and in a .npz."""
    data = load_data(pd.DataFrame({**BODIES, "label": ["big", "small"] * 10}))
    x = data.spec.encode(data.values) * 1.4
    orn.save_pictures(x, tmp_path / "new.csv", data.spec, labels=torch.from_numpy(data.labels))
    lines = (tmp_path / "new.csv").read_text("utf-8").splitlines()
    assert lines[0] == "height,weight,sports,label"
    assert re.fullmatch(r"1\.\d+,\d\d,[01],big", lines[1])
    orn.save_pictures(x, tmp_path / "new.npz", data.spec, labels=torch.from_numpy(data.labels))
    for back in (load_data(tmp_path / "new.csv"), load_data(tmp_path / "new.npz")):
        assert (back.spec.columns, back.spec.classes) == (("height", "weight", "sports"), ("big", "small"))
        assert np.array_equal(back.values.astype(np.float32), data.spec.decode(x))
        assert (back.values[:, 1:].min(0) >= [58, 0]).all()
        assert (back.values[:, 1:].max(0) <= [84, 1]).all()
    with pytest.raises(ValueError, match="not rows of a table"):
        orn.save_pictures(torch.zeros(2, 1, 8, 8), tmp_path / "pictures.csv")


def test_other_columns_than_a_model_has_learned_are_refused():
    """In another order they would pass for one another."""
    data, law = load_data(pd.DataFrame(BODIES)), orn.ExactGaussian(torch.zeros(3), torch.ones(3), orn.Cosine())
    other = load_data(pd.DataFrame(BODIES)[["weight", "height", "sports"]])
    with pytest.raises(ValueError, match="has the columns weight, height, sports, the model's are height, weight, sp"):
        adapt(law, other, "held", data.spec)


def test_frames_of_two_columns_of_one_name_are_refused():
    frame = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(ValueError, match="data: has several columns called a; give each its own"):
        load_data(frame)
