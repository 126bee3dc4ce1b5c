"""The states that a training can go on from: folders that are whole or not there, each with a manifest of its files."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import safe_open
from torch import Tensor

from ornstein import files
from ornstein.checkpoint import digest as hash_of
from ornstein.checkpoint import write_tensors
from ornstein.files import MANIFEST
from ornstein.training.engine import Engine, like

__all__ = ["State", "States"]

FORMAT = 2
WHOLE = "state.safetensors"
NAME, BESIDE = re.compile(r"[0-9]{12,}"), re.compile(r"\.([0-9]{12,})\.(new|old)")
OURS = re.compile(r"manifest\.json|state\.safetensors|(shard-[0-9]+-)?model-[0-9]+-of-[0-9]+\.safetensors|"
                  r"model\.safetensors\.index\.json|\.metadata")
ROOM = 1.2  # times the size of a state that must be free before it is written


class State:
    """One state on disk, checked against its manifest, unless another process has; ValueError names what is wrong."""

    def __init__(self, path: Path, check: bool = True) -> None:
        self.path = path
        try:
            record = files.read_json(path / MANIFEST)
            own, seen = record.pop("sha256", None), _hash_text(record)
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path / MANIFEST} is missing or damaged ({type(error).__name__})") from None
        entries, note = record.get("files"), record.get("note")
        if record.get("format") != FORMAT and "format" in record:
            raise ValueError(f"{path} has format {record.get('format')!r}; this version of Ornstein goes on from "
                             f"format {FORMAT}")
        if own != seen or not isinstance(note, dict) or not _lists_files(entries):
            raise ValueError(f"{path / MANIFEST} is damaged (SHA-256)")
        self.note: dict[str, Any] = note
        self.sharded = WHOLE not in entries
        if not check:
            return
        if self.sharded and (more := {item.name for item in path.iterdir()} - {*entries, MANIFEST}):
            raise ValueError(f"{path / min(more)} does not belong there")
        for name, (size, digest) in entries.items():
            file = path / name
            if not file.is_file() or file.stat().st_size != size:
                raise ValueError(f"{file} is {'cut short' if file.is_file() else 'missing'}")
            try:
                seen = hash_of(file)
            except (OSError, ValueError) as error:
                raise ValueError(f"{file} cannot be read ({error})") from None
            if seen != digest:
                raise ValueError(f"{file} is damaged (SHA-256)")

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy what is on disk into tensors of the same names and shapes, split or not; ValueError for others."""
        if self.sharded:
            self._fill_sharded(tensors)
            return
        with torch.no_grad(), safe_open(self.path / WHOLE, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _match(tensors, shapes)
            for name, value in tensors.items():
                there = file.get_tensor(name).to(value.device)
                # In place: the tensor keeps its memory format, in which a fused optimiser walks it.
                value.copy_(like(there, value))

    def _fill_sharded(self, tensors: Mapping[str, Tensor]) -> None:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

        reader = HuggingFaceStorageReader(str(self.path))
        _match(tensors, {name: tuple(entry.size) for name, entry in reader.read_metadata().state_dict_metadata.items()
                         if hasattr(entry, "size")})
        dcp.load(dict(tensors), storage_reader=reader, no_dist=not torch.distributed.is_initialized())


class States:
    """The last `keep` states of a run, in a folder that holds one folder a state."""

    def __init__(self, path: Path, keep: int) -> None:
        self.path, self.keep = path, keep

    def names(self) -> list[str]:
        """Names of the states that are there, the oldest first."""
        return sorted(item.name for item in files.list_folder(self.path) if NAME.fullmatch(item.name)
                      and item.is_dir() and (not (inside := files.list_folder(item))
                                             or any(OURS.fullmatch(one.name) for one in inside)))

    def newest(self) -> tuple[State | None, list[str]]:
        """The newest state that is whole, and what was wrong with those after it; ValueError where none is whole."""
        faults: list[str] = []
        for name in reversed(self.names()):
            try:
                return State(self.path / name), [f"{fault}; the state before it is used" for fault in faults]
            except ValueError as error:
                faults.append(str(error))
        if faults:
            raise ValueError(f"no state of the run can be used: {'; '.join(faults)}; start again in another "
                             "folder")
        return None, faults

    def write(self, images: int, tensors: Mapping[str, Tensor], note: Mapping[str, Any], engine: Engine) -> None:
        """Write a state beside the others, then remove the oldest; every process calls this.

        OSError where the disk refuses: the states that were there are untouched.
        """
        beside = self.path / f".{images:012d}.new"

        def prepare() -> None:
            files.refuse_link(self.path)
            files.refuse_link(beside)
            _forget(beside)
            files.make_folder(beside)
            self._refuse_small_disk(tensors)
            if not engine.sharded:
                with files.replacing(beside / WHOLE) as file:
                    write_tensors(file, tensors)

        try:
            engine.once(prepare)
            if engine.sharded:
                _write_shards(beside, tensors)
            engine.once(lambda: self._finish(beside, images, note))
        finally:
            if engine.first:
                _forget(beside)

    def _refuse_small_disk(self, tensors: Mapping[str, Tensor]) -> None:
        need = int(ROOM * sum(value.numel() * value.element_size() for value in tensors.values()))
        free = shutil.disk_usage(self.path).free
        if free < need:
            raise OSError(f"{self.path} needs {need / 1e6:.3g} MB for a checkpoint and {free / 1e6:.3g} MB are free")

    def _finish(self, beside: Path, images: int, note: Mapping[str, Any]) -> None:
        entries = {}
        for file in sorted(beside.iterdir()):
            files.sync(file)
            entries[file.name] = (file.stat().st_size, hash_of(file))
        record = {"format": FORMAT, "note": dict(note), "files": entries}
        files.write_text(beside / MANIFEST, json.dumps({**record, "sha256": _hash_text(record)}))
        place, old = self.path / f"{images:012d}", self.path / f".{images:012d}.old"
        if os.path.lexists(place):  # a damaged one, or that of a run that was stopped and has finished since
            files.refuse_link(place)
            foreign = [one for one in files.list_folder(place) if not OURS.fullmatch(one.name)]
            if foreign or not place.is_dir():
                raise FileExistsError(f"{(foreign or [place])[0]} is of no run, and a checkpoint must go there; move "
                                      "it elsewhere")
            _forget(old)
            files.move(place, old)
        files.move(beside, place)
        _forget(old)
        files.sync(self.path)
        # Those after it are damaged: they do not count among the kept.
        for name in [name for name in self.names() if name <= place.name][:-self.keep]:
            _forget(self.path / name)

    def clean(self) -> None:
        """Remove what a run that was killed in the middle of a write left behind."""
        files.refuse_link(self.path)
        for item in files.list_folder(self.path):
            match = BESIDE.fullmatch(item.name)
            if match is None or item.is_symlink() or not item.is_dir():
                continue
            # Killed between two renames: what was moved aside is whole.
            if match[2] == "old" and not (place := self.path / match[1]).exists():
                files.move(item, place)
            else:
                _forget(item)

    def forget(self) -> None:
        """Remove all states; what a run does not write stays."""
        self.clean()  # what a killed write moved aside would come back as a state of a new run
        for name in self.names():
            _forget(self.path / name)


def _forget(state: Path) -> None:
    """Remove the folder of a state with its files; it stays if anything else is in it."""
    if state.is_dir() and not state.is_symlink():
        files.remove_leftovers(state)
        files.remove_folder(state, OURS)


def _lists_files(entries: Any) -> TypeGuard[dict[str, tuple[int, str]]]:
    """Whether a manifest lists files of ours, each with its size and its hash."""
    return isinstance(entries, dict) and bool(entries) and all(
        OURS.fullmatch(name) and isinstance(facts, list) and [type(one) for one in facts] == [int, str]
        for name, facts in entries.items())


def _match(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    here = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(here.keys() | shapes.keys()):
        if here.get(name) != shapes.get(name):
            raise ValueError(f"the state to go on from is of another network: {name} is "
                             f"{shapes.get(name, 'missing')} there and {here.get(name, 'missing')} by run.yaml")


def _write_shards(path: Path, tensors: Mapping[str, Tensor]) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    try:
        dcp.save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(path), save_distributed=True))
    except CheckpointException as error:  # no Exception but a BaseException
        raise OSError(f"{path} could not be written: {' '.join(str(error).split())}") from None


def _hash_text(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
