"""Tar shards as WebDataset has them: members of one stem are one sample. Nothing is extracted."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, ClassVar, Protocol

import numpy as np

from ornstein.data import cache
from ornstein.data.array import load_array
from ornstein.data.corpus import Corpus, check_size, load_corpus
from ornstein.data.dataset import Dataset
from ornstein.data.labels import number_labels
from ornstein.data.pictures import FORMATS
from ornstein.data.spec import printable
from ornstein.files import open_regular

__all__ = ["LocalShard", "Shard", "load_shards"]

MOST_BESIDE = 1_000_000  # bytes of a label or a description


class Shard(Protocol):
    """One tar file, here or elsewhere; `threads` may read from it at the same time."""

    threads: ClassVar[int]

    @property
    def name(self) -> str:
        """How messages call it."""
        ...

    def facts(self) -> list[Any]:
        """What changes when the shard does, as JSON values."""
        ...

    def open(self) -> BinaryIO:
        """Open it for reading and seeking."""
        ...

    def read(self, offset: int, size: int) -> bytes:
        """Return some of its bytes; threads may ask at the same time."""
        ...


@dataclass(frozen=True)
class LocalShard:
    """A tar file on this machine.

    Args:
        path: of the file.
    """

    path: Path
    threads: ClassVar[int] = 1

    @property
    def name(self) -> str:
        """Printable path."""
        return printable(str(self.path))

    def facts(self) -> list[Any]:
        """Path, size and time of change."""
        return cache.file_facts(self.path)

    def open(self) -> BinaryIO:
        """Open it for reading and seeking."""
        return open_regular(self.path)

    def read(self, offset: int, size: int) -> bytes:
        """Return some of its bytes."""
        with open_regular(self.path) as file:
            return os.pread(file.fileno(), size, offset)


def load_shards(shards: Sequence[Shard], name: str, where: str, *, size: int | None = None, layout: str = "auto",
                reader: str = "auto") -> Dataset:
    """Return the samples in tar shards, in the order they lie in.

    A sample is the members of one stem: a picture, or an array in .npy; and its label in .cls, or under "label" in
    .json, a whole number or a text.

    Args:
        shards: at least one.
        name: short name of the source.
        where: how messages call it.
        size: of pictures, as in `load_corpus`.
        layout: of arrays, as in `load_array`.
        reader: of pictures, as in `load_corpus`.

    Raises:
        ValueError: a shard that is no tar file, is cut short or names a member twice; samples of several pictures;
            none at all; or what `load_corpus` or `load_array` refuses.
    """
    check_size(size)
    facts = [shard.facts() for shard in shards]
    indices = [_index(shard, own) for shard, own in zip(shards, facts, strict=True)]
    keys = [(number, key) for number, index in enumerate(indices) for key in index["samples"]]
    if not keys:
        raise ValueError(f"{where}: holds no samples; a shard has files such as 000.jpg and 000.cls")
    samples = [indices[number]["samples"][key] for number, key in keys]
    kind = _kind(samples, where)
    labels, classes = number_labels([sample.get("label") for sample in samples], None, where)
    notes = [f"{len(keys)} samples in {len(shards)} shards" if len(shards) > 1 else f"{len(keys)} samples"]
    if classes and (missing := int((labels == -1).sum())):
        notes.append(f"samples without a label: {missing}")
    if twice := len(keys) - len({key for _, key in keys}):
        notes.append(f"samples whose name is also in another shard: {twice}; each is kept")
    others = {f"{shards[number].name}: {member}": why for number, index in enumerate(indices)
              for member, why in index["others"].items()}
    shown = [printable(f"{shards[number].name}: {key}" if len(shards) > 1 else key) for number, key in keys]

    def member(row: int) -> bytes | Exception:
        return _member(shards[keys[row][0]], samples[row].get(kind))

    def read(rows: np.ndarray) -> list[bytes | Exception]:
        threads = min(len(rows), shards[0].threads)
        if threads <= 1:
            return [member(row) for row in rows]
        with ThreadPoolExecutor(threads) as pool:
            return list(pool.map(member, rows))

    if kind == "picture":
        identity = [[key, sample.get(kind)] for (_, key), sample in zip(keys, samples, strict=True)]
        return load_corpus(Corpus(name, where, shown, read, labels, classes, ["tar", facts], identity, others, notes),
                           size, reader)
    arrays = [_array(content, key, where) for content, key in zip(read(np.arange(len(keys))), shown, strict=True)]
    shapes = sorted({(array.shape, array.dtype.name) for array in arrays})
    if len(shapes) > 1:
        raise ValueError(f"{where}: its arrays have {len(shapes)} different shapes or types, such as {shapes[0]} and "
                         f"{shapes[-1]}; write them alike")
    data = load_array(np.stack(arrays), labels if classes else None, np.array(classes, dtype=str) if classes else None,
                      layout=layout, name=name, where=where)
    data.notes[:0] = notes
    return data


def _kind(samples: list[dict[str, Any]], where: str) -> str:
    pictures, arrays = (sum(kind in sample for sample in samples) for kind in ("picture", "array"))
    if pictures and arrays:
        raise ValueError(f"{where}: holds {pictures} pictures and {arrays} arrays; keep one kind")
    if not pictures and not arrays:
        raise ValueError(f"{where}: none of the {len(samples)} samples has a picture ({' '.join(FORMATS)}) or a .npy")
    if arrays not in (0, len(samples)):
        raise ValueError(f"{where}: {len(samples) - arrays} of {len(samples)} samples have no .npy; leave them out")
    return "picture" if pictures else "array"


def _member(shard: Shard, place: list[int] | None) -> bytes | Exception:
    if place is None:
        return ValueError("the sample has no picture")
    content = shard.read(*place)
    return content if len(content) == place[1] else ValueError("the shard was cut since it was indexed")


def _array(content: bytes | Exception, key: str, where: str) -> np.ndarray:
    try:
        if isinstance(content, Exception):
            raise content
        return np.load(io.BytesIO(content), allow_pickle=False)
    except Exception as error:  # broken headers raise a dozen types between them
        raise ValueError(f"{where}: {key}.npy is broken or holds Python objects, which are never loaded "
                         f"({printable(str(error))})") from error


def _index(shard: Shard, facts: list[Any]) -> dict[str, Any]:
    """Samples by key, each with its place and label, and the members that are none; kept in the cache."""
    key = cache.key_of("tar", facts)
    if index := cache.recall(key):
        return index
    try:
        with shard.open() as file:
            index = _scan(file, shard.name)
    except tarfile.ReadError as error:
        raise ValueError(f"{shard.name}: is not a plain tar file ({printable(str(error))}); "
                         "unpack a compressed one first") from error
    cache.remember(key, index)
    return index


def _scan(file: BinaryIO, name: str) -> dict[str, Any]:
    end = file.seek(0, io.SEEK_END)
    file.seek(0)
    samples: dict[str, dict[str, Any]] = {}
    others: dict[str, str] = {}
    with tarfile.open(fileobj=file, mode="r:") as tar:
        last, fault = None, ""
        try:
            for member in tar:
                last = member
                if member.isreg() and member.offset_data + member.size > end:
                    raise tarfile.ReadError("unexpected end of data")
                _take(tar, member, samples, others, name)
            file.seek(tar.offset)
            # tarfile takes a header that it cannot read, and the end of the file, for the end of the archive.
            if file.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
                fault = "is cut short" if end <= tar.offset + tarfile.BLOCKSIZE else "is damaged"
        except tarfile.ReadError:
            fault = "is cut short"
        if fault:
            # The last member may be half there, and the sample that it belongs to may have lost others.
            whole = len(samples) - (last is not None and _key(last.name)[0] in samples)
            raise ValueError(f"{name}: {fault} at byte {min(end, tar.offset)}, after {whole} whole samples; "
                             "fetch it again")
    return {"samples": samples, "others": others}


def _key(name: str) -> tuple[str, str]:
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition(".")
    return str(path.with_name(stem)) if stem else "", suffix.lower()


def _take(tar: tarfile.TarFile, member: tarfile.TarInfo, samples: dict[str, dict[str, Any]], others: dict[str, str],
          name: str) -> None:
    shown = printable(member.name)
    if member.isdir():
        return
    key, suffix = _key(member.name)
    if not member.isreg() or member.issparse():
        others[shown] = "a link, a device or a sparse file, which is not followed"
        return
    if not key:
        return  # hidden files, as in folders
    sample = samples.setdefault(key, {})
    last = "." + suffix.rpartition(".")[2]
    kind = "picture" if last in FORMATS else {".npy": "array", ".cls": "cls", ".json": "json"}.get(last, "")
    if kind and kind in sample:
        raise ValueError(f"{name}: sample {printable(key)} has two members for its {kind}, the second is {shown}; "
                         "keep one")
    if kind in ("picture", "array"):
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
    if file is None or member.size > MOST_BESIDE:
        raise ValueError(f"{where}: {member.size} bytes are no label; at most {MOST_BESIDE} are read")
    try:
        text = file.read().decode()
        label = text.strip() if kind == "cls" else json.loads(text).get("label")
    except (ValueError, AttributeError) as error:
        raise ValueError(f"{where}: is not {'text' if kind == 'cls' else 'a JSON table'}; write it again") from error
    if label is not None and (isinstance(label, bool) or not isinstance(label, int | str)):
        raise ValueError(f"{where}: its label is {label!r}; it must be a whole number or text")
    # Numbers in .cls files are text, in .json files mostly numbers: both become text, and texts of digits numbers.
    return str(label) if label is not None and str(label) else None
