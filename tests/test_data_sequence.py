"""What objects with len() and items become: pictures, arrays, pairs and tables of them."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from data_corpus import COLOUR, GREY
from ornstein.data import load_data

RNG = np.random.default_rng(0)
PICTURES = [Image.fromarray(np.full((8, 8, 3), value, np.uint8)) for value in range(12)]
TRACES = [RNG.standard_normal(40) for _ in range(12)]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_CACHE", str(tmp_path_factory.mktemp("cache")))


class Pairs:
    """As a data set of torch or torchvision: items by number, names in `classes`."""

    classes = ("cat", "dog", "cow")

    def __init__(self, items):
        self.items = items

    def __len__(self):
        return len(self.items)

    def __getitem__(self, row):
        return self.items[row], row % 3


def test_a_list_of_pictures():
    data = load_data(PICTURES)
    assert data.spec.shape == (3, 8, 8)
    assert data.values[:, 0, 0, 0].tolist() == list(range(12))
    assert load_data([Image.fromarray(GREY)] * 3).spec.shape == (1, 8, 8)


@pytest.mark.parametrize("reader", ["auto", "stream"])
def test_pairs_with_names(reader):
    data = load_data(Pairs(PICTURES), reader=reader)
    assert data.labels.tolist() == [0, 1, 2] * 4
    assert data.spec.classes == ("cat", "dog", "cow")
    assert data.values[:][:, 0, 0, 0].tolist() == list(range(12))


@pytest.mark.parametrize("kind", [list, np.asarray, torch.from_numpy, lambda x: torch.from_numpy(x).float()])
def test_traces_of_one_length(kind):
    data = load_data([kind(x) for x in TRACES], layout="L")
    assert data.spec.shape == (1, 40)
    assert np.allclose(data.values[:, 0], TRACES)


def test_arrays_in_pairs_are_what_the_pair_of_arrays_is():
    values = np.random.default_rng(0).integers(0, 256, (12, 3, 8, 8), dtype=np.uint8)
    assert load_data(Pairs(list(values))).digest() == load_data((values, np.arange(12) % 3)).digest()


def test_a_dataset_of_torch():
    values = torch.randn(12, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    data = load_data(torch.utils.data.TensorDataset(values, torch.arange(12) % 2))
    assert np.array_equal(data.values, values.numpy())
    assert data.labels.tolist() == [0, 1] * 6


def test_tables_of_pictures_labels_and_conditions():
    data = load_data([{"img": one, "label": "odd" if row % 2 else "even"} for row, one in enumerate(PICTURES)])
    assert data.spec.classes == ("even", "odd")
    assert data.labels.tolist() == [0, 1] * 6
    data = load_data([{"x": x, "conditions": [1.0, row] if row else None} for row, x in enumerate(TRACES)])
    assert np.array_equal(data.conditions, [[np.nan] * 2] + [[1, row] for row in range(1, 12)], equal_nan=True)


def test_a_hub_object_with_features():
    datasets = pytest.importorskip("datasets")
    features = datasets.Features({"x": datasets.Array2D((3, 16), "float32"),
                                  "label": datasets.ClassLabel(names=["a", "b"])})
    values = np.random.default_rng(0).standard_normal((12, 3, 16)).astype(np.float32)
    table = datasets.Dataset.from_dict({"x": list(values), "label": [0, 1] * 6}, features=features)
    data = load_data(table)
    assert np.array_equal(data.values, values)
    assert data.spec.classes == ("a", "b")
    assert data.labels.tolist() == [0, 1] * 6
    pictures = datasets.Dataset.from_dict(
        {"image": PICTURES, "label": [0, 1] * 6},
        features=datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"])}))
    data = load_data(pictures.select(range(11, -1, -1)))
    assert data.values[:, 0, 0, 0].tolist() == list(range(11, -1, -1))
    assert data.labels.tolist() == [1, 0] * 6


@pytest.mark.parametrize(("source", "kind", "message"), [
    ([], ValueError, "data: holds 0 samples"), ([b"a"], TypeError, "item 0 is bytes; items must be pictures"),
    ([TRACES[0], TRACES[1][:7], TRACES[2][:9]], ValueError, "its 3 arrays have 3 different shapes, (7,) to (40,)"),
    ([TRACES[0], PICTURES[0]], TypeError, "items must be alike"),
    ([PICTURES[0], TRACES[0]], TypeError, "item 1 is an array, but item 0 is a picture"),
    ([{"name": 1}], TypeError, "item 0 has name; it needs an entry such as image or x"),
    ([(PICTURES[0], 1.5)], ValueError, "the label of sample 0 is 1.5; labels must be all whole numbers or all text"),
    ([(PICTURES[0], 1), (PICTURES[1], "a")], ValueError, "the label of sample 1 is 'a'"),
    ([{"x": TRACES[0], "conditions": [1, 2]}, {"x": TRACES[1], "conditions": [1]}], ValueError,
     "vectors of one length"),
    ([np.float64(3)], TypeError, "item 0 is float64"),
])
def test_items_that_cannot_be_used_are_refused(source, kind, message):
    with pytest.raises(kind, match=re.escape(message)) as caught:
        load_data(source)
    assert "\n" not in str(caught.value)


def test_one_bad_picture_of_many_is_skipped():
    tiny = Image.fromarray(COLOUR[:2, :2])
    data = load_data([*PICTURES, tiny])
    assert len(data) == 12
    assert data.skipped == ["item 12: 2x2 is smaller than 4 pixels"]


def test_the_hub_without_a_network_is_one_line(monkeypatch):
    datasets = pytest.importorskip("datasets")

    def down(*_, **given):
        assert set(given) == {"split"}
        raise ConnectionError("Couldn't reach it\nand more")

    monkeypatch.setattr(datasets, "load_dataset", down)
    with pytest.raises(ConnectionError, match=r"hf:some/name:test: cannot be loaded from the Hub \(Couldn't reach it\)"
                                              "; check the name, the split and the network"):
        load_data("hf:some/name:test")
