"""A folder for the Hugging Face Hub: a model that comes back, and a card that says what is known and no more."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
import yaml
from PIL import Image

import ornstein as orn
from ornstein.checkpoint import digest


def front(text: str) -> dict:
    """The table at the head of a card."""
    return yaml.safe_load(text.split("---\n")[1])


def test_the_model_comes_back_and_the_card_says_whose_it_is(trained, command, tmp_path):
    code, out, err = command("export", trained, "--hub", "ours", "--license", "apache-2.0")
    assert (code, err) == (0, ""), out
    folder = tmp_path / "ours"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors",
                                                              "samples.png"]
    assert torch.equal(orn.sample(orn.load(folder), 3, nfe=3), orn.sample(orn.load(trained), 3, nfe=3))
    text, config = (folder / "README.md").read_text("utf-8"), json.loads((folder / "config.json").read_text("utf-8"))
    assert front(text) == {
        "license": "apache-2.0", "library_name": "ornstein", "pipeline_tag": "unconditional-image-generation",
        "tags": ["ornstein", "diffusion", "class-conditional"]}
    assert "Not measured" in text
    assert orn.Settings.from_yaml(text.split("```yaml\n")[1].split("```")[0]).images == 640
    assert config["network"]["name"] == "unet"
    assert json.loads(Image.open(folder / "samples.png").text["ornstein"])["model"] == digest(trained)
    assert command("export", trained, "--hub", "ours")[0] == 0  # what was written so is replaced
    assert front((folder / "README.md").read_text("utf-8"))["license"] == "unknown"


@pytest.mark.parametrize("name", ["README.md", "config.json", "samples.png", "model.safetensors"])
def test_files_of_others_stay(name, trained, command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / name).write_text("of years of work")
    code, _, err = command("export", trained, "--hub", "mine")
    assert (code, "was not written by Ornstein" in err) == (2, True)
    assert [path.read_text() for path in (tmp_path / "mine").iterdir()] == ["of years of work"]


def report_on(model: str) -> dict:
    """A report with one figure."""
    figure = {"key": "frechet", "name": "Fréchet distance", "features": "pixels", "best": 0.0, "real": 9,
              "generated": 9, "value": 3.0, "limit": 2.0, "low": 1.5, "high": 2.5, "floor": 1.1, "floor_limit": 0.1,
              "floor_low": 0.0, "floor_high": 0.2}
    return {"model": {"sha256": model}, "measures": [figure], "likelihood": [], "memorisation": None,
            "verdict": ["Fewer than <b>half</b> pass."], "data": {"training": 1200, "held_out": 297},
            "drawn": {"count": 1000, "nfe": 20}}


def test_figures_of_a_report_are_on_the_card_and_those_of_another_model_are_not(trained, command, tmp_path):
    run, there = tmp_path / "run", tmp_path / "run" / "report"
    shutil.copytree(trained, run)
    there.mkdir()
    (there / "report.json").write_text(json.dumps(report_on(digest(run))))
    assert command("export", run, "--hub", "ours")[0] == 0
    text = (tmp_path / "ours" / "README.md").read_text("utf-8")
    assert "| Fréchet distance, pixels | 2.0 [1.5, 2.5] | 0.10 [0.00, 0.20] |" in text
    assert "\\<b\\>half" in text
    (there / "report.json").write_text(json.dumps(report_on("0" * 64)))
    code, _, err = command("export", run, "--hub", "theirs")
    assert (code, "is a report on another model" in err) == (2, True)
    assert not (tmp_path / "theirs").exists()


def test_places_of_this_machine_are_not_on_the_card(trained, tmp_path, command):
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    settings = (run / "run.yaml").read_text().replace("data: digits", "data: /home/me/secret/faces")
    (run / "run.yaml").write_text(settings.replace("init_from: null", "init_from: /home/me/runs/first"))
    assert command("export", run, "--hub", "ours")[0] == 0
    text = (tmp_path / "ours" / "README.md").read_text("utf-8")
    assert "/home/me" not in text
    assert "data: faces" in text


def test_times_are_printed_as_json_or_written(trained, command, tmp_path):
    code, out, _ = command("export", trained, "--timesteps", "--nfe", 5)
    found = json.loads(out)
    assert (code, len(found["timesteps"]), len(found["sigmas"])) == (0, 5, 6)
    assert command("export", trained, "--timesteps", "--nfe", 5, "--out", "times.json")[0] == 0
    assert json.loads((tmp_path / "times.json").read_text()) == found


@pytest.mark.parametrize(("words", "why"), [
    ([], "name --onnx FILE.onnx, --hub FOLDER or --timesteps"), (["--onnx", "m.pt"], "it must end in .onnx"),
    (["--timesteps", "--license", "mit"], "which only --hub takes"),
    (["--hub", "x", "--nfe", "3"], "which only --onnx"),
    (["--onnx", "m.onnx", "--guidance", "2"], "add --nfe"), (["--timesteps", "--nfe", "0"], "nfe is 0")])
def test_mistakes_are_one_line(words, why, trained, command, tmp_path):
    code, out, err = command("export", trained, *words)
    assert (code, out, err.count("\n"), why in err) == (2, "", 1, True), err
    assert list(tmp_path.iterdir()) == []
