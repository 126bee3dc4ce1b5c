"""A training that starts from a run's weights begins where that run ended, says what did not fit, and goes on alone."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import ornstein as orn
from conftest import FAST, made_once
from ornstein.networks import build, transfer
from ornstein.training.events import Progress, Started

SMALL = orn.Settings(options={"widths": [8], "depths": [1]}, batch=32, processes=1)
STILL = 1e-12  # a learning rate that moves nothing that float32 could tell


def colours(count: int, side: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 3, side, side), dtype=np.uint8)


@pytest.fixture
def run(tmp_path_factory) -> Path:
    """Pictures of 12 pixels in two classes, 640 seen."""
    data = colours(60, 12), np.array(["cat", "dog"] * 30)
    return made_once(tmp_path_factory, "start", lambda out: orn.Trainer(
        data, settings=SMALL, images=640, out=out).fit())


def begun(data, place: Path, **options) -> tuple[orn.NetworkDenoiser, str]:
    """A training that starts from a run and learns nothing, and what it said at its start."""
    said = list[str]()
    trainer = orn.Trainer(data, init_from=place, images=32, learning_rate=STILL, processes=1, **options)
    model = trainer.fit(lambda event: said.extend(event.notes) if isinstance(event, Started) else None)
    return model, next(line for line in said if line.startswith("starts from"))


def test_it_begins_as_the_model_that_it_starts_from(run):
    """The same data: network, schedule and scale are those of the run, though other settings were open."""
    before = orn.load(run)
    after, said = begun((colours(60, 12), np.array(["cat", "dog"] * 30)), run)
    assert after.network.options == before.network.options
    assert "all its" in said
    z, t = torch.randn(4, 3, 12, 12, generator=torch.Generator().manual_seed(0)), torch.tensor([0.1, 0.4, 0.7, 1.0])
    for condition in (None, torch.tensor([0, 1, 1, 0])):
        torch.testing.assert_close(after(z, t, condition).v, before(z, t, condition).v, rtol=1e-5, atol=1e-5)


def test_a_class_is_found_again_by_its_name_and_a_new_one_begins_as_none(run):
    before, labels = orn.load(run), np.array(["ant", "cat", "dog"] * 20)
    after, said = begun((colours(60, 12), labels), run)
    was, now = (model.network.embedding.classes.weight for model in (before, after))
    assert torch.allclose(now, was[[0, 0, 1, 2]])
    assert "classes that are new to it: ant" in said


def test_of_another_size_and_other_channels_all_but_a_few_weights_are_kept(run):
    after, said = begun(colours(40, 20), run)
    assert "all its" in said
    assert "resized: place.0" in said
    assert after.shape == (3, 20, 20)
    grey, said = begun(colours(40, 12)[:, :1], run)
    assert "initialised anew, because their sizes differ: into.weight, out.weight, out.bias" in said
    kept = orn.load(run).network.down_blocks[0][0].first.weight
    assert torch.allclose(grey.network.down_blocks[0][0].first.weight, kept)


def test_what_no_weight_fits_is_refused_and_so_is_a_run_that_is_not_there(run, tmp_path):
    with pytest.raises(ValueError, match=r"a model of pictures of 3 x 12 x 12, and data 'mixture' are vectors of 2"):
        orn.Trainer("mixture", init_from=run)
    with pytest.raises(FileNotFoundError, match=r"init_from is .*gone"):
        orn.Trainer("digits", init_from=tmp_path / "gone")


def test_killed_it_goes_on_bit_for_bit_without_the_run_that_it_started_from(run, tmp_path):
    data = colours(60, 12, 1)
    whole = orn.Trainer(data, init_from=run, images=256, out=tmp_path / "whole").fit()
    source = Path(shutil.copytree(run, tmp_path / "source"))
    trainer = orn.Trainer(data, init_from=source, images=256, out=tmp_path / "parts")
    for event in trainer.events():
        if isinstance(event, Progress) and event.images >= 96:
            trainer.stop()
    shutil.rmtree(source)
    again = orn.Trainer(data, images=256, out=tmp_path / "parts", resume=True).fit()
    for mine, other in zip(again.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(mine, other)


def test_the_command_takes_the_data_of_the_run_where_none_are_named(command, tmp_path):
    assert command("train", "digits", "--no-classes", "--images", "64", "--out", tmp_path / "a", *FAST)[0] == 0
    code, out, _ = command("train", "--from", tmp_path / "a", "--images", "64", "--out", tmp_path / "b")
    assert code == 0
    assert "starts from" in out
    assert orn.load(tmp_path / "b").network.options == orn.load(tmp_path / "a").network.options
    assert orn.Settings.from_yaml((tmp_path / "b/run.yaml").read_text()).classes is False


@given(st.sampled_from([("unet", {"widths": [8, 12], "depths": [1, 1]}), ("dit", {"patch": 2, "width": 12})]),
       st.lists(st.sampled_from([4, 6, 8, 12]), min_size=1, max_size=2),
       st.lists(st.sampled_from([4, 6, 8, 12]), min_size=2, max_size=2))
def test_a_place_that_is_the_same_everywhere_is_so_on_every_grid(kind, there, here):
    name, options = kind
    here = here[:len(there)]
    small, large = (build(name, {**options, "shape": [2, *sides]}) for sides in (there, here))
    source = {key: torch.full_like(value, 0.5) if key.startswith("place") else value
              for key, value in small.state_dict().items()}
    taken = transfer(large, source, (), (there, here))
    assert not taken.missing
    assert taken.weights == taken.total == sum(value.numel() for value in large.parameters())
    for key, value in large.state_dict().items():
        torch.testing.assert_close(value, torch.full_like(value, 0.5) if key.startswith("place") else source[key])
