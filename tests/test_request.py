"""A request says the same in a notebook, in a service and on the command line."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from PIL import Image

import ornstein as orn
from ornstein.request import Request
from test_figures import model_of


def test_a_request_and_the_command_draw_the_same_picture(command, tmp_path):
    """Class, guidance, seed and calls; and what the picture says of itself is the request."""
    model = model_of("grey")
    orn.save(model, tmp_path / "m.safetensors")
    name = model.data.classes[1]
    request = Request(count=3, label=name, guidance=2.0, seed=5, nfe=4)
    assert command("sample", "m.safetensors", "--out", "a.npz", "--count", 3, "--label", name, "--guidance", 2,
                   "--seed", 5, "--nfe", 4)[0] == 0
    assert command("sample", "m.safetensors", "--out", "a.png", "--count", 3, "--label", name, "--guidance", 2,
                   "--seed", 5, "--nfe", 4)[0] == 0
    assert_array_equal(np.load(tmp_path / "a.npz")["x"], model.data.decode(request.draw(model))[:, 0])
    said = json.loads(Image.open(tmp_path / "a.png").text["ornstein"])
    assert {key: said[key] for key in request.facts()} == request.facts()


def test_classes_take_turns():
    model = model_of("grey")
    assert Request(count=7).conditions(model).tolist() == np.resize(model.data.drawn, 7).tolist()
    assert Request(count=2, label=model.data.classes[0]).conditions(model).tolist() == [0, 0]
    model.data = dataclasses.replace(model.data, classes=("1", "10", "2"))
    assert [Request(count=1, label=label).conditions(model).item() for label in ("1", 1, "10", 2)] == [0, 1, 1, 2]
    model.data = dataclasses.replace(model.data, classes=("cat", "dog", "dog, cat"))
    for label, wanted in (("cat,dog", [0, 1, 0]), (["dog", 2], [1, 2, 1]), ("dog, cat", [2, 2, 2]), ("0,2", [0, 2, 0])):
        assert Request(count=3, label=label).conditions(model).tolist() == wanted
    with pytest.raises(ValueError, match="class 'dgo' is unknown; did you mean 'dog'"):
        Request(label="cat,dgo").conditions(model)
    assert torch.equal(Request(count=2, condition=(1.5, 2.0)).conditions(model_of("vectors")),
                       torch.tensor([[1.5, 2.0]] * 2, dtype=torch.float64))


@pytest.mark.parametrize(("name", "words", "says"), [
    ("vectors", {"condition": [1.0]}, r"condition is \[1\.0\]; it must be 2 finite numbers for mass, charge"),
    ("points", {"condition": [1.0]}, "condition is .*was trained without"),
    ("traces", {"guidance": 2.0}, "nothing to guide towards"),
    ("grey", {"label": "no such class"}, "no such class"),
    ("grey", {"count": 0}, "count is 0"),
])
def test_a_request_that_a_model_cannot_meet_is_refused(name, words, says):
    with pytest.raises(ValueError, match=says):
        dataclasses.replace(Request(), **words).draw(model_of(name))


def test_a_condition_far_from_all_that_was_trained_on_is_said_to_be_so():
    model = model_of("vectors")
    mean, std = (part.tolist() for part in (model.condition_mean, model.condition_std))
    with pytest.warns(RuntimeWarning, match=r"condition charge is .*, 9 standard deviations from the mean"):
        Request(count=1, condition=[mean[0], mean[1] + 9 * std[1]]).conditions(model)
