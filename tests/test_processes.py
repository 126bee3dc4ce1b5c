"""Several processes learn what one learns, from the same samples, and go on where others stopped."""

from __future__ import annotations

import hashlib
import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch.testing._internal.distributed.fake_pg import FakeStore

import ornstein as orn
from ornstein.training import choices
from ornstein.training.engine import Engine
from ornstein.training.events import Finished, Progress, Saved, TrainingFailed
from ornstein.training.learner import Learner
from ornstein.training.plan import resolve
from ornstein.training.run import Run
from processes import together

STEPS = 24  # of which a few are enough for the slow ways
SMALL = {"widths": [16], "depths": [1]}


def losses(parallel: str, micro_batch: int | None, steps: int, shard: int | None = None) -> list[float]:
    """Losses of the first steps on the digits, averaged over the processes, and that of the average at the end."""
    data = orn.load_data("digits")
    engine = Engine()
    engine.configure(parallel, shard)
    settings = orn.Settings(images=1, precision="fp32", micro_batch=micro_batch, options=SMALL)
    train, held = data.split()
    learner = Learner(resolve(settings, data, "cpu"), train, engine)
    found = [engine.mean([float(learner.step(2e-3))])[0] for _ in range(steps)]
    learner.loader.close()
    return [*found, learner.average_loss(held)]


@pytest.fixture(scope="module")
def alone() -> list[float]:
    return together(1, losses, "ddp", None, STEPS)[0]


@pytest.mark.parametrize(("world", "parallel", "micro_batch"), [(1, "ddp", 50), (2, "ddp", None),
                                                              (2, "ddp", 16), (2, "fsdp", None)])
def test_every_division_of_the_batch_learns_the_same_to_rounding(alone, world, parallel, micro_batch):
    steps = STEPS if parallel == "ddp" else STEPS // 4
    for found in together(world, losses, parallel, micro_batch, steps):
        assert np.abs(np.subtract(found[:steps], alone[:steps])).max() < 1e-6
        assert steps < STEPS or abs(found[-1] - alone[-1]) < 1e-6


def test_groups_that_repeat_split_weights_learn_the_same(alone):
    found = together(4, losses, "fsdp", None, 5, 2)[0]
    assert np.abs(np.subtract(found[:5], alone[:5])).max() < 1e-6


def seen(settings: dict) -> list[list[str]]:
    """SHA-256 of each row of x, eps and t that this process learns from in the first steps."""
    data = orn.load_data("digits")
    learner = Learner(resolve(orn.Settings(**settings, options=SMALL), data, "cpu"), data.split()[0], Engine())
    batches = [learner.loader.make(step) for step in (0, 1, 11, 12)]
    learner.loader.close()
    return [[hashlib.sha256(b"".join(value[row].numpy().tobytes() for value in batch)).hexdigest()
             for row in range(len(batch.x))] for batch in batches]


@pytest.mark.parametrize(("world", "batch"), [(3, 48), (2, 384)])
def test_the_processes_together_see_what_one_sees_in_the_same_order(world, batch):
    settings = {"images": 1, "batch": batch}
    one = together(1, seen, settings)[0]
    parts = together(world, seen, settings)
    assert [[row for part in parts for row in part[step]] for step in range(len(one))] == one


def stretch(out: str, parallel: str, until: int | None, images: int) -> list[float | None]:
    """Go on with a run until so many pictures or its end; the last smoothed loss, and how many pictures were seen."""
    settings = orn.Settings(precision="fp32", options=SMALL, batch=64, parallel=parallel, processes=Engine().world)
    trainer = orn.Trainer(orn.load_data("digits"), settings=settings, images=images, out=out, resume=True)
    reached, loss = 0, None
    for event in trainer.events():
        if isinstance(event, Progress) and until is not None and event.images >= until:
            trainer.stop()
        if isinstance(event, Progress):
            reached, loss = event.images, event.loss
        if isinstance(event, Finished | Saved):
            reached = event.images
    return [reached, loss]


def test_a_run_goes_on_with_another_number_of_processes_and_another_way(tmp_path):
    images = 2560
    whole = together(1, stretch, str(tmp_path / "whole"), "ddp", None, images)[0]
    parts = str(tmp_path / "parts")
    reached = [together(1, stretch, parts, "ddp", 1, images)[0][0]]
    reached.append(together(2, stretch, parts, "fsdp", reached[0] + 1, images)[0][0])
    assert Run(parts).states(2).newest()[0].is_sharded
    assert Run(parts).settings().processes == 2
    reached.append(together(2, stretch, parts, "ddp", reached[1] + 1, images)[0][0])
    last = together(1, stretch, parts, "ddp", None, images)[0]
    assert 0 < reached[0] < reached[1] < reached[2] < images
    assert last == [images, pytest.approx(whole[1], abs=1e-6)]
    models = [orn.load(tmp_path / name) for name in ("whole", "parts")]
    for name, value in models[0].state_dict().items():
        assert float((value - models[1].state_dict()[name]).abs().max()) < 1e-4, name


def forked(processes: int, out: Path | None = None) -> orn.NetworkDenoiser:
    """The model of a short run in processes that are forked from this one."""
    settings = orn.Settings(processes=processes, precision="fp32", options=SMALL, batch=64)
    return orn.Trainer("digits", images=640, settings=settings, out=out).fit()


def test_forked_processes_learn_what_one_learns_to_rounding_and_repeat_bit_for_bit(tmp_path):
    one, two, again = forked(1), forked(2, tmp_path), forked(2)
    assert Run(tmp_path).settings().processes == 2
    for name, value in two.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name
        assert float((value - one.state_dict()[name]).abs().max()) < 1e-4, name
    assert two.metrics["held_out"] == pytest.approx(one.metrics["held_out"], abs=1e-6)
    assert multiprocessing.active_children() == []
    assert not dist.is_initialized()


def test_what_fails_in_a_forked_process_ends_the_training_with_its_reason(monkeypatch):
    def step(learner, rate):
        if learner.engine.is_first:
            return Learner.step_as_ever(learner, rate)
        raise TrainingFailed("the second process says why")

    monkeypatch.setattr(Learner, "step_as_ever", Learner.step, raising=False)
    monkeypatch.setattr(Learner, "step", step)
    with pytest.raises(TrainingFailed, match="the second process says why"):
        forked(2)
    assert multiprocessing.active_children() == []


def test_a_worker_a_core_is_chosen_where_the_batch_keeps_each_busy(monkeypatch):
    data = {"digits": orn.load_data("digits"), "points": orn.load_data("moons")}
    monkeypatch.setattr(choices, "worker_count", lambda: 6)
    workers = {(name, batch): resolve(orn.Settings(images=1, batch=batch), each, "cpu").processes
               for name, each in data.items() for batch in (16, 64, 128, 192)}
    assert workers == {("digits", 16): 1, ("digits", 64): 4, ("digits", 128): 4, ("digits", 192): 6,
                       **dict.fromkeys((("points", batch) for batch in (16, 64, 128, 192)), 1)}
    assert resolve(orn.Settings(images=1, threads=2), data["digits"], "cpu").processes == 1
    assert resolve(orn.Settings(images=1), data["digits"], "cuda").processes == 1


def one_of_many(world: int, shard: int) -> list[int]:
    """Weights in all and in this process, and rows of a batch of 8,192, as rank 3 of a job that is not there."""
    dist.init_process_group("fake", rank=3, world_size=world, store=FakeStore())
    data = orn.load_data("digits")
    engine = Engine()
    engine.configure("fsdp", shard)
    settings = orn.Settings(images=1, batch=8192, options={"widths": [32, 64], "depths": [1, 1]})
    learner = Learner(resolve(settings, data, "cpu"), data.split()[0], engine)
    before = [value.to_local().clone() for value in learner.weights]
    learner.step(1e-3)
    learner.loader.close()
    changed = sum(int((value.to_local() != old).sum()) for value, old in zip(learner.weights, before, strict=True))
    dist.destroy_process_group()
    rows = engine.rows(8192)
    weights = (sum(value.numel() for value in part) for part in (learner.weights, before))
    return [*weights, changed, rows.start, rows.stop]


def test_a_job_of_1024_processes_in_groups_of_8_holds_an_eighth_each():
    whole, here, changed, start, stop = together(1, one_of_many, 1024, 8)[0]
    assert here == pytest.approx(whole / 8, rel=0.02)
    assert 0 < changed <= here
    assert (start, stop) == (24, 32)


def test_a_batch_that_the_processes_do_not_divide_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch is 128; 3 processes need a multiple of 3"):
        orn.Trainer("digits", images=100, settings=orn.Settings(processes=3), out=tmp_path)
    trainer = orn.Trainer("digits", images=100, settings=orn.Settings(processes=2, parallel="fsdp"))
    with pytest.raises(ValueError, match="processes is 2, and this is one: start them with ornstein train"):
        trainer.fit()
    with pytest.raises(ValueError, match="shard is 3; it must divide the 4 processes"):
        orn.Trainer("digits", images=100, settings=orn.Settings(processes=4, shard=3))
    assert orn.Trainer("digits", images=100, settings=orn.Settings(processes=4, shard=2)).processes == 4
    with pytest.raises(ValueError, match="parallel 'dpp' is unknown; did you mean 'ddp'"):
        orn.Settings(parallel="dpp")
    with pytest.raises(ValueError, match="shard is 3; it must divide the 1 processes"):
        Engine().configure("fsdp", 3)
    assert not list(Path(tmp_path).iterdir())
