"""`ornstein adopt`, and the other commands on what it leaves."""

from __future__ import annotations

import json
import sys

import pytest

import ornstein as orn
from adopted_models import graph, pipeline
from ornstein import cli

pytestmark = pytest.mark.usefixtures("few_trees")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    pytest.importorskip("diffusers")
    return pipeline(tmp_path_factory.mktemp("theirs") / "p", num_class_embeds=10)


@pytest.fixture
def ornstein(monkeypatch, capsys):
    """Run a command; gives its exit code, what it said and what it complained of."""

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["ornstein", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        said = capsys.readouterr()
        return stop.value.code or 0, said.out, said.err

    return run


TOLD = ("--convention", "x", "--schedule", "linear", "--input", "x=sample", "time=timestep")


@pytest.mark.slow
def test_all_commands_work_on_an_adopted_run(tmp_path, monkeypatch, ornstein):
    """Samples, a tuning that stays, a likelihood by the data that it was checked by, a trace and an edit."""
    monkeypatch.chdir(tmp_path)
    graph(tmp_path / "m.onnx", shape=(1, 8, 8))
    code, said, _ = ornstein("adopt", "m.onnx", *TOLD, "--data", "digits", "--out", "run")
    assert (code, "answers x on Linear" in said, "-1 to 1 are 0.0 to 16.0" in said) == (0, True, True)
    assert ornstein("sample", "run", "--count", 1, "--nfe", 2, "--scale", 1, "--out", "one.png")[0] == 0
    code, said, _ = ornstein("tune", "run", "--nfe", 2, "--starts", 16, "--quick")
    assert (code, "distance to data" in said, "does not say what it was trained on" in said) == (0, True, False)
    assert list(orn.load("run").tuned) == [2]
    code, said, _ = ornstein("likelihood", "run", "--count", 4, "--steps", 4)
    assert (code, "bits a value" in said, "digits are taken for" in said) == (0, True, True)
    assert ornstein("trace", "run", "--out", "trace.png")[0] == 0
    assert ornstein("edit", "run", "vary", "one.png", "--nfe", 3, "--out", "edited.png")[0] == 0
    code, _, error = ornstein("train", "digits", "--from", "run", "--images", 64, "--out", "on")
    assert (code, "a model of another library" in error, (tmp_path / "on").exists()) == (2, True, False)
    assert ornstein("adopt", "m.onnx", *TOLD, "--out", "alone")[0] == 0
    code, said, _ = ornstein("tune", "alone", "--nfe", 1, "--starts", 16, "--quick")
    assert (code, "does not say what it was trained on" in said) == (0, True)


def test_nothing_is_left_of_what_is_refused_and_nothing_is_replaced_unasked(tmp_path, folder, ornstein):
    """One line each, and no folder."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", "vae": [
        "diffusers", "AutoencoderKL"]}))
    for words, message in (((broken,), "latents of an autoencoder"), ((tmp_path / "gone",), "gone does not exist"),
                           ((folder, "--shape", "1xa"), "--shape is '1xa'; it must be numbers with x between"),
                           ((folder, "--input", "sample"), "--input has 'sample'; write what it is"),
                           ((folder, "--classes", 20), "classes is 20, and the network has 10"),
                           ((folder, "--data", "moons"), "the model's are of shape")):
        code, said, error = ornstein("adopt", *words, "--out", tmp_path / "run")
        assert (code, said, error.count("\n"), message in error) == (2, "", 1, True), error
        assert not (tmp_path / "run").exists()
    assert ornstein("adopt", folder, "--out", tmp_path / "run")[0] == 0
    before = (tmp_path / "run" / "model.safetensors").read_bytes()
    code, _, error = ornstein("adopt", folder, "--out", tmp_path / "run", "--range", "0,1")
    assert (code, "already holds a model; replace it (--overwrite)" in error) == (2, True)
    assert (tmp_path / "run" / "model.safetensors").read_bytes() == before
    assert ornstein("adopt", folder, "--out", tmp_path / "run", "--range", "0,1", "--overwrite")[0] == 0
    assert orn.load(tmp_path / "run").data.low == -255
