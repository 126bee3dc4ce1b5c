"""The command line keeps its promises: one line an error, nothing half-written, the same pictures from a seed."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from conftest import FAST
from data_corpus import fill
from ornstein import noise
from ornstein.data import SOURCES
from ornstein.diffusion.samplers.loop import SAMPLERS
from ornstein.networks import NETWORKS
from ornstein.settings import Settings
from ornstein.training.reopen import reopen
from ornstein.training.run import locate_data
from ornstein.training.trackers import TRACKERS

MLP = ["--set", "options={width: 8, depth: 1}"]


def test_a_run_holds_what_it_promises(trained):
    settings = yaml.safe_load((trained / "run.yaml").read_text())
    assert settings["images"] == 640
    assert settings["network"] == "unet"
    assert settings["precision"] in ("fp32", "bf16")
    assert "processes" in settings
    assert "compile" in settings
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["images"] == 640
    assert {"images", "loss", "held_out", "learning_rate", "seconds"} <= lines[-1].keys()
    assert list((trained / "previews").glob("*.png"))


def test_run_yaml_repeats_the_run(trained, command, tmp_path):
    assert command("train", "--config", trained / "run.yaml", "--out", tmp_path / "again")[0] == 0
    assert (tmp_path / "again/model.safetensors").read_bytes() == (trained / "model.safetensors").read_bytes()
    assert (tmp_path / "again/run.yaml").read_text() == (trained / "run.yaml").read_text()


def test_samples_come_as_a_grid_numbers_or_single_pictures(trained, command, tmp_path):
    assert command("sample", trained, "--out", "a.png", "--count", 20, "--nfe", 4)[0] == 0
    assert command("sample", trained, "--out", "a.npz", "--count", 20, "--nfe", 4)[0] == 0
    assert command("sample", trained, "--out", "folder", "--count", 12, "--nfe", 4)[0] == 0
    numbers = np.load(tmp_path / "a.npz", allow_pickle=False)
    assert numbers["x"].shape == (20, 1, 8, 8)
    assert set(np.unique(numbers["x"])) <= set(range(17))
    assert list(numbers["labels"]) == [*range(10), *range(10)]
    files = sorted((tmp_path / "folder").iterdir())
    assert len(files) == 12
    # The n-th picture of a seed is the same in every form and count.
    pixels = np.asarray(Image.open(files[7]).convert("L")).astype(float)
    assert np.array_equal(np.round(pixels * 16 / 255), numbers["x"][7, 0])
    facts = json.loads(Image.open(files[7]).text["ornstein"])
    assert facts["seed"] == 0
    assert facts["noise"] == noise.VERSION
    assert facts["nfe"] == 4
    assert facts["number"] == 7
    assert facts["class"] == "7"
    assert len(facts["model"]) == 64
    assert "ornstein" in Image.open(tmp_path / "a.png").text


def test_labels_match_a_name_then_an_index(trained, command, tmp_path):
    assert command("sample", trained, "--out", "a.npz", "--count", 3, "--nfe", 2, "--label", "4")[0] == 0
    assert list(np.load(tmp_path / "a.npz")["labels"]) == [4, 4, 4]


def test_endings_may_be_capitals_and_folders_may_have_points(trained, command, tmp_path):
    for out in ("A.PNG", "B.NPZ", "dir.v3", "runs.2026"):
        assert command("sample", trained, "--out", out, "--count", 2, "--nfe", 1)[0] == 0
    assert Image.open(tmp_path / "A.PNG").format == "PNG"
    assert np.load(tmp_path / "B.NPZ")["x"].shape == (2, 1, 8, 8)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["A.PNG", "B.NPZ", "dir.v3", "runs.2026"]
    assert len(list((tmp_path / "dir.v3").iterdir())) == 2
    assert command("trace", trained, "--out", "T.PNG", "--figure", "schedules")[0] == 0
    assert Image.open(tmp_path / "T.PNG").format == "PNG"


def test_pictures_of_an_earlier_call_are_replaced_as_a_whole_or_not_at_all(trained, command, tmp_path):
    assert command("sample", trained, "--count", 4, "--nfe", 1, "--out", "many")[0] == 0
    before = {path: path.read_bytes() for path in (tmp_path / "many").iterdir()}
    code, _, errors = command("sample", trained, "--count", 2, "--seed", 2, "--nfe", 1, "--out", "many")
    assert code == 2
    assert "many holds 4 pictures of an earlier call, of which 2 would be replaced and 2 would not" in errors
    assert {path: path.read_bytes() for path in (tmp_path / "many").iterdir()} == before
    assert command("sample", trained, "--count", 5, "--nfe", 1, "--out", "many")[0] == 0
    assert len(list((tmp_path / "many").iterdir())) == 5


def test_a_run_finds_its_pictures_from_any_folder_and_says_so_where_they_are_gone(command, tmp_path, monkeypatch):
    for name in ("cat", "dog"):
        fill(tmp_path, 12, f"photos/{name}/{{}}.png")
    words = ["--images", "64", *FAST]
    code, out, _ = command("train", "photos", "--out", "r", *words)
    assert code == 0
    assert "classes: cat (12), dog (12)" in out
    settings = Settings.from_yaml((tmp_path / "r/run.yaml").read_text())
    assert (settings.data, settings.data_path) == ("photos", str(tmp_path / "photos"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert reopen(tmp_path / "r").trained_on.spec.classes == ("cat", "dog")
    assert "already finished" in command("train", "--out", tmp_path / "r", "--resume")[1]
    (tmp_path / "photos").rename(tmp_path / "elsewhere/moved")
    with pytest.raises(ValueError, match=r"data 'photos' were at .* and are not there now.*--trained-on"):
        reopen(tmp_path / "r")
    with pytest.raises(FileNotFoundError, match="data 'photos' were at"):
        locate_data(settings)
    code, _, errors = command("train", "--out", tmp_path / "r", "--resume")
    assert code == 2
    assert f"name them: ornstein train DATA --out {tmp_path}/r --resume" in errors
    assert "already finished" in command("train", "moved", "--out", tmp_path / "r", "--resume")[1]
    assert reopen(tmp_path / "r").trained_on.spec.classes == ("cat", "dog")


def test_a_finished_run_is_told_what_a_longer_one_takes(trained, command):
    code, _, errors = command("train", "--out", trained, "--resume", "--images", "900")
    assert code == 2
    assert "has used up its 640 pictures" in errors
    assert f"ornstein train --from {trained} --images 900 --out {trained}-longer" in errors
    assert "--overwrite" not in errors


@pytest.mark.parametrize("rules", [["ddim", "heun", "ancestral"], pytest.param(None, marks=pytest.mark.slow)])
def test_the_installation_holds_its_own_certificates(command, rules, monkeypatch):
    """A rule of each kind; `make test-slow` asks for all, whose orders test_samplers measures in its own way."""
    if rules:
        monkeypatch.setattr("ornstein.check.SAMPLERS", {name: SAMPLERS[name] for name in rules})
    code, out, err = command("check")
    assert (code, err) == (0, "")
    assert len(out.splitlines()) > 30


def test_trace_and_list(trained, command, tmp_path):
    Image.new("RGBA", (30, 20), (200, 30, 30, 255)).save(tmp_path / "mine.png")
    assert command("trace", trained, "mine.png", "--out", "strip.png", "--label", "8")[0] == 0
    assert Image.open(tmp_path / "strip.png").size[0] > 1000
    for what in ("samplers", "schedules", "networks", "data"):
        code, out, _ = command("list", what)
        assert code == 0
        assert len(out.splitlines()) >= 3


def test_an_array_of_ones_own_trains_and_samples(command, tmp_path):
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", x=rng.normal(3, 2, (200, 5)), labels=rng.integers(0, 2, 200))
    assert command("train", "mine.npz", "--images", 64, "--out", "run", *MLP)[0] == 0
    assert command("sample", "run", "--out", "s.npz", "--count", 4)[0] == 0
    assert np.load(tmp_path / "s.npz")["x"].shape == (4, 5)
    code, _, err = command("sample", "run", "--out", "folder")
    assert code == 2
    assert "(5,)" in err
    assert not (tmp_path / "folder").exists()


@pytest.mark.parametrize(("shape", "layout"), [
    ((16, 2), "LC"), pytest.param((2, 4, 4, 6), "CDHW", marks=pytest.mark.slow)])
def test_traces_and_volumes_train_are_compared_and_come_back_in_their_layout(command, tmp_path, shape, layout):
    rng = np.random.default_rng(0)
    np.save(tmp_path / "mine.npy", rng.normal(3, 2, (60, *shape)))
    assert command("train", "mine.npy", "--layout", layout, "--images", 64, "--out", "run", *FAST)[0] == 0
    assert len(list((tmp_path / "run/previews").glob("*-statistics.png"))) >= 1
    assert command("sample", "run", "--out", "s.npz", "--count", 4, "--nfe", 2)[0] == 0
    assert np.load(tmp_path / "s.npz")["x"].shape == (4, *shape)
    assert command("sample", "run", "--out", "s.png", "--count", 4, "--nfe", 2)[0] == 0


def test_points_of_the_plane_are_drawn(command, tmp_path):
    assert command("train", "moons", "--images", 64, "--out", "run", *MLP)[0] == 0
    assert command("sample", "run", "--out", "s.png", "--count", 50)[0] == 0
    assert Image.open(tmp_path / "s.png").size == (512, 512)


BAD = [
    (["train", "digits"], "--out is missing (ornstein train --help"), (["tune"], "RUN is missing"),
    (["train", "nowhere/", "--out", "r"], "nowhere"),
    (["train", "digitz", "--out", "r"], "did you mean 'digits'?"),
    (["train", "empty", "--out", "r"], "empty"),
    (["train", "text", "--out", "r"], "text"),
    (["train", "objects.npz", "--out", "r"], "Python objects"),
    (["train", "nan.npy", "--out", "r"], "nan"),
    (["train", "rank.npy", "--out", "r"], "rank.npy"),
    (["train", "labels.npz", "--out", "r"], "the label of sample 1 is 0.5; labels must be all whole numbers"),
    (["train", "digits", "--out", "r", "--minutes", "0"], "minutes is 0.0; it must be greater than 0"),
    (["train", "digits", "--out", "r", "--minutes", "1", "--images", "5"], "give one budget, not both"),
    (["train", "digits", "--out", "r", "--network", "unett"], "network 'unett' is unknown; did you mean 'unet'?"),
    (["train", "digits", "--out", "r", "--network", "dit", "--set", "options.patch=3"], "multiples of 3"),
    (["train", "digits", "--out", "r", "--set", "bach=3"], "setting 'bach' is unknown; did you mean 'batch'?"),
    (["train", "digits", "--out", "r", "--epochs", "3"], "Unknown option: --epochs. Did you mean --images?"),
    (["train", "digits", "--out", "r", "--lr=1e-3"], "Unknown option: --lr. Did you mean --set learning_rate=...?"),
    (["train", "digits", "--out", "r", "--set", "batch"], "setting 'batch' has no '='; write key=value"),
    (["train", "digits", "--out", "r", "--set", "batch=many"], "batch is 'many'; it must be of type int"),
    (["train", "digits", "--out", "r", "--set", "schedule=cosin"], "did you mean 'cosine'?"),
    (["train", "digits", "--out", "r", "--set", "predicts=eps"], "predicts is 'eps', but Cosine ends with"),
    (["train", "digits", "--out", "r", "--size", "16"], "size 16 is not possible"),
    (["train", "digits", "--out", "r", "--precision", "fp8"], "precision 'fp8' is unknown"),
    (["train", "digits", "--out", "r", "--seed", "-1"], "seed is -1"),
    (["train", "digits", "--out", "r", "--set", "reader=stream"], "reader 'stream' does not apply"),
    (["train", "digits", "--out", "r", "--processes", "3"], "batch is 128; 3 processes need a multiple of 3"),
    (["train", "--out", "r"], "DATA is missing"),
    (["train", "digits"], "--out"),
    (["train", "digits", "--out", "r", "--minuts", "1"], "--minuts"),
    (["train", "digits", "--out", "afile"], "afile is a file; a run needs a folder"),
    (["train", "digits", "--out", "r", "--config", "missing.yaml"], "missing.yaml"),
    (["sample", "nothing", "--out", "s.png"], "does not exist; train a model first"),
    (["sample", "RUN", "--out", "s.png", "--sampler", "hoin"], "sampler 'hoin' is unknown; did you mean 'heun'?"),
    (["sample", "RUN", "--out", "s.png", "--label", "ten"], "class 'ten' is unknown"),
    (["sample", "RUN", "--out", "s.png", "--count", "0"], "count is 0; it must be at least 1"),
    (["sample", "RUN", "--out", "s.png", "--nfe", "1", "--sampler", "heun"], "needs at least 2 calls"),
    (["sample", "RUN", "--out", "s.png", "--nfe", "4", "--steps", "4"], "give one of nfe, steps and times"),
    (["sample", "RUN", "--out", "s.gif"], "must end in .png, .jpg, .webp, .npz or .csv, or be a folder"),
    (["sample", "nothing", "--out", "s.gif"], "must end in .png, .jpg, .webp, .npz or .csv, or"),  # before all else
    (["sample", "RUN", "--out", ""], "--out: it is empty; name a file or a folder"),
    (["train", "digits", "--out", ""], "--out: it is empty; name a file or a folder"),
    (["train", "digits", "--out="], "--out: it is empty"), (["evaluate", "", "--out", "r"], "it is empty"),
    (["train", "text", "--size", "48x", "--out", "r"], "size is '48x'; it must be a whole number 1..65536, or width"),
    (["train", "text", "--size", "0x32", "--out", "r"], "size is '0x32'; it must be a whole number 1..65536, or width"),
    (["train", "digits", "--alpha", "--out", "r"], "alpha True does not apply: data 'digits' are not picture files"),
    (["train", "a.png", "b.png", "c.png", "--out", "r"], "a.png and 2 more: names 3 files that do not exist: a.png,"),
    (["sample", "RUN", "b.png", "c.png", "--out", "s.png"], "b.png c.png are one too many"),
    (["sample", "RUN", "--out", "afile"], "which is a file already"),
    (["sample", "RUN", "--count", "-1", "--out", "s.png"], "count is -1; it must be at least 1"),
    (["trace", "RUN", "nothing.png", "--out", "s.png"], "nothing.png does not exist"),
    (["trace", "RUN", "afile", "--out", "s.png"], "afile cannot be used"),
    (["list", "sampler"], "did you mean 'samplers'?"),
    (["check", "afile"], "not of the form path.py:Class"),
    (["tarin", "digits"], "tarin"),
]


@pytest.mark.parametrize(("words", "says"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else "")
def test_a_mistake_gives_one_line_and_leaves_nothing(command, tmp_path, trained, words, says):
    (tmp_path / "empty").mkdir()
    (tmp_path / "text").mkdir()
    (tmp_path / "text/a.jpg").write_text("not a picture")
    (tmp_path / "afile").write_text("not a picture")
    np.savez(tmp_path / "objects.npz", x=np.array([{}], dtype=object))
    np.save(tmp_path / "nan.npy", np.full((20, 3), np.nan))
    np.save(tmp_path / "rank.npy", np.zeros(20))
    np.savez(tmp_path / "labels.npz", x=np.zeros((3, 2)), labels=np.array([0, 0.5, 1]))
    before = sorted(tmp_path.rglob("*"))
    code, _, err = command(*[str(trained) if word == "RUN" else word for word in words])
    assert code == 2
    assert err.startswith("ornstein: ")
    assert err.count("\n") == 1
    assert says in err
    assert sorted(tmp_path.rglob("*")) == before


ESCAPES = "\x1b]0;owned\x07\x9b2J\r\x1b[K\u202etxt"


def test_nothing_from_outside_reaches_the_terminal_raw(command, tmp_path):
    """Names of files, of tensors, of classes, what a library logs or warns of: escapes are shown, not obeyed."""
    name = f"a{ESCAPES}"
    (tmp_path / name).mkdir()
    for label in ("cat", f"dog{ESCAPES}"):
        (tmp_path / name / label).mkdir()
        for number in range(12):
            Image.new("RGB", (16, 16), (20 * number, 0, 0)).save(tmp_path / name / label / f"{number}{ESCAPES}.png")
        (tmp_path / name / label / f"broken{ESCAPES}.png").write_text("no picture")
    save_file({ESCAPES: torch.zeros(2)}, tmp_path / f"{ESCAPES}.safetensors")
    (tmp_path / f"own{ESCAPES}.py").write_text(
        f"import logging, warnings\nwarnings.warn({ESCAPES!r})\nlogging.getLogger('own').warning({ESCAPES!r})\n"
        f"raise ValueError({ESCAPES!r})\n")
    said = [command(*words) for words in (
        ["train", name, "--images", 32, "--out", f"run{ESCAPES}", *FAST],
        ["sample", f"run{ESCAPES}", "--count", 2, "--out", f"s{ESCAPES}.png"],
        ["sample", f"{ESCAPES}.safetensors", "--out", "s.png"],
        ["sample", f"run{ESCAPES}", "--label", ESCAPES, "--out", "s.png"],
        ["check", f"own{ESCAPES}.py:Own"])]
    assert [code for code, _, _ in said] == [0, 0, 2, 2, 2]
    text = "".join(out + err for _, out, err in said)
    assert text.count("\\x1b]0;owned\\x07\\x9b2J") >= 7
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_a_traceback_only_with_debug(command):
    with pytest.raises(FileNotFoundError):
        command("sample", "nothing", "--out", "s.png", "--debug")


def test_bad_pictures_among_good_ones_are_skipped_and_named(command, tmp_path):
    rng = np.random.default_rng(0)
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(30):
        Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).save(folder / f"{number}.png")
    (folder / "broken.png").write_bytes((folder / "0.png").read_bytes()[:90])
    code, _, err = command("train", "photos", "--images", 32, "--out", "photos/run", *FAST)
    assert (code, "out is photos/run, inside the data folder" in err) == (2, True)
    assert not (folder / "run").exists()
    code, out, _ = command("train", "photos", "--images", 32, "--out", "run", *FAST)
    assert code == 0
    assert "broken.png" in out
    assert command("sample", "run", "--count", 2, "--out", "s.png")[0] == 0


def test_events_as_json(command):
    code, out, _ = command("train", "digits", "--images", 128, "--out", "run", "--json", *FAST)
    assert code == 0
    events = [json.loads(line) for line in out.splitlines()]
    kinds = [event["event"] for event in events if event["event"] != "progress"]
    assert kinds == ["note", "note", "started", "saved", "finished"]


def test_help_needs_no_torch_and_import_is_lazy():
    code = ("import sys, io, contextlib\nfrom ornstein import cli\n"
            "with contextlib.redirect_stdout(io.StringIO()) as out:\n"
            "    for words in ([], ['train'], ['list']):\n        cli.app([*words, '--help'], exit_on_error=False)\n"
            "heavy = {'torch', 'numpy', 'sklearn', 'PIL', 'matplotlib', 'yaml'} & set(sys.modules)\n"
            "assert 'train' in out.getvalue() and not heavy, heavy")
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_help_of_train_names_what_the_tables_hold(command):
    words = set(re.findall(r"\w+", command("train", "--help")[1]))
    assert {*NETWORKS, *SOURCES, *TRACKERS, "fp32", "bf16"} <= words


def test_a_rule_and_a_schedule_of_ones_own(command, trained, tmp_path):
    (tmp_path / "mine.py").write_text(
        "import ornstein as orn\n"
        "class Plain(orn.Rule):\n    order = 1\n"
        "    def advance(self, step):\n        return step.turn(1.0)\n"
        "class Quartic(orn.Schedule):\n    def level(self, t):\n        return orn.Level(1 - t**4, t)\n"
        "class Wrong(orn.Schedule):\n    def level(self, t):\n        return orn.Level(0.9 - 0.9 * t, t)\n")
    assert command("sample", trained, "--out", "a.npz", "--count", 2, "--nfe", 3, "--sampler", "mine.py:Plain")[0] == 0
    assert command("sample", trained, "--out", "b.npz", "--count", 2, "--nfe", 3, "--sampler", "ddim")[0] == 0
    assert np.array_equal(np.load("a.npz")["x"], np.load("b.npz")["x"])
    assert command("check", "mine.py:Plain")[0] == 0
    assert command("check", "mine.py:Quartic")[0] == 0
    code, out, err = command("check", "mine.py:Wrong")
    assert code == 1
    assert "FAILS Wrong: at t = 0 a latent is the data (error 0.1" in out
    assert err.startswith("ornstein: ")
