"""From what the user names, a path, a glob or a range in braces, to files."""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
from pathlib import Path

from ornstein.data.pictures import FORMATS, UNREAD
from ornstein.data.spec import printable
from ornstein.names import shortened

__all__ = ["braced", "files_of", "is_pattern"]

PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")
TABLES = (".parquet", ".tar")
OTHERWISE = {  # what to do with files that hold data and are not read
    **dict.fromkeys((".csv", ".tsv", ".json", ".jsonl", ".xlsx"), "is a table of text; save its numbers as .npy, "
                    "numpy.save('x.npy', pandas.read_csv('x.csv').to_numpy())"),
    **dict.fromkeys((".pt", ".pth", ".pkl", ".pickle"), "could run code, so it is never loaded; save its numbers as "
                    ".npy, with numpy.save"),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".nc", ".zarr", ".nii"), "is not read; save its numbers as .npy, with "
                    "numpy.save"),
    **dict.fromkeys((*FORMATS, *UNREAD), "is one file; give the folder that holds the pictures")}
MOST_FILES = 100_000  # in one set
MOST_DIGITS = 18  # of a number in a range


def is_pattern(source: str) -> bool:
    """Whether a text names several files, by *, ? or [...], or by {000..009} or {a,b}."""
    return any(mark in source for mark in "*?[") or any(isinstance(part, list) for part in _parts(source))


def braced(source: str) -> list[str]:
    """Return the names that {000..009} and {a,b} stand for, in order; numbers keep their leading zeros."""
    words = [part if isinstance(part, list) else [part] for part in _parts(source)]
    if math.prod(map(len, words)) > MOST_FILES:
        raise _too_many(source)
    return ["".join(name) for name in itertools.product(*words)]


def _parts(source: str) -> list[str | list[str]]:
    """A text cut at its braces, each with the words that it stands for."""
    parts: list[str | list[str]] = []
    for piece in re.split(r"(\{[^{}]*\})", source):
        if span := re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece):
            if max(map(len, span.groups())) > MOST_DIGITS:
                raise _too_many(source)
            first, last = map(int, span.groups())
            if last < first:
                raise ValueError(f"data {shortened(source)!r} counts from {first} down to {last}; "
                                 "write the lower first")
            if last - first >= MOST_FILES:
                raise _too_many(source)
            parts.append([f"{number:0{len(span[1])}d}" for number in range(first, last + 1)])
        else:
            parts.append(piece[1:-1].split(",") if piece.startswith("{") and "," in piece else piece)
    return parts


def _too_many(source: str) -> ValueError:
    return ValueError(f"data {shortened(source)!r} names more than {MOST_FILES:,} files; that many are not read as one "
                      "set: pack them into larger ones")


def files_of(source: str | Path) -> tuple[str, list[Path]]:
    """Return what kind of files a file, a folder or a pattern names, and which: ".parquet", ".tar", ".npy", ".npz" or
    "folder"."""
    path = Path(os.path.expanduser(source))
    where = shortened(str(source))
    if not os.path.exists(path) and is_pattern(str(source)):
        paths = []
        for name in braced(str(path)):
            files = sorted(map(Path, glob.glob(name))) if any(mark in name for mark in "*?[") else [Path(name)]
            files = [one for one in files if os.path.isfile(one)]
            paths += files
            if not files:
                raise FileNotFoundError(f"{where}: no file is named like {shortened(name)}")
        kinds = sorted({one.suffix.lower() for one in paths})
        if set(kinds) <= {*FORMATS, *UNREAD}:
            places = sorted({str(one.parent) for one in paths})
            raise ValueError(f"{where}: names {len(paths)} pictures; give the folder that holds them"
                             + (f", {printable(places[0])}" if len(places) == 1 else ""))
        if len(kinds) != 1 or kinds[0] not in TABLES:
            raise ValueError(f"{where}: names files {' '.join(kinds)}; it must be .parquet or .tar files, of one kind")
        return kinds[0], paths
    kind = path.suffix.lower()
    if os.path.isdir(path):
        return _folder(path, where)
    if kind in OTHERWISE and os.path.exists(path):
        raise ValueError(f"{where}: {OTHERWISE[kind]}")
    if kind in PACKED and os.path.exists(path):
        raise ValueError(f"{where}: is packed; unpack it first, into a folder or to a plain .tar")
    return (kind if kind in (*TABLES, ".npy", ".npz") else "folder"), [path]


def _folder(path: Path, where: str) -> tuple[str, list[Path]]:
    inside = sorted(one for one in path.iterdir() if not one.name.startswith("."))
    tables = [one for one in inside if one.suffix.lower() in TABLES and one.is_file()]
    kinds = {one.suffix.lower() for one in tables}
    if not kinds:
        return "folder", [path]
    pictures = sum(one.suffix.lower() in FORMATS for one in inside)
    if len(kinds) > 1 or pictures:
        raise ValueError(f"{where}: holds {len(tables)} files {' '.join(sorted(kinds))} and {pictures} pictures; "
                         "name those that are meant")
    return kinds.pop(), tables
