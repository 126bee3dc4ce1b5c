"""The states of a training on disk: whole or not there, and damage is noticed."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil

import numpy as np
import pytest
import torch

from ornstein.settings import Settings
from ornstein.training.engine import Engine
from ornstein.training.run import Run
from ornstein.training.states import State, States


def tensors(seed: int = 0) -> dict[str, torch.Tensor]:
    rng = np.random.default_rng(seed)
    return {"weight": torch.from_numpy(rng.standard_normal((7, 5)).astype(np.float32)),
            "step": torch.tensor(float(seed)), "half": torch.ones(3, dtype=torch.bfloat16) * seed}


def written(path, *images: int, keep: int = 2) -> States:
    states = States(path, keep)
    for number in images:
        states.write(number, tensors(number), {"images": number}, Engine())
    return states


def test_the_last_states_stay_and_come_back_bit_for_bit(tmp_path):
    states = written(tmp_path, 1, 2, 3, 4, keep=3)
    assert [int(name) for name in states.names()] == [2, 3, 4]
    state, faults = states.newest()
    assert (state.metadata, faults) == ({"images": 4}, [])
    here = {name: torch.full_like(value, 9) for name, value in tensors().items()}
    state.fill(here)
    assert all(torch.equal(here[name], value) for name, value in tensors(4).items())


def test_a_tensor_keeps_its_memory_format_when_it_is_filled(tmp_path):
    value = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    states = States(tmp_path, 1)
    states.write(1, {"w": value.to(memory_format=torch.channels_last)}, {}, Engine())
    here = torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)
    states.newest()[0].fill({"w": here})
    assert torch.equal(here, value)
    assert here.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize("name", ["state.safetensors", "manifest.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "empty", "list", "nested", "bytes", "fifo", "folder"])
def test_a_damaged_state_is_named_and_the_one_before_it_is_used(tmp_path, name, damage):
    states = written(tmp_path, 1, 2)
    file = tmp_path / states.names()[-1] / name
    whole = file.read_bytes()
    file.unlink()
    if damage in ("fifo", "folder"):
        os.mkfifo(file) if damage == "fifo" else file.mkdir()
    elif damage != "missing":
        file.write_bytes({"cut": whole[:len(whole) // 2], "empty": b"", "list": b"[]", "nested": b'{"a":' * 10**5,
                          "bytes": b"\xff" * 99}[damage])
    state, faults = states.newest()
    assert state.metadata == {"images": 1}
    assert len(faults) == 1
    assert str(file) in faults[0]


@pytest.mark.parametrize("name", ["../../outside", "/etc/passwd", "thesis.txt"])
def test_a_manifest_that_is_whole_and_names_what_no_state_has_is_refused(tmp_path, name):
    place = tmp_path / written(tmp_path, 1).names()[0]
    record = json.loads((place / "manifest.json").read_text())
    record["files"][name] = [0, "0"]
    del record["sha256"]
    record["sha256"] = hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
    (place / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match=r"manifest\.json is damaged"):
        State(place)


def test_any_bit_that_flips_is_noticed(tmp_path):
    states = written(tmp_path, 1)
    place = tmp_path / states.names()[0]
    rng = np.random.default_rng(0)
    for name in ["state.safetensors", "manifest.json"]:
        whole = (place / name).read_bytes()
        for _ in range(50):
            flipped = bytearray(whole)
            flipped[rng.integers(len(whole))] ^= 1 << rng.integers(8)
            (place / name).write_bytes(flipped)
            with pytest.raises(ValueError, match=r"damaged|format"):
                State(place)
        (place / name).write_bytes(whole)
    State(place)


def test_without_any_whole_state_the_fault_is_said(tmp_path):
    states = written(tmp_path, 1, 2)
    for name in states.names():
        (tmp_path / name / "state.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=r"no state of the run can be used: .* is cut short; .*; start again"):
        states.newest()


def test_a_state_of_other_names_or_shapes_is_refused_by_name(tmp_path):
    state = written(tmp_path, 1).newest()[0]
    with pytest.raises(ValueError, match=r"another network: weight is \(7, 5\) there and \(7, 6\) by run.yaml"):
        state.fill({**tensors(), "weight": torch.zeros(7, 6)})
    with pytest.raises(ValueError, match=r"another network: more is missing there and \(1,\) by run.yaml"):
        state.fill({**tensors(), "more": torch.zeros(1)})


def test_what_a_killed_write_left_is_removed_and_a_half_renamed_state_comes_back(tmp_path):
    states = written(tmp_path, 1, 2)
    (tmp_path / ".000000000003.new").mkdir()
    (tmp_path / ".000000000003.new/state.safetensors").write_bytes(b"half")
    os.rename(tmp_path / states.names()[1], tmp_path / ".000000000002.old")
    states.clean_up()
    assert [int(name) for name in states.names()] == [1, 2]
    assert len(list(tmp_path.iterdir())) == 2
    assert states.newest()[0].metadata == {"images": 2}


def test_a_state_replaces_one_of_the_same_number(tmp_path):
    written(tmp_path, 5)
    States(tmp_path, 2).write(5, tensors(1), {"finished": True}, Engine())
    assert States(tmp_path, 2).newest()[0].metadata == {"finished": True}
    assert len(list(tmp_path.iterdir())) == 1


def test_a_disk_without_room_is_refused_before_a_byte_is_written(tmp_path, monkeypatch):
    states = written(tmp_path, 1)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**9, 10**9 - 100, 100))
    with pytest.raises(OSError, match=r"needs 0\.00018 MB for a checkpoint and 0\.0001 MB are free"):
        states.write(2, tensors(2), {}, Engine())
    assert [item.name for item in tmp_path.iterdir()] == states.names() == ["000000000001"]


def test_a_pickle_in_the_place_of_any_file_is_never_run(tmp_path):
    class Canary:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "it-ran"),)

    states = written(tmp_path / "states", 1)
    place = tmp_path / "states" / states.names()[0]
    for name in ["state.safetensors", "manifest.json", ".metadata"]:
        before = (place / name).read_bytes() if (place / name).exists() else None
        (place / name).write_bytes(pickle.dumps(Canary()))
        if before is None:
            state = State(place)
            state.fill(tensors())
        else:
            with pytest.raises(ValueError, match=name):
                State(place)
            (place / name).write_bytes(before)
    assert not (tmp_path / "it-ran").exists()


def test_a_manifest_that_points_outside_its_folder_is_refused(tmp_path):
    states = written(tmp_path / "states", 1)
    place = tmp_path / "states" / states.names()[0]
    record = json.loads((place / "manifest.json").read_text())
    record["files"]["../../outside"] = [0, "0"]
    (place / "manifest.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="damaged"):
        State(place)


def test_what_others_left_among_the_states_is_left_alone(tmp_path):
    states = written(tmp_path, 1)
    (tmp_path / ".DS_Store").write_bytes(b"")
    states.clean_up()
    assert (tmp_path / ".DS_Store").exists()
    assert states.newest()[0].metadata == {"images": 1}


@pytest.mark.parametrize("keep", [1, 2])
def test_a_damaged_state_takes_no_whole_ones_place(tmp_path, keep):
    written(tmp_path, 1, 9)
    (tmp_path / "000000000009/state.safetensors").write_bytes(b"")
    for images in (2, 3, 4):
        written(tmp_path, images, keep=keep)
        assert States(tmp_path, keep).newest()[0].metadata == {"images": images}
    assert [int(name) for name in States(tmp_path, keep).names()] == [*range(5 - keep, 5), 9]


def test_a_state_of_a_run_that_was_replaced_never_comes_back(tmp_path):
    run = Run(tmp_path)
    run.create(Settings(images=1))
    written(tmp_path / "checkpoints", 9)
    os.rename(tmp_path / "checkpoints/000000000009", tmp_path / "checkpoints/.000000000009.old")
    run.create(Settings(images=1))
    states = written(tmp_path / "checkpoints", 1)
    states.clean_up()
    assert states.newest()[0].metadata == {"images": 1}
