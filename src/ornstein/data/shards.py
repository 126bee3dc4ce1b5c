"""Tar shards in the WebDataset format: members with the same stem are one sample. Nothing is extracted."""

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
from ornstein.data.array import load_labelled
from ornstein.data.corpus import Corpus, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import number_labels
from ornstein.data.pictures import FORMATS, ReadOptions
from ornstein.data.remote import RemoteShard
from ornstein.data.spec import printable
from ornstein.files import open_regular

__all__ = ["LocalShard", "load_shards"]

MAX_LABEL_BYTES = 1_000_000  # of a label or a JSON member
MAX_HEADER_BYTES = 4_000_000  # read for one member in addition to its content
MAX_MEMBER_BYTES = 2**30  # of a picture or an array


@dataclass(frozen=True)
class LocalShard:
    """A local tar file."""

    path: Path
    threads: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """The printable path."""
        return printable(str(self.path))

    @functools.cached_property
    def _file_state(self) -> list[Any]:
        return cache.file_state(self.path)

    def signature(self) -> list[Any] | None:
        """Return path, size and modification time, which change with the file."""
        return self._file_state

    def open(self) -> BinaryIO:
        """Open the shard for reading and seeking."""
        return open_regular(self.path)

    def read(self, offset: int, size: int) -> bytes:
        """Return `size` bytes from `offset`; ValueError if the file has changed since its state was recorded."""
        with open_regular(self.path) as file:
            state = os.fstat(file.fileno())
            if [state.st_size, state.st_mtime_ns] != self._file_state[1:]:
                raise ValueError(f"{self.name}: changed since it was indexed; start again")
            file.seek(offset)
            return file.read(size)


Shard = LocalShard | RemoteShard  # a tar file that `threads` may read concurrently


def load_shards(shards: Sequence[Shard], name: str, where: str, *, layout: str, options: ReadOptions) -> Dataset:
    """Return the samples in tar shards in stored order.

    A sample is a picture or a .npy array, with a label, a whole number or text, in .cls or under "label" in .json.
    """
    signatures = [shard.signature() for shard in shards]
    indices = [_load_index(shard, signature) for shard, signature in zip(shards, signatures, strict=True)]
    keys = [(number, key) for number, index in enumerate(indices) for key in index["samples"]]
    if not keys:
        raise ValueError(f"{where}: holds no samples; a shard has files such as 000.jpg and 000.cls")
    samples = [indices[number]["samples"][key] for number, key in keys]
    kind = _sample_kind(samples, where)
    labels, classes = number_labels([sample.get("label") for sample in samples], None, where)
    notes = [f"{len(keys)} samples in {len(shards)} shards" if len(shards) > 1 else f"{len(keys)} samples"]
    notes += list(dict.fromkeys(note for index in indices for note in index.get("notes", [])))
    if None in signatures:
        notes.append("the server names no version of its shards (ETag, Last-Modified): nothing is cached for the "
                     "next start")
    if classes and (unlabelled := int((labels == -1).sum())):
        notes.append(f"samples without a label: {unlabelled}")
    if duplicates := len(keys) - len({key for _, key in keys}):
        notes.append(f"samples whose name is also in another shard: {duplicates}; all are kept")
    skipped = {f"{shards[number].name}: {member}": reason for number, index in enumerate(indices)
               for member, reason in index["others"].items()}
    names = [printable(f"{shards[number].name}: {key}" if len(shards) > 1 else key) for number, key in keys]

    locations = [(number, sample.get(kind)) for (number, _), sample in zip(keys, samples, strict=True)]
    read = _MemberReader(shards, locations)
    if kind == "picture":
        listing = None if None in signatures else ["tar", signatures]
        identity = [[key, sample.get(kind)] for (_, key), sample in zip(keys, samples, strict=True)]
        corpus = Corpus(name, where, names, read, labels, classes, listing=listing, identity=identity,
                        skipped=skipped, notes=notes)
        return load_corpus(corpus, options)
    contents = read(np.arange(len(keys)))
    arrays = [_decode_array(content, key, where) for content, key in zip(contents, names, strict=True)]
    shapes = sorted({(array.shape, array.dtype.name) for array in arrays})
    if len(shapes) > 1:
        raise ValueError(f"{where}: its arrays have {len(shapes)} different shapes or types, such as {shapes[0]} and "
                         f"{shapes[-1]}; save all in one shape and type")
    return load_labelled(np.stack(arrays), (labels, classes), notes, layout=layout, name=name, where=where)


def _sample_kind(samples: list[dict[str, Any]], where: str) -> str:
    pictures, arrays = (sum(kind in sample for sample in samples) for kind in ("picture", "array"))
    if pictures and arrays:
        raise ValueError(f"{where}: holds {pictures} pictures and {arrays} arrays; keep one kind")
    if not pictures and not arrays:
        raise ValueError(f"{where}: none of the {len(samples)} samples has a picture ({' '.join(FORMATS)}) or a .npy")
    if arrays not in (0, len(samples)):
        raise ValueError(f"{where}: {len(samples) - arrays} of {len(samples)} samples have no .npy; leave them out")
    return "picture" if pictures else "array"


class _MemberReader:
    """Reader of the bytes of samples by row, each at (shard, [offset, size])."""

    def __init__(self, shards: Sequence[Shard], locations: list[tuple[int, list[int] | None]]) -> None:
        self.shards, self._locations = shards, locations

    def __call__(self, rows: np.ndarray) -> list[bytes | Exception]:
        threads = min(len(rows), self.shards[0].threads)
        if threads <= 1:
            return [self._read_one(row) for row in rows]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(self._read_one, rows))

    def _read_one(self, row: int) -> bytes | Exception:
        shard, location = self._locations[row]
        if location is None:
            return ValueError("the sample has no picture")
        content = self.shards[shard].read(*location)
        if len(content) != location[1]:
            raise ValueError(f"{self.shards[shard].name}: was truncated since it was indexed; start again")
        return content


def _decode_array(content: bytes | Exception, key: str, where: str) -> np.ndarray:
    try:
        if isinstance(content, Exception):
            raise content
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # broken headers raise many types of error
        raise ValueError(f"{where}: {key}.npy is broken or holds Python objects, which are never loaded "
                         f"({printable(str(error))})") from error


def _load_index(shard: Shard, signature: list[Any] | None) -> dict[str, Any]:
    """Return the samples of a shard by key, each with location and label, and the skipped members; cached."""
    # Key the cache by the suffixes added since the first version.
    key = None if signature is None else cache.make_key("tar", signature, "AVIF, HEIF")
    if key and (index := cache.load_record(key)):
        return index
    try:
        with shard.open() as file:
            index = _index_shard(file, shard.name)
    except tarfile.ReadError as error:
        raise ValueError(f"{shard.name}: is not a plain tar file ({printable(str(error))}); "
                         "unpack a compressed one first") from error
    if key and (note := cache.save_record(key, index)):
        return {**index, "notes": [note]}
    return index


class _LimitedFile:
    """A tar file that limits how much `tarfile` reads for the headers of one member.

    Otherwise a header could announce a huge name or attribute table, or be followed by an endless chain of headers.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.file, self.bytes_left, self.seek, self.tell = file, MAX_HEADER_BYTES, file.seek, file.tell
        self.error: ValueError | None = None  # raised by reading, not by parsing

    def read(self, size: int = -1) -> bytes:
        self.bytes_left -= max(size, tarfile.BLOCKSIZE)
        if size < 0 or self.bytes_left < 0:
            raise _DamagedError
        try:
            return self.file.read(size)
        except ValueError as error:
            self.error = error
            raise


class _DamagedError(Exception):
    """A header is invalid."""


def _iterate_members(file: _LimitedFile) -> Iterator[tuple[tarfile.TarFile, tarfile.TarInfo]]:
    """Yield the members of a tar file, each with the open `tarfile`."""
    try:
        readable: Any = file
        with tarfile.open(fileobj=readable, mode="r:") as tar:
            for member in tar:
                yield tar, member
    except (ValueError, LookupError, OverflowError, RecursionError) as error:  # from invalid numbers
        if error is file.error:
            raise
        raise _DamagedError from error


class _DuplicateError(ValueError):
    """A sample has two members of one kind."""


def _index_shard(file: BinaryIO, name: str) -> dict[str, Any]:
    """Index samples by member name up to the first dot, or up to the last if that gives duplicates."""
    try:
        return _scan(file, name, _split_at_first_dot)
    except _DuplicateError as error:
        try:
            index = _scan(file, name, _split_at_last_dot)
        except _DuplicateError:
            raise error from None
        # If a is a sample, a.mask is a member of it, not another sample.
        for key in index["samples"]:
            stem = _split_at_first_dot(key)[0]
            if stem != key and stem in index["samples"]:
                raise
        return index


def _scan(file: BinaryIO, name: str, split: Callable[[str], tuple[str, str]]) -> dict[str, Any]:
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    samples: dict[str, dict[str, Any]] = {}
    skipped: dict[str, str] = {}
    headers = _LimitedFile(file)
    last_member, problem, position = None, "", 0
    try:
        for tar, member in _iterate_members(headers):
            last_member, position, headers.bytes_left = member, tar.offset, MAX_HEADER_BYTES
            if member.size < 0:
                raise _DamagedError
            if member.isreg() and member.offset_data + member.size > size:
                raise tarfile.ReadError("unexpected end of data")
            _index_member(tar, member, samples, skipped, name, split)
            headers.bytes_left = MAX_HEADER_BYTES
        file.seek(position)
        # tarfile takes an unreadable header or the end of the file for the end of the archive.
        if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
            problem = "is truncated" if size <= position + tarfile.BLOCKSIZE else "is damaged"
    except tarfile.ReadError:
        if last_member is None:
            raise
        problem = "is truncated"
    except _DamagedError:
        problem = "is damaged"
    if problem:
        # The sample of the last member may be incomplete.
        complete = len(samples) - (last_member is not None and split(last_member.name)[0] in samples)
        raise ValueError(f"{name}: {problem} at byte {min(size, position)}, after {complete} complete samples; "
                         "fetch it again")
    return {"samples": samples, "others": skipped}


def _split_at_first_dot(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else "", suffix.lower()


def _split_at_last_dot(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, suffix = path.name.rpartition(".") if "." in path.name else (path.name, "", "")
    return str(path.with_name(stem)) if stem and not path.name.startswith(".") else "", suffix.lower()


def _index_member(tar: tarfile.TarFile, member: tarfile.TarInfo, samples: dict[str, dict[str, Any]],
                  skipped: dict[str, str], name: str, split: Callable[[str], tuple[str, str]]) -> None:
    printed = printable(member.name)
    if member.isdir():
        return
    key, suffix = split(member.name)
    if not member.isreg() or member.issparse():
        skipped[printed] = "a link, a device or a sparse file, which is not followed"
        return
    if not key:
        return  # hidden files are ignored, as in folders
    sample = samples.setdefault(key, {})
    extension = "." + suffix.rpartition(".")[2]
    kind = "picture" if extension in FORMATS else {".npy": "array", ".cls": "cls", ".json": "json"}.get(extension, "")
    if kind and kind in sample:
        raise _DuplicateError(f"{name}: sample {printable(key)} has two members for its {kind}, the second is "
                              f"{printed}; keep one")
    if kind in ("picture", "array") and member.size > MAX_MEMBER_BYTES:
        skipped[printed] = f"{member.size:,} bytes; at most {MAX_MEMBER_BYTES:,} are read"
    elif kind in ("picture", "array"):
        sample[kind] = [member.offset_data, member.size]
    elif kind:
        sample[kind] = True
        label = _read_label(tar, member, kind, f"{name}: {printed}")
        if label is not None and (kind == "cls" or "label" not in sample):
            sample["label"] = label
    else:
        skipped[printed] = "not a picture, an array or a label"


def _read_label(tar: tarfile.TarFile, member: tarfile.TarInfo, kind: str, where: str) -> int | str | None:
    file = tar.extractfile(member)
    if file is None or member.size > MAX_LABEL_BYTES:
        raise ValueError(f"{where}: {member.size} bytes are too many for a label; at most {MAX_LABEL_BYTES} are "
                         "allowed")
    try:
        text = file.read().decode()
        label = text.strip() if kind == "cls" else json.loads(text).get("label")
    except (ValueError, AttributeError, RecursionError) as error:
        raise ValueError(f"{where}: is not {'text' if kind == 'cls' else 'a JSON object'}; write it again") from error
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
        raise ValueError(f"{where}: its label is {shorten(repr(label))}; it must be a whole number or text")
    # .cls files hold numbers as text, .json files mostly as numbers: return text, which `number_labels` parses.
    return str(label) if label is not None and str(label) else None
