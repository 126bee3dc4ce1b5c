"""`ornstein adopt`, and the other commands on what it leaves."""

from __future__ import annotations

import json
import sys

import pytest

import ornstein as orn
from adopted_models import graph, pipeline
from ornstein import cli
from ornstein.evaluation.preparation import training_and_unseen
from ornstein.training.reopen import reopen

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


@pytest.mark.slow
def test_an_adopted_pipeline_is_evaluated_like_a_run(tmp_path, monkeypatch, ornstein, folder):
    """Distances, likelihoods, copies and a page, by the rows that were held out of the data that it was checked by."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ornstein.evaluation.intervals.DRAWS", 4)
    assert ornstein("adopt", folder, "--data", "digits", "--out", "run")[0] == 0
    code, said, _ = ornstein("evaluate", "run", "--count", 40, "--nfe", 2, "--features", "pixels", "--out", "report")
    assert code == 0
    for part in ("40 samples against 297 unseen pictures", "Bound, continuous time", "Flow (ODE)", "copies",
                 "digits are taken for what run was trained on"):
        assert part in said
    kept = json.loads((tmp_path / "report/report.json").read_text())
    assert (kept["model"]["denoiser"], kept["model"]["network"], kept["data"]["held_out"]) == ("Adopted", "Unet", 297)
    assert (tmp_path / "report/index.html").exists()


def test_an_adopted_run_is_judged_by_the_data_that_it_was_checked_by(tmp_path, folder):
    """By the rows held out of them, in its own units and with its classes, and it is said that nobody knows better."""
    with pytest.warns(RuntimeWarning, match="the model denoises held-out samples worse"):
        orn.save(orn.adopt(folder, data="digits"), tmp_path / "model.safetensors")
    model, known, held, _, notes = reopen(tmp_path)
    training, unseen, _ = training_and_unseen(model, known, held)
    assert (len(training), len(unseen), training.spec.classes) == (1500, 297, model.data.classes)
    assert notes == [f"digits are taken for what {tmp_path} was trained on, and the rows held out of them for unseen: "
                     "otherwise floors, copies and training losses mean nothing (--trained-on)"]


def test_nothing_is_left_of_what_is_refused_and_nothing_is_replaced_unasked(tmp_path, folder, ornstein):
    """One line each, and no folder."""
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model_index.json").write_text(json.dumps({"_class_name": "StableDiffusionPipeline", "vae": [
        "diffusers", "AutoencoderKL"]}))
    for words, message in (((broken,), "latents of an autoencoder"), ((tmp_path / "gone",), "gone does not exist"),
                           ((folder, "--shape", "1xa"), "--shape is '1xa'; it must be numbers separated by x"),
                           ((folder, "--input", "sample"), "--input has 'sample'; write role=name"),
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
