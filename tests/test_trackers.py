"""Trackers are told what metrics.jsonl has, once, and cannot harm the training that they follow."""

from __future__ import annotations

import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import ornstein as orn
from conftest import FAST
from ornstein.training.events import Progress, Saved, TrainingFailed, Warned

SMALL = orn.Settings(options={"widths": [8], "depths": [1]}, batch=64)

OWN = """
import json

class Lines:
    def __init__(self):
        self.file = open("told.jsonl", "a")

    def write(self, *facts):
        print(json.dumps(facts, default=str), file=self.file, flush=True)

    def begin(self, settings, run, resumed_at):
        self.write("begin", settings, run, resumed_at)

    def record(self, images, figures, pictures):
        self.write("record", images, figures, pictures)

    def end(self, outcome):
        self.write("end", outcome)

class Halves:
    def begin(self, settings, run, resumed_at): ...

class Deaf(Lines):
    def record(self, figures): ...

class Locked(Lines):
    def __init__(self):
        raise KeyError("no key")
"""


class Notes:
    """A tracker that keeps what it is told, and raises in a call of choice."""

    def __init__(self, raises: str = "") -> None:
        self.told, self.raises = [], raises

    def note(self, call, *facts):
        self.told.append((call, *facts))
        if call == self.raises:
            raise ConnectionError("no\nnetwork")

    def begin(self, settings, run, resumed_at):
        self.note("begin", settings, run, resumed_at)

    def record(self, images, figures, pictures):
        self.note("record", images, figures, pictures)

    def end(self, outcome):
        self.note("end", outcome)


@pytest.fixture
def own(command, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return command


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr("ornstein.training.trainer.LOG_SECONDS", 0.0)


def logged(run: Path) -> list[dict]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "resumed_at" not in line]


def shown(folder: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "images": 0, "tensors": 0}).Reload()


def equals_metrics(run: Path, folder: Path) -> None:
    there, lines = shown(folder), logged(run)
    for name in ("loss", "held_out", "gap", "learning_rate", "skipped"):
        told = [(item.step, item.value) for item in there.Scalars(name)]
        assert told == [(line["images"], np.float32(line[name])) for line in lines if line[name] is not None], name
    pictures = sorted((run / "previews").glob("*[0-9].png"))
    assert [item.step for item in there.Images("samples")] == [int(path.stem) for path in pictures]
    for item, path in zip(there.Images("samples"), pictures, strict=True):
        with Image.open(io.BytesIO(item.encoded_image_string)) as one, Image.open(path) as other:
            assert np.array_equal(np.asarray(one), np.asarray(other.convert("RGB")))


@pytest.mark.usefixtures("every_step")
def test_tensorboard_shows_what_metrics_has_also_after_a_lost_stretch_and_a_new_start(tmp_path):
    out = tmp_path / "run"
    trainer = orn.Trainer("digits", images=640, settings=SMALL.replace(save_seconds=1e-9), out=out,
                          trackers=[orn.TensorBoard()])
    for event in trainer.events():
        if isinstance(event, Saved) and not (tmp_path / "then").exists():
            assert event.images < 320
            shutil.copytree(out, tmp_path / "then")
    equals_metrics(out, out / "tensorboard")
    whole = {(line["images"], line["loss"]) for line in logged(out)}
    for name in ("checkpoints", "previews", "metrics.jsonl"):  # the state of then; TensorBoard knows what came after
        shutil.move(out / name, tmp_path / f"lost-{name}")
        shutil.move(tmp_path / "then" / name, out / name)
    orn.Trainer("digits", settings=SMALL, out=out, resume=True, trackers=[orn.TensorBoard()]).fit()
    equals_metrics(out, out / "tensorboard")
    assert {(line["images"], line["loss"]) for line in logged(out)} == whole
    assert "settings/text_summary" in shown(out / "tensorboard").Tags()["tensors"]

    orn.Trainer("digits", images=128, settings=SMALL, out=out, overwrite=True).fit()
    assert not list((out / "tensorboard").iterdir())  # of ours; those of others stay


def test_a_class_of_the_users_own_is_told_in_order(own, tmp_path):
    words = ["train", "digits", "--images", 256, "--out", "run", *FAST]
    assert own(*words, "--tracker", "own.py:Lines", "--tracker", "tensorboard")[0] == 0
    told = [json.loads(line) for line in (tmp_path / "told.jsonl").read_text().splitlines()]
    assert [call for call, *_ in told] == ["begin", *["record"] * (len(told) - 2), "end"]
    (_, settings, run, resumed_at), *records, (_, outcome) = told
    assert settings == orn.Settings.from_yaml((tmp_path / "run/run.yaml").read_text()).as_dict()
    assert (run, resumed_at, outcome) == ("run", None, "finished")
    lines = [{name: value for name, value in line.items() if value is not None} for line in logged(tmp_path / "run")]
    figures = [(images, figures) for _, images, figures, _ in records if figures]
    assert [images for images, _ in figures] == [line["images"] for line in lines]
    for (_, told_of), line in zip(figures, lines, strict=True):
        known = {"seconds", "images_per_second", "waited"}
        assert {name: told_of[name] for name in told_of if name not in known} == {
            name: line[name] for name in line if name not in {*known, "images"}}
    drawn = [(images, pictures) for _, images, _, pictures in records if pictures]
    assert drawn[-1] == (256, {"samples": "run/previews/000000256.png"})
    equals_metrics(tmp_path / "run", tmp_path / "run/tensorboard")
    # Of a run that has finished there is nothing to tell.
    assert own("train", "--resume", "--out", "run", "--tracker", "own.py:Lines")[0] == 0
    assert len((tmp_path / "told.jsonl").read_text().splitlines()) == len(told)


def test_trackers_that_raise_leave_the_training_as_it_would_be(tmp_path):
    orn.Trainer("digits", images=256, settings=SMALL, out=tmp_path / "alone").fit()
    trackers = [Notes(call) for call in ("begin", "record", "", "end")]
    trainer = orn.Trainer("digits", images=256, settings=SMALL, out=tmp_path / "followed", trackers=trackers)
    said = []
    trainer.fit(lambda event: said.append(event.text) if isinstance(event, Warned) else None)
    assert said == [f"tracker Notes failed in {call} (ConnectionError: no network); the training goes on without it"
                    for call in ("begin", "record", "end")]
    assert [[call for call, *_ in tracker.told][-1] for tracker in trackers] == ["begin", "record", "end", "end"]
    assert [len(tracker.told) for tracker in trackers[:2]] == [1, 2]
    alone, followed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "followed"))
    assert alone == followed


def test_whoever_does_not_listen_is_warned_too(tmp_path):
    with pytest.warns(RuntimeWarning, match=r"tracker TensorBoard failed in begin \(ValueError: folder is None"):
        orn.Trainer("digits", images=64, settings=SMALL, trackers=[orn.TensorBoard()]).fit()
    orn.Trainer("digits", images=64, settings=SMALL, trackers=[orn.TensorBoard(tmp_path)]).fit()
    assert shown(tmp_path).Scalars("loss")[-1].step == 64


def test_an_end_before_the_end_has_its_name_and_comes_once():
    notes, events = Notes(), []
    trainer = orn.Trainer("digits", images=10**6, settings=SMALL, trackers=[notes])
    for event in trainer.events():
        events.append(event)
        trainer.stop()
    assert notes.told[-1] == ("end", "interrupted")

    left = Notes()
    for event in orn.Trainer("digits", images=10**6, settings=SMALL, trackers=[left]).events():
        if isinstance(event, Progress):
            break
    del event
    assert left.told[-1] == ("end", "interrupted")

    lost = Notes()
    poison = SMALL.replace(learning_rate=1e30, warmup=0.0)
    with pytest.raises(TrainingFailed):
        orn.Trainer("digits", images=1000, settings=poison, trackers=[lost]).fit()
    assert lost.told[-1] == ("end", "failed")
    for tracker in (notes, left, lost):
        assert [call for call, *_ in tracker.told].count("end") == 1


@pytest.mark.parametrize(("trackers", "message"), [
    ([object()], r"tracker object has no method begin, record, end; a tracker has begin\(settings, run, resumed_at\)"),
    ([Notes], r"tracker is the class Notes; give an object of it, Notes\(\)"),
    ("tensorboard", r"trackers is 'tensorboard'; it must be a list of trackers"),
    (Notes(), r"trackers is .*Notes.*; it must be a list"),
    (["tensorboard"], r"tracker 'tensorboard' has no method begin"),
])
def test_what_is_no_tracker_is_refused(trackers, message):
    with pytest.raises(TypeError, match=message):
        orn.Trainer("digits", trackers=trackers)
    assert isinstance(Notes(), orn.Tracker)
    assert isinstance(orn.TensorBoard(), orn.Tracker)


@pytest.mark.parametrize(("name", "message"), [
    ("tensorbord", "tracker 'tensorbord' is unknown; did you mean 'tensorboard'? (allowed: tensorboard)"),
    ("none.py:Lines", "none.py does not exist; write path.py:Class"),
    ("own.py:Nothing", "own.py has no class 'Nothing' that is a tracker"),
    ("own.py", "'own.py' is not of the form path.py:Class"),
    ("own.py:Halves", "tracker own.py:Halves has no method record, end; a tracker has begin("),
    ("own.py:Deaf", "tracker method Deaf.record(figures) cannot be called (too many positional arguments)"),
    ("own.py:Locked", "tracker own.py:Locked could not be made: KeyError: 'no key'"),
])
def test_a_tracker_that_cannot_be_is_refused_in_one_line_before_the_training(own, tmp_path, name, message):
    code, _, err = own("train", "digits", "--images", 64, "--out", "run", *FAST, "--tracker", name)
    assert code == 2
    assert message in err
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_without_tensorboard_the_remedy_is_named_before_the_training(command, tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "torch.utils.tensorboard", raising=False)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    code, _, err = command("train", "digits", "--images", 64, "--out", "run", *FAST, "--tracker", "tensorboard")
    assert (code, err.count("\n")) == (2, 1)
    assert "pip install 'ornstein[tensorboard]'" in err
    assert not (tmp_path / "run").exists()
