"""Feature spaces: what they promise to tell apart, that they repeat, and what they refuse."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier
from torch.nn import functional as F

import ornstein as orn
from ornstein.data.dataset import Dataset
from ornstein.evaluation.features import features

TRAIN, HELD = orn.load_data("digits").split()
X, Y = (part for part in TRAIN.batch(np.arange(1500)))
X_HELD, Y_HELD = HELD.batch(np.arange(297))
PICTURES = orn.load_data(np.random.default_rng(0).integers(0, 256, (40, 3, 10, 12), dtype=np.uint8), layout="CHW")


def first(data: Dataset, count: int, *, labels: bool = True) -> Dataset:
    part = copy.copy(data)
    part.values, part.held = data.values[:count], data.held[:count]
    part.labels = data.labels[:count] if labels else np.full(count, -1)
    return part


@pytest.fixture
def short(monkeypatch):
    """Trainings that need not end well."""
    monkeypatch.setattr("ornstein.evaluation.features.network.MIN_STEPS", 20)


def nearest_agree(space, x, y, x_held, y_held) -> float:
    """Share of held-out rows whose five nearest training rows in the features vote for their class."""
    return KNeighborsClassifier(5).fit(space(x), y).score(space(x_held), y_held)


@pytest.fixture(scope="module")
def network():
    return features("network", first(TRAIN, 600))


def test_a_network_trained_on_classes_knows_unseen_digits(network):
    assert (network.predict(X_HELD) == Y_HELD.numpy()).mean() >= 0.97
    assert nearest_agree(network, X[:600], Y[:600], X_HELD, Y_HELD) >= 0.97
    assert network.classes == TRAIN.spec.classes
    assert network.name.startswith("network: a small one trained to tell 10 classes apart, on 600 training pictures "
                                   "of “digits”, sha256 ")


def test_features_of_a_row_do_not_depend_on_the_others(network):
    assert np.array_equal(network(X_HELD)[:7], network(X_HELD[:7]))
    assert np.array_equal(network(X_HELD)[290:], network(X_HELD[290:]))


@pytest.mark.slow
def test_without_labels_features_separate_classes_they_were_never_told():
    """A class is guessed from five neighbours at 0.1 by chance; 500 digits without labels give above 0.8."""
    blind = features("network", first(TRAIN, 500, labels=False))
    assert nearest_agree(blind, X[:500], Y[:500], X_HELD, Y_HELD) >= 0.8
    assert blind.name.startswith("network: a small one trained to recognise changed copies, on 500 training pictures "
                                 "of “digits”")
    with pytest.raises(ValueError, match="were not trained on classes"):
        blind.predict(X_HELD)


@pytest.mark.usefixtures("short")
@pytest.mark.parametrize("labels", [pytest.param(True, marks=pytest.mark.slow), False])
def test_the_same_seed_gives_the_same_features_whatever_torch_draws_beside(labels):
    few = first(TRAIN, 32, labels=labels)
    one = features("network", few, seed=3)
    torch.manual_seed(99)
    before = torch.get_rng_state()
    two = features("network", few, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    assert one.name == two.name
    assert np.array_equal(one(X_HELD), two(X_HELD))
    if labels:
        assert features("network", few, seed=4).name != one.name


@pytest.mark.parametrize("shape", [(3,), (2, 30), *(pytest.param(shape, marks=pytest.mark.slow) for shape in (
    (1, 5, 12), (2, 1, 3), (1, 3, 4, 4)))])
def test_networks_of_every_rank_tell_classes_apart(shape):
    """Two classes that differ in the sign of a product, which no mean or line tells."""
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, 600)
    values = 0.3 * rng.standard_normal((600, *shape))
    sign = rng.choice([-1, 1], 600)
    values.reshape(600, -1)[:, 0] += 2 * sign
    values.reshape(600, -1)[:, 1] += 2 * sign * (2 * y - 1)
    data = orn.load_data((values.astype(np.float32), y), layout={1: "V", 2: "CL", 3: "CHW", 4: "CDHW"}[len(shape)])
    space = features("network", first(data, 500))
    assert (space.predict(data.batch(np.arange(500, 600))[0]) == y[500:]).mean() >= 0.95


@pytest.mark.usefixtures("short")
def test_one_class_is_no_class_to_train_on():
    zeros = first(TRAIN, 32)
    zeros.labels = np.zeros(32, np.int64)
    assert features("network", zeros).classes == ()


def test_few_values_are_taken_as_they_are():
    space = features("pixels", TRAIN)
    assert np.array_equal(space(X_HELD), X_HELD.flatten(1).double().numpy())
    assert space.name == "pixels: 64 values"


@pytest.mark.parametrize(("shape", "layout"), [((100,), "V"), ((4, 25), "CL"), ((1, 10, 10), "CHW"),
                                               ((2, 2, 5, 5), "CDHW")])
def test_components_keep_the_distances_of_data_that_have_no_more(shape, layout):
    """Samples on a plane of 20 dimensions in 100: 64 components hold all of it; of 8 rows there are 7 components."""
    rng = np.random.default_rng(0)
    values = (rng.standard_normal((300, 20)) @ rng.standard_normal((20, 100))).reshape(300, *shape).astype(np.float32)
    data = orn.load_data(values, layout=layout)
    x = data.batch(np.arange(300))[0]
    space = features("pixels", first(data, 200))
    flat, found = x.flatten(1).double(), torch.from_numpy(space(x))
    assert torch.allclose(torch.cdist(found, found), torch.cdist(flat, flat), atol=1e-4)
    kind = "pixels" if data.spec.kind == "picture" else "values"
    assert space.name == f"{kind}: 64 principal components of 100 values"
    assert features("pixels", first(data, 8)).name == f"{kind}: 7 principal components of 100 values"
    assert np.array_equal(space(x), features("pixels", first(data, 200))(x))


class Inception(torch.nn.Module):
    """Takes what the well-known file takes: values 0..255, and a word for the features."""

    def forward(self, img: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        return img.mean([2, 3]) if return_features else img[:, :1, 0, 0]


class Corner(torch.nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.mean([2, 3]), torch.full([len(x), 1], x.shape[2]), torch.full([len(x), 1], x.shape[3])], 1)


def test_an_inception_file_gets_bytes_and_the_word_for_features(tmp_path):
    torch.jit.script(Inception()).save(str(tmp_path / "net.pt"))
    space = features(f"inception={tmp_path / 'net.pt'}", PICTURES)
    x = PICTURES.batch(np.arange(40))[0]
    assert np.allclose(space(x), PICTURES.values.mean((2, 3)), atol=1e-4)
    # What lies outside of the range is clipped, and between two bytes rounded, as a picture file would have it.
    assert np.allclose(space(x * 0 + 1.3), 255)
    assert np.allclose(space(x * 0 + 0.001), 128)
    assert space.name.startswith("inception: net.pt, sha256 ")
    torch.jit.script(Corner()).save(str(tmp_path / "plain.pt"))
    plain = features(f"inception={tmp_path / 'plain.pt'}", PICTURES)(x)
    assert np.allclose(plain, np.c_[PICTURES.values.mean((2, 3)), np.full(40, 10), np.full(40, 12)], atol=1e-4)
    grey = features(f"inception={tmp_path / 'net.pt'}", TRAIN)(X[:5])
    assert np.allclose(grey, (((X[:5] + 1) * 127.5).round()).mean([1, 2, 3]).numpy()[:, None], atol=1e-4)


def test_a_dinov2_file_in_the_cache_gets_what_imagenet_looks_like(tmp_path, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_CACHE", str(tmp_path))
    (tmp_path / "features").mkdir()
    torch.jit.script(Corner()).save(str(tmp_path / "features" / "dinov2.pt"))
    space = features("dinov2", PICTURES)
    x = PICTURES.batch(np.arange(40))[0]
    unit = F.interpolate((x + 1) / 2, size=(224, 224), mode="bicubic", antialias=True).clamp(0, 1).mean([2, 3])
    wanted = (unit - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert np.allclose(space(x), np.c_[wanted.numpy(), np.full((40, 2), 224)], atol=1e-4)
    assert space.key == "dinov2"


def test_a_missing_file_is_told_with_the_place_and_the_remedy(tmp_path, monkeypatch):
    monkeypatch.setenv("ORNSTEIN_CACHE", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"features/inception.pt: no such file.* inception=FILE"):
        features("inception", PICTURES)
    with pytest.raises(FileNotFoundError, match=r"nowhere.pt: no such file"):
        features("dinov2=/nowhere.pt", PICTURES)


@pytest.mark.parametrize(("which", "data", "message"), [
    ("pixel", TRAIN, "features 'pixel' is unknown; did you mean 'pixels'"),
    ("pixels=a.pt", TRAIN, "only inception and dinov2 are read from one"),
    ("network", first(TRAIN, 31), "have 31 training samples; features 'network' need at least 32"),
    ("pixels", first(TRAIN, 1), "have 1 training samples; features 'pixels' need at least 2"),
    ("inception", orn.load_data("moons"), "need grey or colour pictures; data 'moons' are arrays"),
    (f"inception={__file__}", PICTURES, "not a readable TorchScript file"),
])
def test_what_cannot_be_had_is_refused(which, data, message):
    with pytest.raises(ValueError, match=message):
        features(which, data)


@pytest.mark.parametrize("which", ["pixels", "network"])
def test_data_that_are_all_alike_are_refused(which):
    constant = first(TRAIN, 40)
    constant.values = np.full_like(constant.values, 7)
    with pytest.raises(ValueError, match="are all equal"):
        features(which, constant)


def test_samples_of_another_shape_or_without_a_value_are_refused(network):
    with pytest.raises(ValueError, match=r"x has shape \(5, 1, 8, 7\); features need \(N, 1, 8, 8\)"):
        network(X[:5, ..., :7])
    with pytest.raises(ValueError, match="x holds 1 values that are not finite"):
        network(X[:1].index_fill(3, torch.tensor([0]), 0.0).index_put(
            (torch.tensor([0]), torch.tensor([0]), torch.tensor([0]), torch.tensor([0])), torch.tensor(torch.nan)))
