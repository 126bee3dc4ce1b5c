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
from ornstein.training import budget
from ornstein.training.events import Progress, Saved, Started, TrainingFailed, Warned

SMALL = orn.Settings(options={"widths": [8], "depths": [1]}, batch=64)
ON_THE_WAY = budget.PREVIEWS  # which tests do without where they do not ask for them

OWN = """
import json

class Lines:
    def __init__(self):
        self.file = open("told.jsonl", "a")

    def __call__(self, event):
        facts = {name: value for name, value in vars(event).items() if name != "model"}
        if hasattr(event, "figures"):
            facts["figures"] = event.figures
        print(json.dumps([type(event).__name__, facts], default=self.plain), file=self.file, flush=True)

    def plain(self, value):
        return value.as_dict() if hasattr(value, "as_dict") else str(value)

class Silent:
    pass

class Deaf(Lines):
    def __call__(self): ...

class Locked(Lines):
    def __init__(self):
        raise KeyError("no key")
"""


class Notes:
    """A tracker that keeps what it is told, and raises at an event of choice."""

    def __init__(self, raises: str = "") -> None:
        self.told, self.raises = [], raises

    def __call__(self, event):
        self.told.append(type(event).__name__)
        if self.told[-1] == self.raises:
            raise ConnectionError("no\nnetwork")


def meddle(event):
    """A tracker that changes what it is told."""
    if isinstance(event, Started):
        event.settings.options.clear()
        object.__setattr__(event.settings, "batch", 7)


@pytest.fixture
def own(command, tmp_path):
    (tmp_path / "own.py").write_text(OWN)
    return command


@pytest.fixture
def every_step(monkeypatch):
    monkeypatch.setattr("ornstein.training.budget.LOG_SECONDS", 0.0)


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
def test_tensorboard_shows_what_metrics_has_also_after_a_lost_stretch_and_a_new_start(tmp_path, monkeypatch):
    monkeypatch.setattr(budget, "PREVIEWS", ON_THE_WAY)
    out = tmp_path / "run"
    trainer = orn.Trainer("digits", images=640, settings=SMALL.replace(save_seconds=1e-9), out=out,
                          trackers=[orn.TensorBoard()])
    for event in trainer.events():
        if isinstance(event, Saved) and not (tmp_path / "then").exists():
            assert event.images < 320
            shutil.copytree(out, tmp_path / "then")
    equals_metrics(out, out / "tensorboard")
    assert len(list((out / "previews").iterdir())) > 1
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
    (first, start), *between, (last, end) = told
    assert (first, last) == ("Started", "Finished")
    assert start["settings"] == orn.Settings.from_yaml((tmp_path / "run/run.yaml").read_text()).as_dict()
    assert (start["run"], start["resumed_at"], end["images"], end["already"]) == ("run", None, 256, False)
    lines = [{name: value for name, value in line.items() if value is not None} for line in logged(tmp_path / "run")]
    progress = [facts for kind, facts in between if kind == "Progress"]
    assert [facts["images"] for facts in progress] == [line["images"] for line in lines]
    for facts, line in zip(progress, lines, strict=True):
        known = {"seconds", "images_per_second", "waited"}
        assert {name: value for name, value in facts["figures"].items() if name not in known} == {
            name: line[name] for name in line if name not in {*known, "images"}}
    drawn = [facts for kind, facts in between if kind == "Drawn"]
    assert drawn[-1] == {"images": 256, "pictures": {"samples": "run/previews/000000256.png"}}
    equals_metrics(tmp_path / "run", tmp_path / "run/tensorboard")
    # Of a run that has finished there is nothing to tell.
    assert own("train", "--resume", "--out", "run", "--tracker", "own.py:Lines")[0] == 0
    assert len((tmp_path / "told.jsonl").read_text().splitlines()) == len(told)


def test_trackers_that_raise_or_meddle_leave_the_training_as_it_would_be(tmp_path):
    orn.Trainer("digits", images=256, settings=SMALL, out=tmp_path / "alone").fit()
    notes = [Notes(kind) for kind in ("Started", "Progress", "", "Finished")]
    trainer = orn.Trainer("digits", images=256, settings=SMALL, out=tmp_path / "followed", trackers=[meddle, *notes])
    said = []
    trainer.fit(lambda event: said.append(event.text) if isinstance(event, Warned) else None)
    assert said == [f"tracker Notes failed at {kind} (ConnectionError: no network); the training goes on without it"
                    for kind in ("Started", "Progress", "Finished")]
    assert [tracker.told[-1] for tracker in notes] == ["Started", "Progress", "Finished", "Finished"]
    assert [tracker.told.count(tracker.raises) for tracker in notes] == [1, 1, 0, 1]
    alone, followed = ((tmp_path / name / "model.safetensors").read_bytes() for name in ("alone", "followed"))
    assert alone == followed


def test_whoever_does_not_listen_is_warned_too(tmp_path):
    with pytest.warns(RuntimeWarning, match=r"tracker TensorBoard failed at Started \(ValueError: folder is None"):
        orn.Trainer("digits", images=64, settings=SMALL, trackers=[orn.TensorBoard()]).fit()
    orn.Trainer("digits", images=64, settings=SMALL, trackers=[orn.TensorBoard(tmp_path)]).fit()
    assert shown(tmp_path).Scalars("loss")[-1].step == 64


def test_an_end_before_the_end_has_its_name_and_comes_once():
    notes, events = Notes(), []
    trainer = orn.Trainer("digits", images=10**6, settings=SMALL, trackers=[notes])
    for event in trainer.events():
        events.append(event)
        trainer.stop()
    assert notes.told[-1] == "Interrupted"

    left = Notes()
    for event in orn.Trainer("digits", images=10**6, settings=SMALL, trackers=[left]).events():
        if isinstance(event, Progress):
            break
    del event
    assert left.told[-1] == "Interrupted"

    lost = Notes()
    poison = SMALL.replace(learning_rate=1e30, warmup=0.0)
    with pytest.raises(TrainingFailed):
        orn.Trainer("digits", images=1000, settings=poison, trackers=[lost]).fit()
    assert lost.told[-1] == "Failed"
    for tracker in (notes, left, lost):
        assert sum(tracker.told.count(kind) for kind in ("Finished", "Interrupted", "Failed")) == 1


@pytest.mark.parametrize(("trackers", "message"), [
    ([object()], r"tracker object cannot be called with an event \(.*\); a tracker is a function\(event\)"),
    ([lambda: None], "tracker <lambda> cannot be called with an event \\(too many positional arguments\\)"),
    ([Notes], r"tracker is the class Notes; give an instance, Notes\(\)"),
    ("tensorboard", r"trackers is 'tensorboard'; it must be a list of trackers"),
    (Notes(), r"trackers is .*Notes.*; it must be a list"),
    (["tensorboard"], r"tracker 'tensorboard' cannot be called"),
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
    ("own.py:Silent", "tracker Silent cannot be called with an event ("),
    ("own.py:Deaf", "tracker Deaf cannot be called with an event (too many positional arguments)"),
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
