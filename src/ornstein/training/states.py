"""The states that a training can resume from: folders that are either complete or absent, each with a manifest."""

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
from ornstein.checkpoint import digest, write_tensors
from ornstein.files import MANIFEST
from ornstein.training.engine import Engine, shard_like

__all__ = ["State", "States"]

FORMAT = 2
UNSHARDED = "state.safetensors"
NAME, TEMPORARY = re.compile(r"[0-9]{12,}"), re.compile(r"\.([0-9]{12,})\.(new|old)")
STATE_FILES = re.compile(r"manifest\.json|state\.safetensors|(shard-[0-9]+-)?model-[0-9]+-of-[0-9]+\.safetensors|"
                         r"model\.safetensors\.index\.json|\.metadata")
FREE_SPACE = 1.2  # times the size of a state that must be free before it is written


class State:
    """One state on disk, verified against its manifest if `check`; ValueError names what is wrong."""

    def __init__(self, path: Path, check: bool = True) -> None:
        self.path = path
        try:
            record = files.read_json(path / MANIFEST)
            expected, actual = record.pop("sha256", None), _hash_text(record)
        except (OSError, ValueError, RecursionError) as error:
            raise ValueError(f"{path / MANIFEST} is missing or damaged ({type(error).__name__})") from None
        entries, metadata = record.get("files"), record.get("note")
        if record.get("format") != FORMAT and "format" in record:
            raise ValueError(f"{path} has format {record.get('format')!r}; this version of Ornstein resumes from "
                             f"format {FORMAT}")
        if expected != actual or not isinstance(metadata, dict) or not _lists_files(entries):
            raise ValueError(f"{path / MANIFEST} is damaged (SHA-256)")
        self.metadata: dict[str, Any] = metadata
        self.is_sharded = UNSHARDED not in entries
        if not check:
            return
        if self.is_sharded and (extra := {item.name for item in path.iterdir()} - {*entries, MANIFEST}):
            raise ValueError(f"{path / min(extra)} does not belong there")
        for name, (size, expected) in entries.items():
            file = path / name
            if not file.is_file() or file.stat().st_size != size:
                raise ValueError(f"{file} is {'cut short' if file.is_file() else 'missing'}")
            try:
                actual = digest(file)
            except (OSError, ValueError) as error:
                raise ValueError(f"{file} cannot be read ({error})") from None
            if actual != expected:
                raise ValueError(f"{file} is damaged (SHA-256)")

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Copy the stored values into tensors of the same names and shapes, sharded or not; ValueError for others."""
        if self.is_sharded:
            self._fill_sharded(tensors)
            return
        with torch.no_grad(), safe_open(self.path / UNSHARDED, framework="pt") as file:
            shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
            _check_shapes(tensors, shapes)
            for name, value in tensors.items():
                stored = file.get_tensor(name).to(value.device)
                # In place: the tensor keeps its memory format, in which a fused optimiser walks it.
                value.copy_(shard_like(stored, value))

    def _fill_sharded(self, tensors: Mapping[str, Tensor]) -> None:
        import torch.distributed.checkpoint as dcp
        from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader

        reader = HuggingFaceStorageReader(str(self.path))
        stored = reader.read_metadata().state_dict_metadata
        _check_shapes(tensors, {name: tuple(entry.size) for name, entry in stored.items() if hasattr(entry, "size")})
        dcp.load(dict(tensors), storage_reader=reader, no_dist=not torch.distributed.is_initialized())


class States:
    """The last `keep` states of a run, one folder per state."""

    def __init__(self, path: Path, keep: int) -> None:
        self.path, self.keep = path, keep

    def names(self) -> list[str]:
        """Names of the existing states, oldest first."""
        return sorted(item.name for item in files.list_folder(self.path) if NAME.fullmatch(item.name)
                      and item.is_dir() and (not (entries := files.list_folder(item))
                                             or any(STATE_FILES.fullmatch(entry.name) for entry in entries)))

    def newest(self) -> tuple[State | None, list[str]]:
        """The newest intact state, with warnings about damaged newer ones and links; ValueError if all are damaged."""
        errors: list[str] = []
        for name in reversed(self.names()):
            try:
                state = State(self.path / name)
            except ValueError as error:
                errors.append(str(error))
                continue
            links = [entry for entry in files.list_folder(state.path) if entry.is_symlink()]
            return state, [*(f"{error}; the state before it is used" for error in errors),
                           *(f"{link} is a link; what it leads to is used" for link in links)]
        if errors:
            raise ValueError(f"no state of the run can be used: {'; '.join(errors)}; start again in another "
                             "folder")
        return None, errors

    def write(self, images: int, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any], engine: Engine) -> None:
        """Write a new state, then remove the oldest ones; every process calls this.

        OSError if writing fails, which leaves the existing states untouched.
        """
        temporary = self.path / f".{images:012d}.new"

        def prepare() -> None:
            files.refuse_link(self.path)
            files.refuse_link(temporary)
            _remove(temporary)
            files.make_folder(temporary)
            self._check_free_space(tensors)
            if not engine.is_sharded:
                with files.replacing(temporary / UNSHARDED) as file:
                    write_tensors(file, tensors)

        try:
            engine.run_on_first(prepare)
            if engine.is_sharded:
                _write_shards(temporary, tensors)
            engine.run_on_first(lambda: self._finish(temporary, images, metadata))
        finally:
            if engine.is_first:
                _remove(temporary)

    def _check_free_space(self, tensors: Mapping[str, Tensor]) -> None:
        needed = int(FREE_SPACE * sum(value.numel() * value.element_size() for value in tensors.values()))
        free = shutil.disk_usage(self.path).free
        if free < needed:
            raise OSError(f"{self.path} needs {needed / 1e6:.3g} MB for a checkpoint and {free / 1e6:.3g} MB are free")

    def _finish(self, temporary: Path, images: int, metadata: Mapping[str, Any]) -> None:
        entries = {}
        for file in sorted(temporary.iterdir()):
            files.sync(file)
            entries[file.name] = (file.stat().st_size, digest(file))
        record = {"format": FORMAT, "note": dict(metadata), "files": entries}
        files.write_text(temporary / MANIFEST, json.dumps({**record, "sha256": _hash_text(record)}))
        path, old = self.path / f"{images:012d}", self.path / f".{images:012d}.old"
        if os.path.lexists(path):  # damaged, or of a run that was stopped and has finished since
            files.refuse_link(path)
            foreign = [entry for entry in files.list_folder(path) if not STATE_FILES.fullmatch(entry.name)]
            if foreign or not path.is_dir():
                raise FileExistsError(f"{(foreign or [path])[0]} does not belong to a run and is in the place of a "
                                      "checkpoint; move it elsewhere")
            _remove(old)
            files.move(path, old)
        files.move(temporary, path)
        _remove(old)
        files.sync(self.path)
        # Newer ones are damaged: they do not count among the `keep` states.
        for name in [name for name in self.names() if name <= path.name][:-self.keep]:
            _remove(self.path / name)

    def clean_up(self) -> None:
        """Remove the leftovers of a write that was killed."""
        files.refuse_link(self.path)
        for item in files.list_folder(self.path):
            match = TEMPORARY.fullmatch(item.name)
            if match is None or item.is_symlink() or not item.is_dir():
                continue
            # Killed between the two renames: the old state is intact.
            if match[2] == "old" and not (path := self.path / match[1]).exists():
                files.move(item, path)
            else:
                _remove(item)

    def remove_all(self) -> None:
        """Remove all states; files that a run does not write stay."""
        self.clean_up()  # or the leftovers of a killed write would come back as a state of the new run
        for name in self.names():
            _remove(self.path / name)


def _remove(state: Path) -> None:
    """Remove the files of a state, and its folder if nothing else is in it."""
    if state.is_dir() and not state.is_symlink():
        files.remove_leftovers(state)
        files.remove_folder(state, STATE_FILES)


def _lists_files(entries: Any) -> TypeGuard[dict[str, tuple[int, str]]]:
    """Whether a manifest lists files of a state, each with its size and hash."""
    return isinstance(entries, dict) and bool(entries) and all(
        STATE_FILES.fullmatch(name) and isinstance(entry, list) and [type(value) for value in entry] == [int, str]
        for name, entry in entries.items())


def _check_shapes(tensors: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> None:
    expected = {name: tuple(value.shape) for name, value in tensors.items()}
    for name in sorted(expected.keys() | shapes.keys()):
        if expected.get(name) != shapes.get(name):
            raise ValueError(f"the state to resume from is of another network: {name} is "
                             f"{shapes.get(name, 'missing')} there and {expected.get(name, 'missing')} by run.yaml")


def _write_shards(path: Path, tensors: Mapping[str, Tensor]) -> None:
    import torch.distributed.checkpoint as dcp
    from torch.distributed.checkpoint.api import CheckpointException
    from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageWriter

    try:
        dcp.save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(path), save_distributed=True))
    except CheckpointException as error:  # a BaseException, not an Exception
        raise OSError(f"{path} could not be written: {' '.join(str(error).split())}") from None


def _hash_text(record: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(record, sort_keys=True).encode()).hexdigest()
