"""Settings are checked at once: what is accepted trains, all else is one line and leaves nothing behind."""

from __future__ import annotations

import dataclasses
import math
from itertools import pairwise

import pytest
import yaml

import ornstein as orn
from ornstein.diffusion.schedule import SCHEDULES
from ornstein.networks import NETWORKS
from ornstein.training.average import WIDEST
from ornstein.training.events import Finished, TrainingFailed

SMALL = orn.Settings(images=64, batch=32, options={"widths": [8], "depths": [1]}, snapshots=0, processes=1)
NAMES = [item.name for item in dataclasses.fields(orn.Settings)]
HOSTILE = ["null", "true", "-1", "0", "0.5", "3", "1e400", ".nan", ".inf", "-.inf", "1000000000000", "1e307", "evil",
           "''", "[]", "{}", "[1, 2]", "{a: 1}", '"\\x1b[2J"', "9" * 400, "2001-01-01", "!!binary aGk=", "!!set {1}"]
OPTIONS = {"unet": ("shape", "classes", "conditions", "widths", "depths", "stem", "attention", "embedding", "through",
                    "hints"),
           "dit": ("patch", "width", "depth", "heads"), "mlp": ("width", "depth"),
           "exploding": ("sigma_min", "sigma_max"), "chain": ("T", "first", "last", "beta")}
WRONG = [None, [], {}, "", "a", -1, 0, 0.5, math.nan, 10**6, 10**12, 10**400, [0], [-1], [1], [10**9], [[8]], ["a"],
         [8, 8, 8], [8] * 500, True]


@pytest.fixture(scope="module")
def digits():
    return orn.load_data("digits")


@pytest.mark.parametrize(("name", "value", "near"), [
    ("schedule", "cosin", "cosine"), ("density", "angel", "angle"), ("predicts", "esp", "eps"),
    ("network", "unit", "unet"), ("times", "stratifed", "stratified"), ("weighting", "units", "unit"),
    ("linear", "wave", "waves"), ("precision", "bf6", "bf16"), ("parallel", "fdsp", "fsdp"),
    ("reader", "streams", "stream")])
def test_an_unknown_name_is_refused_when_settings_are_made(name, value, near):
    """With the nearest one there is, from all ways to make them."""
    for make, given in ((orn.Settings, {name: value}), (orn.Settings().replace, {name: value}),
                        (orn.Settings().with_text, {"pairs": [f"{name}={value}"]}),
                        (orn.Settings.from_yaml, {"text": f"{name}: {value}"})):
        with pytest.raises(ValueError, match=f"^{name} '{value}' is unknown; did you mean '{near}'"):
            make(**given)


def test_every_name_of_a_table_is_one_that_settings_take():
    """And stands for the class of that name."""
    for setting, table in (("schedule", SCHEDULES), ("network", NETWORKS)):
        for name, kind in table.items():
            assert getattr(orn.Settings(**{setting: name}), setting) == name == kind.__name__.lower()
    assert orn.Settings(average=WIDEST).average == WIDEST


def outcome(digits, out, make, trains: bool) -> str:
    """The line that refuses a training, or nothing where there is one, which trains to a model that draws."""
    try:
        trainer, line = orn.Trainer(digits, settings=make(), out=out), ""
    except (ValueError, FileNotFoundError) as error:  # a run to start from that is not there
        trainer, line = None, str(error)
    assert not out.exists()
    assert line.isprintable()
    if trains and trainer and trainer.processes == 1 and trainer.settings.images == SMALL.images:
        try:
            last = list(trainer.events())[-1]
        except TrainingFailed as error:
            return str(error)
        assert isinstance(last, Finished)
        assert orn.sample(last.model, 1, nfe=1).isfinite().all()
    return line


BOTH = pytest.mark.parametrize("trains", [False, pytest.param(True, marks=pytest.mark.slow)])


@BOTH
@pytest.mark.parametrize("name", NAMES)
def test_a_hostile_setting_is_refused_at_once_or_trains(tmp_path, digits, name, trains):
    refused = 0
    for number, text in enumerate(HOSTILE):
        line = outcome(digits, tmp_path / f"{number}", lambda: SMALL.with_text([f"{name}={text}"]), trains)  # noqa: B023
        refused += bool(line)
        assert len(line) < 400, text
        assert "diverged" not in line or name == "learning_rate", text
    assert refused >= len(HOSTILE) / 2 or name == "data"


@BOTH
@pytest.mark.parametrize(("kind", "option"), [(kind, option) for kind, names in OPTIONS.items() for option in names])
def test_a_hostile_option_of_a_network_or_schedule_is_refused_at_once_or_trains(tmp_path, digits, kind, option, trains):
    for number, value in enumerate(WRONG):
        changes = ({"network": kind, "options": {option: value}} if kind in NETWORKS else
                   {"schedule": kind, "schedule_options": {option: value}})
        line = outcome(digits, tmp_path / f"{number}", lambda: SMALL.replace(**changes), trains)  # noqa: B023
        assert len(line) < 400, value
        assert "diverged" not in line, value
        assert line or option not in ("shape", "classes", "conditions"), value


@pytest.mark.parametrize(("changes", "line"), [
    ({"options": {"widths": [40_000], "depths": [4]}}, "weights needs .* GiB of memory to train"),
    ({"batch": 800_000_000}, "batch of 800,000,000 samples needs .* GiB of memory"),
    ({"threads": 3000}, "threads is 3000; this machine has .* cores"),
    ({"processes": 3000, "batch": 3000}, "processes is 3000; this machine has"),
    ({"options": {"stem": 1000}}, "stem is 1000, with"), ({"options": {"widths": [0]}}, r"widths\[0\] is 0"),
    ({"weighting": "evil"}, "weighting 'evil' is unknown"), ({"times": "evil"}, "times 'evil' is unknown"),
    ({"schedule": "exploding", "schedule_options": {"sigma": 9}}, "of schedule 'exploding' 'sigma' is unknown"),
    ({"schedule_options": {"T": 9}}, "option of schedule 'cosine' 'T' is unknown"),
    ({"schedule": "chain", "schedule_options": {"T": 0}}, "T is 0; it must be"),
    ({"snapshots": 10**9}, "snapshots is 1000000000"), ({"minutes": 1e307, "images": None}, "minutes is 1e\\+307")])
def test_what_no_machine_does_is_refused_before_anything_is_there(tmp_path, digits, changes, line):
    with pytest.raises(ValueError, match=line):
        orn.Trainer(digits, settings=SMALL.replace(**changes), out=tmp_path / "r").prepare()
    assert not (tmp_path / "r").exists()


BOMB = "a: &a [x, x]\n" + "".join(f"{b}: &{b} [*{a}, *{a}]\n" for a, b in pairwise("abcdefghijklmnopqrstuvwxyz"))


@pytest.mark.parametrize("text", [
    BOMB, "data: &x digits\nlayout: *x", "data: &x [*x]", "[" * 5000, "a" * 2**21, "!!int ''", "!!float ''",
    "!!timestamp x", "!!bool x", "? [a]\n: b", "2001-99-99", "9" * 5000, "\x00", "<<: 3", "a: b: c", "- 3", "", "3",
    "!!python/object/apply:os.system [ls]", "seed: \ud800"])
def test_text_that_is_no_plain_table_of_settings_is_refused(text):
    with pytest.raises(ValueError, match=r"^settings? "):
        orn.Settings.from_yaml(text)


def test_what_is_written_is_read_again():
    settings = SMALL.replace(data="d\x1b[2J", options={"widths": [8, 8], "depths": [8, 8]})
    text = settings.to_yaml()
    assert "*" not in text
    assert orn.Settings.from_yaml(text) == settings
    assert yaml.safe_load(text) == settings.as_dict()


@pytest.mark.parametrize(("name", "options", "schedule"), [
    ("chain", {}, orn.Chain.linear()), ("chain", {"T": 9, "last": 0.5}, orn.Chain.linear(9, last=0.5)),
    ("chain", {"beta": [0.1, 0.9]}, orn.Chain([0.1, 0.9])),
    ("exploding", {"sigma_max": 50}, orn.Exploding(sigma_max=50))])
def test_a_schedule_with_its_options_trains_and_is_kept(tmp_path, digits, name, options, schedule):
    """In run.yaml, from which the run is gone on with, and in the model."""
    settings = SMALL.replace(schedule=name, schedule_options=options)
    orn.Trainer(digits, settings=settings, out=tmp_path).fit()
    assert orn.load(tmp_path).schedule.settings() == schedule.settings()
    written = orn.Settings.from_yaml((tmp_path / "run.yaml").read_text("utf-8"))
    assert (written.schedule, written.schedule_options) == (name, options)
    assert orn.Trainer(digits, settings=settings, out=tmp_path, resume=True).can_resume
    with pytest.raises(ValueError, match=r"schedule_options is .*, but the run in"):
        orn.Trainer(digits, settings=settings.replace(schedule_options={**options, "T": 3}), out=tmp_path, resume=True)
