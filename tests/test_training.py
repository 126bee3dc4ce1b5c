"""A training repeats, stops and goes on bit for bit, ends by its budget, and refuses what contradicts it."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors import safe_open

import ornstein as orn
from conftest import made_once
from data_corpus import fill
from ornstein.data import load_data
from ornstein.machine import can_compile
from ornstein.training.average import exponent, update
from ornstein.training.engine import Engine
from ornstein.training.events import Finished, Progress
from ornstein.training.learner import Learner, learning_rate
from ornstein.training.plan import reasons, resolve
from ornstein.training.run import Run
from ornstein.training.states import State

RECIPES = Path(__file__).parents[1] / "recipes"
SMALL = orn.Settings(options={"widths": [16], "depths": [1]}, batch=64)


@pytest.fixture(scope="module")
def digits() -> orn.Dataset:
    return load_data("digits")


def train(digits, out: Path | None, stop_at: int | None = None, **options) -> orn.NetworkDenoiser | None:
    """Train on the digits; `stop_at` asks for a stop at the first event from so many pictures on."""
    trainer = orn.Trainer(digits, settings=options.pop("settings", SMALL), out=out, **options)
    for event in trainer.events():
        if stop_at is not None and isinstance(event, Progress) and event.images >= stop_at:
            trainer.stop()
        if isinstance(event, Finished):
            return event.model
    return None


@pytest.fixture
def finished(tmp_path_factory, digits, tmp_path) -> Path:
    """A run of 200 pictures and seed 3 of the test's own."""
    place = made_once(tmp_path_factory, "finished", lambda out: train(digits, out, images=200, seed=3))
    return Path(shutil.copytree(place, tmp_path / "finished"))


def newest(out: Path) -> State:
    state, faults = Run(out).states(2).newest()
    assert state is not None
    assert not faults
    return state


def state_of(out: Path) -> dict[str, torch.Tensor]:
    state = newest(out)
    with safe_open(state.path / "state.safetensors", framework="pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118


def test_two_runs_by_images_are_equal_bit_for_bit(tmp_path, digits):
    for name in ("a", "b"):
        train(digits, tmp_path / name, images=256, seed=3)
    one, two = state_of(tmp_path / "a"), state_of(tmp_path / "b")
    assert one.keys() == two.keys()
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert (tmp_path / "a/model.safetensors").read_bytes() == (tmp_path / "b/model.safetensors").read_bytes()


def test_another_seed_is_another_model(digits):
    models = [train(digits, None, images=64, seed=seed) for seed in (0, 1)]
    weights = [next(model.network.parameters()) for model in models]
    assert not torch.equal(*weights)


def test_a_stopped_and_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, digits):
    train(digits, tmp_path / "whole", images=640)
    assert train(digits, tmp_path / "parts", stop_at=1, images=640) is None
    middle = newest(tmp_path / "parts").metadata
    assert 0 < middle["images"] < 640
    train(digits, tmp_path / "parts", resume=True)
    one, two = state_of(tmp_path / "whole"), state_of(tmp_path / "parts")
    assert all(torch.equal(one[name], two[name]) for name in one | two)
    lines = [json.loads(line) for line in (tmp_path / "parts/metrics.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines if "resumed_at" in line] == [middle["images"]]


def test_a_lost_stretch_leaves_no_metrics_and_a_torn_line_is_dropped(tmp_path, digits):
    train(digits, tmp_path, stop_at=1, images=640)
    reached = newest(tmp_path).metadata["images"]
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write(json.dumps({"images": 10**6, "loss": 9.0}) + '\n{"images": 10')
    train(digits, tmp_path, resume=True)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert all(line["images"] <= 640 for line in lines)
    assert any(line.get("resumed_at") == reached for line in lines)


def test_resume_starts_a_run_that_is_not_there_and_ends_one_that_has_finished(tmp_path, digits):
    train(digits, tmp_path / "new", images=64, resume=True)
    before = (tmp_path / "new/model.safetensors").read_bytes()
    trainer = orn.Trainer(digits, settings=SMALL, out=tmp_path / "new", resume=True)
    last = list(trainer.events())[-1]
    assert isinstance(last, Finished)
    assert last.already
    assert (tmp_path / "new/model.safetensors").read_bytes() == before


def test_a_folder_that_holds_a_run_is_refused_and_left_alone(finished, digits):
    before = {file.name: file.stat().st_mtime_ns for file in finished.iterdir()}
    with pytest.raises(FileExistsError, match="already holds a run; resume it"):
        train(digits, finished, images=200)
    with pytest.raises(ValueError, match="resume and overwrite exclude each other"):
        train(digits, finished, images=200, resume=True, overwrite=True)
    assert {file.name: file.stat().st_mtime_ns for file in finished.iterdir()} == before
    train(digits, finished, images=64, overwrite=True)


@pytest.mark.parametrize(("change", "message"), [
    ({"images": 400}, r"images is 400, but the run in .* has used up its 200 pictures"),
    ({"minutes": 1.0}, r"minutes is 1, but the run in .* has used up its 200 pictures"),
    ({"seed": 5}, "seed is 5, but the run in"),
    ({"seed": 0}, "seed is 0, but the run in .* has 3"),  # the default, but given
    ({"network": "dit"}, "network is 'dit', but the run in .* has 'unet'"),
])
def test_resuming_with_settings_that_contradict_the_run_is_refused(finished, digits, change, message):
    with pytest.raises(ValueError, match=message):
        train(digits, finished, resume=True, settings=orn.Settings(), **change)


def test_resuming_with_other_data_is_refused(finished, digits):
    changed = orn.Dataset(digits.values.copy(), digits.labels, digits.held, digits.spec)
    changed.values[0, 0, 0, 0] += 1
    with pytest.raises(ValueError, match=r"are not what the run in .* was trained on"):
        train(changed, finished, resume=True)


def test_a_state_of_another_network_is_refused(tmp_path, digits):
    train(digits, tmp_path, stop_at=1, images=640)
    text = (tmp_path / "run.yaml").read_text()
    (tmp_path / "run.yaml").write_text(text.replace("- 16", "- 24"))
    with pytest.raises(ValueError, match=r"of another network: average.* is \(16,\) there and \(24,\)"):
        train(digits, tmp_path, resume=True, settings=orn.Settings())


def test_training_beats_the_linear_guess_on_held_out_digits(digits):
    learner = Learner(resolve(SMALL.replace(images=1), digits, "cpu"), digits.split()[0], Engine())
    held = digits.split()[1]
    before = learner.average_loss(held)  # the network starts at zero: this is the linear guess alone
    for _ in range(120):
        learner.step(4e-3)
    assert learner.average_loss(held) < 0.9 * before


def test_held_out_rows_never_train_and_every_epoch_sees_each_sample_once(digits):
    training, held = digits.split()
    assert sorted(np.flatnonzero(digits.held)) == sorted(np.random.default_rng(0).permutation(1797)[1500:])
    assert len(held) == 297
    learner = Learner(resolve(SMALL.replace(images=1, batch=100), digits, "cpu"), training, Engine())
    for epoch in range(2):
        rows = np.concatenate([learner.loader.row_indices(step) for step in range(15 * epoch, 15 * (epoch + 1))])
        assert sorted(rows) == list(range(1500))
    assert not np.array_equal(learner.loader.row_indices(0), learner.loader.row_indices(15))


def test_mirrored_pictures_are_the_same_pictures_turned_and_half_of_them(digits):
    plain, turned = (Learner(resolve(SMALL.replace(images=6400, mirror=mirror), digits, "cpu"), digits, Engine()).loader
                     for mirror in (False, True))
    count = 0
    for step in range(16):
        before, after = plain.make(step), turned.make(step)
        assert torch.equal(before.eps, after.eps)
        assert torch.equal(before.condition, after.condition)
        same = (after.x == before.x).flatten(1).all(1)
        assert torch.equal(torch.where(same[:, None, None, None], before.x, before.x.flip(-1)), after.x)
        count += int((~same).sum())
    assert abs(count - 512) < 5 * 16  # five standard deviations of 1,024 fair coins: 6e-7
    with pytest.raises(ValueError, match="mirror is true, but data"):
        resolve(SMALL.replace(mirror=True), load_data("moons"), "cpu")


def test_an_epoch_smaller_than_a_batch_still_covers_evenly(digits):
    few = orn.load_data(digits.values[:7].astype(np.uint8))
    learner = Learner(resolve(SMALL.replace(images=1, batch=21), few, "cpu"), few.split()[0], Engine())
    assert np.array_equal(np.bincount(learner.loader.row_indices(4)), [3] * 7)


def test_the_average_weighs_steps_by_a_power_and_has_the_stated_width():
    gamma, steps = exponent(0.1), 4000
    average = torch.zeros(steps, dtype=torch.float64)
    for step in range(1, steps + 1):  # weights that are one-hot in the step: the average is the profile itself
        update([average], [torch.nn.functional.one_hot(torch.tensor(step - 1), steps).double()], step, gamma)
    place = torch.arange(1, steps + 1, dtype=torch.float64) / steps
    ideal = place**gamma / (place**gamma).sum()
    assert float((average - ideal).abs().max() / ideal.max()) < 0.01
    mean = (average * place).sum()
    assert float((average * (place - mean) ** 2).sum().sqrt()) == pytest.approx(0.1, rel=0.01)
    with pytest.raises(ValueError, match=r"average is 0.4; the relative width"):
        exponent(0.4)


def test_the_learning_rate_rises_then_falls_to_zero():
    settings = orn.Settings(learning_rate=0.5, warmup=0.2)
    assert learning_rate(settings, 0.0) == 0
    assert learning_rate(settings, 0.1) == pytest.approx(0.5 * 0.5 * 0.9**0.5)
    assert learning_rate(settings, 0.75) == pytest.approx(0.25)
    assert learning_rate(settings.replace(decay=1), 0.75) == pytest.approx(0.125)
    assert learning_rate(settings, 1.0) == 0


def test_a_network_of_ones_own_trains_and_samples(digits):
    class Own(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(64, 64)

        def forward(self, y, log_snr, condition):
            return self.layer(y.flatten(1)).view(y.shape)

    model = orn.Trainer(digits, Own(), images=300, settings=SMALL).fit()
    assert orn.sample(model, 3, nfe=2).shape == (3, 1, 8, 8)
    assert isinstance(model.network, Own)


def test_auto_is_a_pure_function_of_the_data_and_the_machine(digits):
    once, again = (resolve(orn.Settings(), digits, "cpu") for _ in range(2))
    assert once == again
    assert "auto" not in {once.network, once.precision}
    assert once.minutes == 10
    assert resolve(once, digits, "cpu") == once


def test_files_that_are_of_no_run_are_neither_used_nor_removed(tmp_path, digits):
    (tmp_path / "model.safetensors").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds model\.safetensors, but is not the folder of a run"):
        train(digits, tmp_path, images=200)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "mine.txt").write_text("mine")
    train(digits, tmp_path, images=64)
    (tmp_path / "previews/mine.txt").write_text("mine")
    train(digits, tmp_path, images=64, overwrite=True)
    assert (tmp_path / "mine.txt").read_text() == (tmp_path / "previews/mine.txt").read_text() == "mine"


def test_a_second_fit_goes_on_and_does_not_start_again(tmp_path, digits):
    trainer = orn.Trainer(digits, settings=SMALL, images=64, out=tmp_path)
    once = trainer.fit()
    before = (tmp_path / "model.safetensors").read_bytes()
    again = trainer.fit()
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert again.metrics == once.metrics


def test_a_training_that_lost_its_way_ends_and_keeps_the_last_checkpoint(tmp_path, digits):
    with pytest.raises(RuntimeError, match="the last checkpoint is kept"):
        train(digits, tmp_path, images=1000, settings=SMALL.replace(learning_rate=1e30, warmup=0.0))
    assert not (tmp_path / "model.safetensors").exists()
    with pytest.raises(ValueError, match="weight_decay is nan; it must be a finite number"):
        orn.Settings(weight_decay=float("nan"))


def test_a_training_that_diverged_says_so_and_keeps_its_state(tmp_path, command):
    """Losses that are finite, but far above that before the first step: not done, also when it is gone on with."""
    words = ["--processes", 1, "--set", "options={widths: [16], depths: [1]}", "--set", "batch=64"]
    begun = ["train", "digits", "--images", 640, "--out", "r", "--set", "learning_rate=1e6", *words]
    for again in (begun, ["train", "--out", "r", "--resume"]):
        code, out, err = command(*again)
        assert (code, err.count("\n"), "done in" in out) == (1, 1, False)
        assert err.startswith("ornstein: the training has diverged: the training loss is ")
    assert newest(tmp_path / "r").metadata["images"] == 640
    assert command("train", "digits", "--images", 640, "--out", "r", "--overwrite", *words)[0] == 0


def test_pictures_that_are_all_alike_do_not_diverge(tmp_path):
    """Their exact model is where the training starts, and any step leaves it."""
    train(np.full((40, 1, 8, 8), 7, dtype=np.uint8), tmp_path, images=320)


def test_pictures_that_are_not_square_train_and_resume(tmp_path):
    values = np.random.default_rng(0).integers(0, 255, (40, 1, 8, 12), dtype=np.uint8)
    train(values, tmp_path, stop_at=1, images=320)
    assert train(values, tmp_path, resume=True).shape == (1, 8, 12)


def test_by_the_clock_the_learning_rate_of_every_step_is_kept(tmp_path, digits, monkeypatch):
    """On a clock that moves by 20 ms whenever it is looked at."""
    ticks = itertools.count()
    for module in ("trainer", "budget"):
        monkeypatch.setattr(f"ornstein.training.{module}.time", SimpleNamespace(monotonic=lambda: next(ticks) / 50))
    train(digits, tmp_path, minutes=0.05)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    rates = [rate for line in lines for rate in line["learning_rates"]]
    assert len(rates) == lines[-1]["images"] / SMALL.batch_size == newest(tmp_path).metadata["step"]
    assert max(rates) < Run(tmp_path).settings().peak_rate
    peak = int(np.argmax(rates))
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_samples_follow_the_numbers_that_they_are_told():
    rng = np.random.default_rng(0)
    told = rng.normal([3.0, -10.0], [2.0, 5.0], (2000, 2)).astype(np.float32)
    x = told @ np.array([[1.0, 0.0, -1.0], [0.0, 0.4, 0.2]]) + rng.normal(0, 0.2, (2000, 3))
    told[::20] = np.nan  # nothing is known of these
    data = load_data((x.astype(np.float32), told))
    model = orn.Trainer(data, images=15_000, settings=orn.Settings(options={"width": 64, "depth": 2})).fit()
    asked = torch.tensor([[1.0, -10.0], [5.0, -10.0], [3.0, -16.0]])
    drawn = orn.sample(model, 300, condition=asked.repeat_interleave(100, 0), nfe=20)
    means = data.spec.decode(drawn).reshape(3, 100, 3).mean(1)
    # Standard error of a mean: 0.02, were the model exact.
    assert np.abs(means - asked.numpy() @ np.array([[1.0, 0.0, -1.0], [0.0, 0.4, 0.2]])).max() < 0.25
    everything = data.spec.decode(orn.sample(model, 300, nfe=20))
    assert everything.std(0) == pytest.approx(x.std(0), rel=0.25)


PHOTOS = np.random.default_rng(0).integers(0, 256, (60, 3, 32, 32), dtype=np.uint8)


def test_what_is_left_open_is_chosen_from_data_budget_and_device_with_a_reason(digits):
    photos = orn.load_data(PHOTOS)
    short, long = (resolve(orn.Settings(minutes=minutes), photos, "cpu") for minutes in (1, 15))
    assert short.options != long.options
    assert (short.linear, short.density, short.batch) == ("waves", "mixed", 64)
    assert not short.compile
    assert short.options["hints"]
    assert "hints" not in resolve(orn.Settings(linear="none"), photos, "cpu").options
    assert long.compile == can_compile("cpu")
    gpu = resolve(orn.Settings(minutes=15, precision="fp32", compile=False), photos, "cuda")
    assert max(gpu.options["widths"]) > max(long.options["widths"])
    assert (resolve(orn.Settings(), digits, "cpu").linear, gpu.batch) == ("principal", 256)
    said = reasons(orn.Settings(minutes=15, batch=32, processes=1), photos, "cpu")
    assert [line.split()[0] for line in said] == ["network", "precision", "linear", "density", "compile"]
    assert reasons(long, photos, "cpu") == []
    for settings in (short, long, gpu):
        assert resolve(settings, photos, "cpu") == settings


@pytest.mark.parametrize("recipe", sorted(RECIPES.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_recipe_leaves_nothing_open_and_begins_with_its_command(recipe):
    text = recipe.read_text("utf-8")
    settings = orn.Settings.from_yaml(text)
    may_be_none = {"data_path", "init_from", "minutes", "micro_batch", "processes", "shard", "threads"}
    assert "auto" not in settings.as_dict().values()
    assert {name for name, value in settings.as_dict().items() if value is None} <= may_be_none
    assert settings.images
    # Where data and runs lie is of the machine, and no part of a recipe.
    assert set(settings.as_dict()) - {"data_path", "init_from"} == {
        line.partition(":")[0] for line in text.splitlines() if line[0] not in "# -"}
    assert f"#   ornstein train {settings.data} --config recipes/{recipe.name} --out run" in text
    assert "TODO" not in text


def test_a_compilation_that_cannot_be_is_refused(digits, monkeypatch):
    with pytest.raises(ValueError, match="compile is true and parallel 'fsdp'"):
        resolve(orn.Settings(compile=True, parallel="fsdp"), digits, "cpu")
    monkeypatch.setattr("ornstein.training.plan.can_compile", lambda _: False)
    with pytest.raises(ValueError, match="this machine has no compiler for it"):
        resolve(orn.Settings(compile=True), digits, "cpu")


@pytest.mark.skipif(not can_compile("cpu"), reason="there is no C++ compiler")
@pytest.mark.parametrize("times", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_a_compiled_training_repeats_bit_for_bit_and_learns_what_the_plain_one_does(tmp_path, digits, times):
    settings = orn.Settings(network="mlp", options={"width": 8, "depth": 1}, batch=50, precision="fp32", snapshots=0)
    runs = [orn.Trainer(digits, images=500, settings=settings.replace(compile=compiled), out=tmp_path / out).fit()
            for out, compiled in (("plain", False), *((str(number), True) for number in range(times)))]
    plain, once, *more = (list(run.network.parameters()) for run in runs)
    assert all(torch.equal(a, b) for again in more for a, b in zip(once, again, strict=True))
    for a, b in zip(once, plain, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
    assert runs[0].metrics["held_out"] == pytest.approx(runs[1].metrics["held_out"], rel=1e-3)


def test_a_trainer_takes_any_setting_by_its_name(tmp_path, digits):
    fill(tmp_path / "kinds", 12, "{}.png", (16, 16, 3))
    trainer = orn.Trainer(str(tmp_path / "kinds"), size=8, batch=4, images=4)
    assert trainer.data.spec.shape == (3, 8, 8)
    assert trainer.settings.batch == 4
    for options, says in (({"sise": 8}, "setting 'sise' is unknown; did you mean 'size'"),
                          ({"lr": 1e-3}, "did you mean 'learning_rate'"), ({"epochs": 9}, "did you mean 'images'"),
                          ({"size": 8}, "already loaded"), ({"out": ""}, "out is ''; name a folder")):
        with pytest.raises(ValueError, match=says):
            orn.Trainer(digits, images=4, **options)


def test_a_folder_of_before_says_the_bare_name_of_a_network_of_ones_own(tmp_path):
    (tmp_path / "run.yaml").write_text(orn.Settings(network="own.Net").to_yaml().replace("own.Net", "Net"))
    assert Run(tmp_path).settings().network == "own.Net"
    (tmp_path / "run.yaml").write_text(orn.Settings(network="unet").to_yaml())
    assert Run(tmp_path).settings().network == "unet"
