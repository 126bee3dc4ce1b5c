"""Tar shards as WebDataset has them: members of one stem are one sample. Nothing is extracted."""

from __future__ import annotations

import functools
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar

import numpy as np

from ornstein.arguments import shorten
from ornstein.data import cache
from ornstein.data.array import load_numbered
from ornstein.data.corpus import Corpus, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import number_labels
from ornstein.data.pictures import FORMATS, Reading
from ornstein.data.remote import RemoteShard
from ornstein.data.spec import printable
from ornstein.files import open_regular

__all__ = ["LocalShard", "load_shards"]

MOST_LABEL = 1_000_000  # bytes of a label or a description
MOST_BESIDE = 4_000_000  # bytes that are read for one member beside its content
MOST_BYTES = 2**30  # of a picture or an array


@dataclass(frozen=True)
class LocalShard:
    """A tar file on this machine."""

    path: Path
    threads: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """Printable path."""
        return printable(str(self.path))

    @functools.cached_property
    def _state(self) -> list[Any]:
        return cache.file_facts(self.path)

    def facts(self) -> list[Any] | None:
        """What changes when the file does: path, size and time of change."""
        return self._state

    def open(self) -> BinaryIO:
        """Open it for reading and seeking."""
        return open_regular(self.path)

    def read(self, offset: int, size: int) -> bytes:
        """Return some of its bytes, if the file still is what it was when its facts were taken."""
        with open_regular(self.path) as file:
            state = os.fstat(file.fileno())
            if [state.st_size, state.st_mtime_ns] != self._state[1:]:
                raise ValueError(f"{self.name}: has changed since it was indexed; start again")
            file.seek(offset)
            return file.read(size)


Shard = LocalShard | RemoteShard  # one tar file; `threads` may read from it at the same time


def load_shards(shards: Sequence[Shard], name: str, where: str, *, layout: str,
                reading: Reading) -> Dataset:
    """Return the samples in tar shards, in the order they lie in: of one stem a picture, or an array in .npy; and its
    label in .cls, or under "label" in .json, a whole number or a text."""
    facts = [shard.facts() for shard in shards]
    indices = [_index(shard, fact) for shard, fact in zip(shards, facts, strict=True)]
    keys = [(number, key) for number, index in enumerate(indices) for key in index["samples"]]
    if not keys:
        raise ValueError(f"{where}: holds no samples; a shard has files such as 000.jpg and 000.cls")
    samples = [indices[number]["samples"][key] for number, key in keys]
    kind = _kind(samples, where)
    labels, classes = number_labels([sample.get("label") for sample in samples], None, where)
    notes = [f"{len(keys)} samples in {len(shards)} shards" if len(shards) > 1 else f"{len(keys)} samples"]
    notes += list(dict.fromkeys(note for index in indices for note in index.get("notes", [])))
    if None in facts:
        notes.append("the server names no version of its shards (ETag, Last-Modified): nothing of them is kept for the "
                     "next start")
    if classes and (missing := int((labels == -1).sum())):
        notes.append(f"samples without a label: {missing}")
    if twice := len(keys) - len({key for _, key in keys}):
        notes.append(f"samples whose name is also in another shard: {twice}; each is kept")
    others = {f"{shards[number].name}: {member}": why for number, index in enumerate(indices)
              for member, why in index["others"].items()}
    shown = [printable(f"{shards[number].name}: {key}" if len(shards) > 1 else key) for number, key in keys]

    read = _Members(shards, [(number, sample.get(kind)) for (number, _), sample in zip(keys, samples, strict=True)])
    if kind == "picture":
        identity = [[key, sample.get(kind)] for (_, key), sample in zip(keys, samples, strict=True)]
        return load_corpus(Corpus(name, where, shown, read, labels, classes, None if None in facts else ["tar", facts],
                                  identity, others, notes), reading)
    arrays = [_array(content, key, where) for content, key in zip(read(np.arange(len(keys))), shown, strict=True)]
    shapes = sorted({(array.shape, array.dtype.name) for array in arrays})
    if len(shapes) > 1:
        raise ValueError(f"{where}: its arrays have {len(shapes)} different shapes or types, such as {shapes[0]} and "
                         f"{shapes[-1]}; write them alike")
    return load_numbered(np.stack(arrays), (labels, classes), notes, layout=layout, name=name, where=where)


def _kind(samples: list[dict[str, Any]], where: str) -> str:
    pictures, arrays = (sum(kind in sample for sample in samples) for kind in ("picture", "array"))
    if pictures and arrays:
        raise ValueError(f"{where}: holds {pictures} pictures and {arrays} arrays; keep one kind")
    if not pictures and not arrays:
        raise ValueError(f"{where}: none of the {len(samples)} samples has a picture ({' '.join(FORMATS)}) or a .npy")
    if arrays not in (0, len(samples)):
        raise ValueError(f"{where}: {len(samples) - arrays} of {len(samples)} samples have no .npy; leave them out")
    return "picture" if pictures else "array"


class _Members:
    """The bytes of samples by their numbers, each at (shard, [offset, size])."""

    def __init__(self, shards: Sequence[Shard], places: list[tuple[int, list[int] | None]]) -> None:
        self.shards, self.places = shards, places

    def __call__(self, rows: np.ndarray) -> list[bytes | Exception]:
        threads = min(len(rows), self.shards[0].threads)
        if threads <= 1:
            return [self._one(row) for row in rows]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._one, rows))

    def _one(self, row: int) -> bytes | Exception:
        shard, place = self.places[row]
        if place is None:
            return ValueError("the sample has no picture")
        content = self.shards[shard].read(*place)
        if len(content) != place[1]:
            raise ValueError(f"{self.shards[shard].name}: was cut since it was indexed; start again")
        return content


def _array(content: bytes | Exception, key: str, where: str) -> np.ndarray:
    try:
        if isinstance(content, Exception):
            raise content
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # broken headers raise a dozen types between them
        raise ValueError(f"{where}: {key}.npy is broken or holds Python objects, which are never loaded "
                         f"({printable(str(error))})") from error


def _index(shard: Shard, facts: list[Any] | None) -> dict[str, Any]:
    """Samples by key, each with its place and label, and the members that are none; kept in the cache."""
    key = None if facts is None else cache.key_of("tar", facts, "AVIF, HEIF")  # endings that were of no picture before
    if key and (index := cache.recall(key)):
        return index
    try:
        with shard.open() as file:
            index = _samples(file, shard.name)
    except tarfile.ReadError as error:
        raise ValueError(f"{shard.name}: is not a plain tar file ({printable(str(error))}); "
                         "unpack a compressed one first") from error
    if key and (note := cache.remember(key, index)):
        return {**index, "notes": [note]}
    return index


class _Headers:
    """A tar file while its headers are read, so that none of them makes `tarfile` read much or for ever: it reads the
    whole of what a header says is a long name or a table of attributes, and calls itself for each header before a
    member."""

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.left, self.seek, self.tell = file, MOST_BESIDE, file.seek, file.tell
        self.fault: ValueError | None = None  # of reading, not of what was read

    def read(self, size: int = -1) -> bytes:
        self.left -= max(size, tarfile.BLOCKSIZE)
        if size < 0 or self.left < 0:
            raise _DamagedError
        try:
            return self.file.read(size)
        except ValueError as error:
            self.fault = error
            raise


class _DamagedError(Exception):
    """A header says what none can."""


def _members(file: _Headers) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """The members of a tar file, each with the file that `tarfile` has made of it."""
    try:
        readable: Any = file
        with tarfile.open(fileobj=readable, mode="r:") as tar:
            for member in tar:
                yield tar, member
    except (ValueError, LookupError, OverflowError, RecursionError) as error:  # of numbers that are none
        if error is file.fault:
            raise
        raise _DamagedError from error


class _TwiceError(ValueError):
    """Two members of one kind in a sample."""


def _samples(file: BinaryIO, name: str) -> dict[str, Any]:
    """Samples by the names of their members up to the first dot, or where that is no sample's up to the last."""
    try:
        return _scan(file, name, _key)
    except _TwiceError as fault:
        try:
            index = _scan(file, name, _long_key)
        except _TwiceError:
            raise fault from None
        # Where a itself is a sample, a.mask is a part of it and no other one.
        if any(_key(key)[0] in index["samples"] for key in index["samples"] if _key(key)[0] != key):
            raise
        return index


def _scan(file: BinaryIO, name: str, split: Callable[[str], tuple[str, str]]) -> dict[str, Any]:
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    samples: dict[str, dict[str, Any]] = {}
    others: dict[str, str] = {}
    headers = _Headers(file)
    last, fault, place = None, "", 0
    try:
        for tar, member in _members(headers):
            last, place, headers.left = member, tar.offset, MOST_BESIDE
            if member.size < 0:
                raise _DamagedError
            if member.isreg() and member.offset_data + member.size > end:
                raise tarfile.ReadError("unexpected end of data")
            _take(tar, member, samples, others, name, split)
            headers.left = MOST_BESIDE
        file.seek(place)
        # tarfile takes a header that it cannot read, and the end of the file, for the end of the archive.
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            fault = "is cut short" if end <= place + tarfile.BLOCKSIZE else "is damaged"
    except tarfile.ReadError:
        if last is None:
            raise
        fault = "is cut short"
    except _DamagedError:
        fault = "is damaged"
    if fault:
        # The last member may be half there, and the sample that it belongs to may have lost others.
        whole = len(samples) - (last is not None and split(last.name)[0] in samples)
        raise ValueError(f"{name}: {fault} at byte {min(end, place)}, after {whole} whole samples; fetch it again")
    return {"samples": samples, "others": others}


def _key(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else "", suffix.lower()


def _long_key(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, suffix = path.name.rpartition(".") if "." in path.name else (path.name, "", "")
    return str(path.with_name(stem)) if stem and not path.name.startswith(".") else "", suffix.lower()


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, samples: dict[str, dict[str, Any]], others: dict[str, str],
          name: str, split: Callable[[str], tuple[str, str]]) -> None:
    shown = printable(member.name)
    if member.isdir():
        return
    key, suffix = split(member.name)
    if not member.isreg() or member.issparse():
        others[shown] = "a link, a device or a sparse file, which is not followed"
        return
    if not key:
        return  # hidden files, as in folders
    sample = samples.setdefault(key, {})
    last = "." + suffix.rpartition(".")[2]
    kind = "picture" if last in FORMATS else {".npy": "array", ".cls": "cls", ".json": "json"}.get(last, "")
    if kind and kind in sample:
        raise _TwiceError(f"{name}: sample {printable(key)} has two members for its {kind}, the second is {shown}; "
                         "keep one")
    if kind in ("picture", "array") and member.size > MOST_BYTES:
        others[shown] = f"{member.size:,} bytes; a member of more than {MOST_BYTES:,} is not read"
    elif kind in ("picture", "array"):
        sample[kind] = [member.offset_data, member.size]
    elif kind:
        sample[kind] = True
        label = _label(tar, member, kind, f"{name}: {shown}")
        if label is not None and (kind == "cls" or "label" not in sample):
            sample["label"] = label
    else:
        others[shown] = "not a picture, an array or a label"


def _label(tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str, where: str) -> int | str | None:
    file = tar.extractfile(member)
    if file is None or member.size > MOST_LABEL:
        raise ValueError(f"{where}: {member.size} bytes are no label; at most {MOST_LABEL} are read")
    try:
        text = file.read().decode()
        label = text.strip() if kind == "cls" else json.loads(text).get("label")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{where}: is not {'text' if kind == 'cls' else 'a JSON table'}; write it again") from error
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
        raise ValueError(f"{where}: its label is {shorten(repr(label))}; it must be a whole number or text")
    # Numbers in .cls files are text, in .json files mostly numbers: both become text, and texts of digits numbers.
    return str(label) if label is not None and str(label) else None
