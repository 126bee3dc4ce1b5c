"""`ornstein evaluate` and `ornstein likelihood`: a page, its figures, and one line for every mistake."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest

import ornstein as orn
from ornstein.training.reopen import reopen

pytestmark = pytest.mark.usefixtures("few_trees")
QUICK = ("--features", "pixels", "--count", "60", "--no-likelihood", "--nfe", "4")
MLP = ("--set", "options={width: 8, depth: 1}")


def test_a_report_is_a_page_and_its_figures(trained, command, tmp_path):
    code, out, err = command("evaluate", trained, "--out", "report", *QUICK)
    assert (code, err) == (0, "")
    parts = [line.split("%  ")[1].split(",")[0] for line in out.splitlines() if "%  " in line]
    # A part that takes long is said more than once.
    assert list(dict.fromkeys(parts)) == ["features", "real data", "samples", "distances", "copies", "noise levels"]
    figures = json.loads((tmp_path / "report/report.json").read_text())
    page = (tmp_path / "report/index.html").read_text()
    assert sorted(path.name for path in (tmp_path / "report").iterdir()) == ["index.html", "report.json"]
    assert figures["data"]["training"] == 1500
    assert figures["data"]["held_out"] == 297
    assert figures["drawn"]["nfe"] == 4
    assert figures["model"]["settings"]["images"] == 640
    auc = next(one for one in figures["measures"] if one["key"] == "auc")
    assert auc["value"] > 0.7  # after 640 pictures five trees do not take its samples for digits
    assert "Told apart by a forest" in out
    assert f"{auc['value']:.2f}" in out
    assert page.count("data:image/png") >= 2
    # Another report is only written over one, and only when asked.
    code, _, err = command("evaluate", trained, "--out", "report", *QUICK)
    assert (code, err.count("\n")) == (2, 1)
    assert "already holds a report; replace it (--overwrite)" in err


def test_what_ctrl_c_cuts_short_the_same_command_ends(trained, command, tmp_path):
    (tmp_path / "mine.py").write_text(
        "from pathlib import Path\nimport ornstein as orn\n"
        "class Plain(orn.Rule):\n    order = 1\n"
        "    def advance(self, step):\n"
        "        if not Path('again').exists():\n            raise KeyboardInterrupt\n"
        "        return step.turn(1.0)\n")
    words = ("evaluate", trained, "--out", "deep/report", "--sampler", "mine.py:Plain", *QUICK)
    code, _, err = command(*words)
    assert code == 130
    assert err == ("ornstein: stopped; finished parts are kept in deep/report.partial, run the same command to "
                   "continue\n")
    assert sorted(path.name for path in (tmp_path / "deep").iterdir()) == ["report.partial"]
    done = {path: path.stat().st_mtime_ns for path in (tmp_path / "deep/report.partial").iterdir()}
    assert len(done) == 3  # the floors of the pixels and of both forests
    (tmp_path / "deep/report.partial/notes.txt").write_text("mine")
    (tmp_path / "again").touch()
    code, _, err = command(*words)
    assert (code, err) == (0, "")
    # What is not of an evaluation stays.
    assert [path.name for path in (tmp_path / "deep/report.partial").iterdir()] == ["notes.txt"]
    assert sorted(path.name for path in (tmp_path / "deep/report").iterdir()) == ["index.html", "report.json"]


def test_two_runs_are_compared(trained, command, tmp_path):
    shutil.copytree(trained, tmp_path / "twin")
    (tmp_path / "both").mkdir()
    (tmp_path / "both/index.html").write_text('<meta name="generator" content="Ornstein 0.1">')
    (tmp_path / "both/report.json").write_text('{\n "format": 1}')
    code, out, _ = command("evaluate", trained, "twin", "--out", "both", "--seed", "1", "--overwrite", "--json", *QUICK)
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    assert events[-1] == {"event": "report", "page": "both/index.html", "figures": "both/report.json"}
    assert [event["job"] for event in events[:-1]] == sorted(event["job"] for event in events[:-1])  # digits, twin
    figures = json.loads((tmp_path / "both/report.json").read_text())
    assert [one["drawn"]["seed"] for one in figures["reports"]] == [1, 1]
    assert set(figures["better"].values()) == {None}  # the same model, the same seed
    page = (tmp_path / "both/index.html").read_text()
    assert "No difference shown" in page or "no difference is shown" in page
    assert "A is better" not in page


def test_unseen_data_of_ones_own(trained, command, tmp_path, monkeypatch):
    """Without labels, and in the space of a network that was trained on them, if not to the end."""
    monkeypatch.setattr("ornstein.evaluation.features.network.MAX_STEPS", 30)
    monkeypatch.setattr("ornstein.evaluation.features.network.MIN_STEPS", 30)
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mine.npy", rng.integers(0, 16, (50, 1, 8, 8)).astype(np.uint8))
    words = ("--data", "mine.npy", "--features", "network", *QUICK[2:])
    assert command("evaluate", trained, "--out", "report", *words)[0] == 0
    figures = json.loads((tmp_path / "report/report.json").read_text())
    assert figures["data"]["held_out"] == 50
    assert figures["data"]["held_out_name"] == "mine"
    assert any("mapped by the model's own range" in note for note in figures["notes"])
    assert "accuracy" not in {one["key"] for one in figures["measures"]}


def test_a_model_file_alone_needs_to_be_told_its_data(trained, tmp_path):
    alone = tmp_path / "alone.safetensors"
    shutil.copy(trained / "model.safetensors", alone)
    taken = reopen(alone, "digits")
    assert taken.evaluation_data is None
    assert "are taken for what" in taken.notes[0]
    assert reopen(alone, trained_on="digits").notes == []
    again = reopen(trained, "digits")
    assert again.evaluation_data is None
    assert "the rows held out of training serve as unseen data" in again.notes[0]


def test_data_that_moved_or_changed_are_noticed(command, tmp_path):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mine.npy", rng.normal(size=(400, 3)))
    assert command("train", "mine.npy", "--images", "256", "--out", "run", *MLP)[0] == 0
    (tmp_path / "mine.npy").rename(tmp_path / "moved.npy")
    code, _, err = command("evaluate", "run", "--out", "r", *QUICK)
    assert code == 2
    assert "say where it is now with --trained-on" in err
    assert reopen(tmp_path / "run", trained_on=str(tmp_path / "moved.npy")).notes == []
    np.save(tmp_path / "mine.npy", rng.normal(size=(400, 3)))
    code, _, err = command("evaluate", "run", "--out", "s", *QUICK)
    assert code == 2
    assert "values or labels have changed" in err
    np.save(tmp_path / "other.npy", rng.normal(size=(400, 3)))
    assert "has changed since" in reopen(tmp_path / "run", str(tmp_path / "other.npy")).notes[0]


@pytest.mark.parametrize(("method", "says"), [
    ("elbo", ["Bound, continuous time", "Bound, chain with optimal variances", "diffusion: ", "even in log SNR"]),
    ("ode", ["Flow (ODE), dequantised data", "hutchinson divergence"])])
def test_likelihoods_have_errors_and_grids(trained, command, method, says):
    code, out, _ = command("likelihood", trained, "--method", method, "--count", "16", "--steps", "8")
    assert code == 0
    assert "bits a value" in out
    assert "±" in out
    for words in says:
        assert words in out


BAD = [
    (["evaluate", "RUN"], "--out"),
    (["evaluate", "nothing", "--out", "r"], "does not exist"),
    (["evaluate", "RUN", "--out", "r", "--restore", "blu=1"], "'blu' is unknown; did you mean 'blur'?"),
    (["evaluate", "RUN", "--out", "r", "--noise", "0.1"], "give restore too, such as mask=0.5, or leave noise out"),
    (["evaluate", "RUN", "--out", "afile"], "afile, which is a file"),
    (["evaluate", "RUN", "--out", "full"], "full holds notes.txt, which does not belong to a report"),
    (["evaluate", "RUN", "--out", "full", "--overwrite"], "full holds notes.txt, which does not belong to a report"),
    (["evaluate", "RUN", "--out", "afile/report"], "afile is a file"),
    (["evaluate", "RUN", "gone", "--out", "r"], "gone"),
    (["evaluate", "RUN", "--out", "r", "--count", "1000000000"], "GiB of memory"),
    (["evaluate", "RUN", "--out", "r", "--data", "bytes.npy"], "not on the model's 17 levels"),
    (["evaluate", "RUN", "--out", "r", "--data", "seen.npy"], "100 of 100 held-out rows are also training rows"),
    (["evaluate", "RUN", "--out", "r", "--trained-on", "few.npy", "--features", "pixels"], "labels"),
    (["evaluate", "RUN", "--out", "r", "--count", "3"], "count is 3; an evaluation needs at least 30"),
    (["evaluate", "RUN", "--out", "r", "--features", "pixel"], "did you mean 'pixels'"),
    (["evaluate", "RUN", "--out", "r", "--features", "inception=gone.pt"], "gone.pt"),
    (["evaluate", "RUN", "--out", "r", "--sampler", "hoin"], "did you mean 'heun'"),
    (["evaluate", "RUN", "--out", "r", "--data", "wide.npy"], "the model's are of shape (1, 8, 8)"),
    (["evaluate", "RUN", "--out", "r", "--data", "few.npy"], "has 8 held-out rows that can be used"),
    (["evaluate", "RUN", "--out", "r", "--data", "nowhere"], "nowhere"),
    (["evaluate", "MODEL", "--out", "r"], "does not say what it was trained on; name it with --data or --trained-on"),
    (["likelihood", "RUN", "--method", "od"], "did you mean 'ode'"),
    (["likelihood", "RUN", "--count", "1"], "--count is 1"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_mistake_gives_one_line_and_leaves_nothing(command, tmp_path, trained, words, says):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/notes.txt").write_text("mine")
    (tmp_path / "afile").write_text("mine")
    digits = np.asarray(orn.load_data("digits").split()[0].values)
    np.save(tmp_path / "seen.npy", digits[:100].astype(np.float64))
    np.save(tmp_path / "bytes.npy", np.random.default_rng(0).integers(0, 256, (60, 1, 8, 8)).astype(np.uint8))
    np.save(tmp_path / "wide.npy", np.zeros((60, 1, 9, 9), np.uint8))
    np.save(tmp_path / "few.npy", np.random.default_rng(0).integers(0, 17, (8, 1, 8, 8)).astype(np.uint8))
    before = sorted(tmp_path.rglob("*"))
    places = {"RUN": trained, "MODEL": trained / "model.safetensors"}
    code, _, err = command(*[str(places.get(word, word)) for word in words])
    assert code == 2
    assert err.startswith("ornstein: ")
    assert err.count("\n") == 1
    assert any(words in err for words in says.split("|"))
    assert sorted(tmp_path.rglob("*")) == before
