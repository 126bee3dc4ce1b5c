"""What a model's file says is checked, entry by entry and as a whole, before anything is built from it."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import tempfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import ornstein as orn
from ornstein import checkpoint
from ornstein.description import describe
from ornstein.diffusion.linear import LinearGuess
from ornstein.diffusion.samplers.choice import Choice

DEEP = json.loads("[" * 60 + "]" * 60)
HOSTILE = [None, [], {}, "", -1, 0.5, math.inf, math.nan, True, 10**12, 10**400, "\x1b[2Jx", [10**8, -(10**8)], DEEP]


def made(network: str, schedule: orn.Schedule) -> orn.NetworkDenoiser:
    torch.manual_seed(0)
    shape = (1, 4, 4)
    body = {"unet": lambda: orn.UNet(shape, 3, [8, 16], [1, 1], attention=True, embedding=8, hints=True),
            "dit": lambda: orn.DiT(shape, 3, 2, 12, 1, 3, 8), "mlp": lambda: orn.MLP(shape, 0, 8, 1, 8, 2)}[network]()
    vectors = network == "mlp"
    data = orn.DataSpec("own", "picture", shape, 0.0, 16.0, 17, () if vectors else ("a", "b", "c"), "CHW",
                        ("u", "v") if vectors else ())
    told = (torch.zeros(2), torch.ones(2)) if vectors else (None, None)
    model = orn.NetworkDenoiser(body, schedule, shape, "v", 0.5, torch.zeros(shape), (-12, 12),
                                LinearGuess.fit(torch.randn(40, *shape), "waves" if vectors else "principal"), (-1, 1),
                                data, "fp32", *told)
    model.metrics = {"held_out": 0.5, "gap": None}
    angles = schedule.level(torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64)).angle.tolist()
    model.tuned = {2: Choice(2, "ddim", (1.0, 0.5, 0.0), tuple(angles), {"auto": 0.5}, "because", 0.01)}
    return model.eval()


MODELS = [("unet", orn.Cosine()), ("dit", orn.Exploding(0.01, 20.0)), ("mlp", orn.Chain([0.1, 0.2, 0.7]))]


def places(facts, inside=()):
    """Every place in a description: of each value, and of each entry of a table or list."""
    entries = facts.items() if isinstance(facts, dict) else enumerate(facts) if isinstance(facts, list) else ()
    for key, value in entries:
        yield (*inside, key)
        yield from places(value, (*inside, key))


def changed(facts, place, value):
    """The facts with another value in one place; all other places are shared."""
    key, *inside = place
    there = copy.copy(facts)
    there[key] = changed(facts[key], inside, value) if inside else value
    return there


def stored(path, tensors, facts) -> None:
    """As `checkpoint.write` does, without waiting for the disk."""
    facts, tensors = {"format": 1, **facts}, {name: value.contiguous() for name, value in tensors.items()}
    save_file(tensors, path, {"ornstein": json.dumps({**facts, "sha256": checkpoint._hash(facts, tensors)})})


@pytest.mark.parametrize(("network", "schedule"), MODELS, ids=["unet", "dit", "mlp"])
def test_every_entry_of_a_description_is_checked(network, schedule):
    """Each replaced by each hostile value: refused in a short line, or the model that it describes."""
    model = made(network, schedule)
    tensors, facts = model.state_dict(), json.loads(json.dumps(describe(model)))
    assert describe(checkpoint.build_model(tensors, facts)) == describe(model)
    # What does not depend on the network is tried with one of them only.
    tried = [place for place in places(facts) if network == "mlp" or place[0] in ("network", "schedule")]
    kept = 0
    for place in tried:
        for value in HOSTILE:
            told = changed(facts, place, value)
            try:
                again, line = checkpoint.build_model(tensors, told), ""
            except ValueError as error:
                again, line = None, str(error)
            assert line.isprintable(), (place, value)
            assert len(line) < 500, (place, value)
            if again:
                kept += 1
                said = json.loads(json.dumps(describe(again)))
                assert said in (told, facts) or place[0] in ("metrics", "tuned"), (place, value)
                assert orn.sample(again, 1, nfe=1).isfinite().all(), (place, value)
    assert kept < 2 * len(tried)


@pytest.mark.parametrize("place", [("network", "options", "widths", 0), ("schedule", "name"), ("shape",),
                                   ("data", "low"), ("tuned", 0, "times"), ("predicts",), ("metrics", "gap")])
def test_a_description_that_is_refused_names_its_file(tmp_path, place):
    model, file = made(*MODELS[0]), tmp_path / "m.safetensors"
    stored(file, model.state_dict(), changed(json.loads(json.dumps(describe(model))), place, DEEP))
    with pytest.raises(ValueError, match=rf"^{file}: "):
        orn.load(file)


def test_every_entry_is_needed_and_no_other_name_is_one():
    model = made(*MODELS[2])
    tensors, facts = model.state_dict(), json.loads(json.dumps(describe(model)))
    optional = {("tuned",), ("tuned", 0, "damping"), ("tuned", 0, "noise"),
                *(("data", item.name) for item in dataclasses.fields(orn.DataSpec)
                  if item.default is not dataclasses.MISSING)}
    for place in places(facts):
        # An option of a network has a default, which may be what it is.
        free = place in optional or place[:2] == ("network", "options") or place[0] == "metrics"
        if isinstance(place[-1], int) or place[-2:] == ("errors", "auto") or (free and place != ("metrics",)):
            continue
        told = copy.deepcopy(facts)
        table = told
        for key in place[:-1]:
            table = table[key]
        del table[place[-1]]
        with pytest.raises(ValueError, match=r"^(?!$)"):
            checkpoint.build_model(tensors, told)
    for name in tensors.keys() - {"linear.shape"}:  # without it the variances are those of the values
        with pytest.raises(ValueError, match=r"missing|means of them|linear is None|together"):
            checkpoint.build_model({kept: value for kept, value in tensors.items() if kept != name}, facts)
    with pytest.raises(ValueError, match=r"tensor '.x1b\[2J' is unknown"):
        checkpoint.build_model({**tensors, "\x1b[2J": torch.zeros(1)}, facts)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_tensors_that_are_not_finite_or_of_another_kind_are_refused_by_name(value):
    model = made(*MODELS[2])
    tensors, facts = model.state_dict(), describe(model)
    for name, good in tensors.items():
        if good.is_floating_point():
            bad = good.clone()
            bad.view(-1)[-1] = value
            with pytest.raises(ValueError, match=f"{name}' holds values that are not finite|must be|variance"):
                checkpoint.build_model({**tensors, name: bad}, facts)
        if not math.isnan(value):
            continue
        deeper = [good[None]] if name != "data_std" else []  # a deviation of one value is a number
        for other in (good.to(torch.int32), good.to(torch.bfloat16), good.new_zeros(0), *deeper):
            with pytest.raises(ValueError, match=r"^(?!$)"):
                checkpoint.build_model({**tensors, name: other}, facts)


@pytest.mark.parametrize("text", ["", "[]", "1", "null", '"x"', "[" * 100_000, '{"format": [1]}', '{"format": true}',
                                  "{" * 50, '{"format": 1}', "NaN", '{"format": 1e400}', "9" * 5000])
def test_metadata_that_are_no_description_are_refused(tmp_path, text):
    save_file({"x": torch.zeros(2)}, tmp_path / "m.safetensors", {"ornstein": text})
    with pytest.raises(ValueError, match=r"m\.safetensors"):
        orn.load(tmp_path / "m.safetensors")


def test_a_model_that_may_not_be_read_is_said_to_be_that():
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "m.safetensors"
        orn.save(made(*MODELS[0]), file)
        file.chmod(0)
        Path(folder).chmod(0o755)
        root = os.geteuid() == 0  # who may read everything
        if root:
            os.seteuid(65534)
        try:
            with pytest.raises(PermissionError, match=r"Permission denied: .*m\.safetensors"):
                orn.load(file)
        finally:
            if root:
                os.seteuid(0)
