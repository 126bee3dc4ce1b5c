"""Damage of every kind to anything in a run is survived or refused by name, and nothing foreign is touched."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest

import ornstein as orn
from ornstein.training.events import Progress, TrainingFailed

SETTINGS = orn.Settings(options={"widths": [8], "depths": [1]}, batch=16, precision="fp32", linear="diagonal",
                        snapshots=4, save_seconds=1e-9)
BUDGET = 128
FOREIGN = ["averages/123.safetensors", "averages/000000000999.safetensors", "averages/notes.txt",
           "previews/holiday.png", "previews/000000999.png", "tensorboard/events.out.tfevents.1.host.2.0",
           "checkpoints/2023/thesis.txt", "checkpoints/000000000999/thesis.txt", "checkpoints/NEWEST/thesis.txt",
           "checkpoints/.000000000064.new/thesis.txt", "checkpoints/.2023.old/thesis.txt", ".model.safetensors.bak",
           ".tmpABCDEF", "model.safetensors.txt", "data.npy", ".run.yaml.swp"]
KINDS = ["bits", "cut", "empty", "random bytes", "a list", "nested", "gone", "fifo", "folder", "link"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> dict[str, Path]:
    """A run that has finished and one that was interrupted, each with two checkpoints."""
    places = {name: tmp_path_factory.mktemp("damage") / name for name in ("finished", "interrupted")}
    for name, place in places.items():
        trainer = orn.Trainer("digits", settings=SETTINGS, images=BUDGET, out=place)
        for event in trainer.events():
            if name == "interrupted" and isinstance(event, Progress):  # the first one is of the first step
                trainer.stop()
        assert len(list((place / "checkpoints").iterdir())) == 2
        (place / "tensorboard").mkdir()
        (place / "tensorboard/events.out.tfevents.1.host.2.0.ornstein").write_bytes(b"ours")
    return places


def spoil(target: Path, kind: str, rng: np.random.Generator, elsewhere: Path) -> None:
    """Do damage to a file or a folder; what a link leads to is the same thing, elsewhere."""
    if kind == "link":
        shutil.move(target, elsewhere / target.name)
        target.symlink_to(elsewhere / target.name)
        return
    content = target.read_bytes() if target.is_file() else b""
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    if kind == "bits":
        changed = bytearray(content or b"x")
        for place in rng.integers(len(changed), size=rng.integers(1, 9)):
            changed[place] ^= 1 << rng.integers(8)
        target.write_bytes(changed)
    elif kind in ("cut", "empty", "random bytes", "a list", "nested"):
        target.write_bytes({"cut": content[:rng.integers(len(content) + 1)], "empty": b"", "a list": b"[]",
                            "random bytes": rng.bytes(999), "nested": b"[" * 10**5}[kind])
    elif kind == "fifo":
        os.mkfifo(target)
    elif kind == "folder":
        target.mkdir()
        (target / "mine.txt").write_bytes(b"mine")


def foreign_files(run: Path, planted: list[str], elsewhere: Path) -> dict[str, bytes]:
    """What is not the run's: what was planted in it, and what links out of it lead to."""
    inside = {name: (run / name).read_bytes() for name in planted if (run / name).is_file()}
    folders = {f"{path.relative_to(run)}": path.read_bytes() for path in run.rglob("mine.txt")}
    return inside | folders | {f"elsewhere/{path.relative_to(elsewhere)}": path.read_bytes()
                               for path in elsewhere.rglob("*") if path.is_file()}


def attempt(run: Path, action: str) -> tuple[orn.NetworkDenoiser | None, str]:
    """Do something with a run: what came out, and what was said."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model, said = None, ""
        try:
            if action == "load":
                model = orn.load(run)
                assert orn.sample(model, 2, nfe=2).isfinite().all()
            elif action == "average":
                orn.reaverage(run, 0.1)
            else:
                how = {"resume": True} if action == "resume" else {"overwrite": True}
                model = orn.Trainer("digits", settings=SETTINGS, images=BUDGET, out=run, **how).fit()
        except (OSError, ValueError, TrainingFailed) as error:  # and nothing else
            said = str(error)
    return model, " ".join([said, *(str(one.message) for one in caught)])


def check(seed: int, runs: dict[str, Path], place: Path) -> None:
    """One random damage, and what must hold of whatever is done next."""
    rng = np.random.default_rng(seed)
    name = str(rng.choice(["finished", "interrupted"]))
    whole, run, elsewhere = runs[name], place / "run", place / "elsewhere"
    shutil.copytree(whole, run)
    elsewhere.mkdir()
    newest = max(path.name for path in (run / "checkpoints").iterdir())
    planted = [str(one).replace("NEWEST", newest) for one in rng.choice(FOREIGN, 3, replace=False)]
    parts = sorted(path for path in run.rglob("*"))
    target, kind = parts[rng.integers(len(parts))], str(rng.choice(KINDS))
    for one in planted:
        (run / one).parent.mkdir(parents=True, exist_ok=True)
        (run / one).write_bytes(rng.bytes(99))
    spoil(target, kind, rng, elsewhere)
    before = foreign_files(run, planted, elsewhere)
    action = str(rng.choice(["resume", "resume", "overwrite", "load", "average"]))
    what = f"seed {seed}: {kind} of {target.relative_to(run)} in a run that is {name}, then {action}; beside {planted}"
    model, said = attempt(run, action)
    assert foreign_files(run, planted, elsewhere) == before, what
    assert target.is_symlink() == (kind == "link"), what
    if model is None and action != "average":
        assert str(run) in said or "run.yaml" in said, (what, said)
    elif action in ("resume", "overwrite") and model is not None and "run.yaml" not in said:
        expected = orn.load(runs["finished"]).state_dict()
        assert all((value == expected[key]).all() for key, value in model.state_dict().items()), (what, said)
        again = orn.load(run).state_dict()
        assert all((value == expected[key]).all() for key, value in again.items()), (what, said)
    serious = target.parent.name == newest or (target.name == "model.safetensors" and name == "finished")
    if action == "resume" and serious and not (kind == "cut" and model is not None and not said):
        assert re.search(re.escape(str(target)), said), (what, said)


@pytest.mark.parametrize("seed", range(8))
def test_a_damage_is_survived_or_refused_by_name(seed, runs, tmp_path):
    check(seed, runs, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(5))
def test_three_hundred_damages(block, runs, tmp_path):
    for seed in range(60 * block, 60 * block + 60):
        (tmp_path / str(seed)).mkdir()
        check(seed, runs, tmp_path / str(seed))
