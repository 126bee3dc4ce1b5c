"""From what the user names, a path, a glob or a range in braces, to files."""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ornstein.arguments import shorten
from ornstein.data.pictures import FORMATS, UNREAD, pages
from ornstein.files import open_regular

__all__ = ["ALONE", "braced", "called", "files_of", "is_pattern"]

PACKED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")
TABLES = (".parquet", ".tar")
ALONE = (".npy", ".npz", ".csv", ".tsv")
OTHERWISE = {  # what to do with files that hold data and are not read
    **dict.fromkeys((".json", ".jsonl", ".xlsx", ".ods"), "is not read; save its table as .csv"),
    **dict.fromkeys((".pt", ".pth", ".pkl", ".pickle"), "could run code, so it is never loaded; save its numbers as "
                    ".npy, with numpy.save"),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".nc", ".zarr", ".nii"), "is not read; save its numbers as .npy, with "
                    "numpy.save"),
    **dict.fromkeys((*FORMATS, *UNREAD), "is one picture; give several, or the folder that holds them")}
MOST_FILES = 100_000  # in one set
MOST_LIST = 2**26  # bytes of a text file that lists others
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
                raise ValueError(f"data {shorten(source)!r} counts from {first} down to {last}; "
                                 "write the lower first")
            if last - first >= MOST_FILES:
                raise _too_many(source)
            parts.append([f"{number:0{len(span[1])}d}" for number in range(first, last + 1)])
        else:
            parts.append(piece[1:-1].split(",") if piece.startswith("{") and "," in piece else piece)
    return parts


def _too_many(source: str) -> ValueError:
    return ValueError(f"data {shorten(source)!r} names more than {MOST_FILES:,} files; that many are not read as one "
                      "set: pack them into larger ones")


def files_of(source: str | Path | Sequence[str | Path]) -> tuple[str, list[Path]]:
    """Return what kind of files a file, a folder, a pattern, or several of them name, and which: ".parquet", ".tar",
    ".npy", ".npz", ".csv", ".tsv", "pictures" or "folder"."""
    if not isinstance(source, str | Path):
        return _several([file for one in source for file in _named(one)], called(source))
    path = Path(os.path.expanduser(source))
    where = shorten(str(source))
    if not os.path.exists(path) and is_pattern(str(source)):
        return _several(_named(source), where)
    kind = path.suffix.lower()
    if os.path.isdir(path):
        return _folder(path, where)
    if kind == ".txt" and os.path.isfile(path):
        return _several(_listed(path, where), where)
    if len(pages(path)) > 1:
        return "pictures", [path]
    if kind in OTHERWISE and os.path.exists(path):
        raise ValueError(f"{where}: {OTHERWISE[kind]}")
    if kind in PACKED and os.path.exists(path):
        raise ValueError(f"{where}: is packed; unpack it first, into a folder or to a plain .tar")
    return (kind if kind in (*TABLES, *ALONE) else "folder"), [path]


def called(sources: Sequence[str | Path]) -> str:
    """Return how messages call several files."""
    first = shorten(str(sources[0]))
    return first if len(sources) == 1 else f"{first} and {len(sources) - 1} more"


def _named(source: str | Path) -> list[Path]:
    """The files that a path or a pattern names, in order."""
    path, paths = Path(os.path.expanduser(source)), []
    if os.path.exists(path) or not is_pattern(str(source)):
        return [path]
    for name in braced(str(path)):
        files = sorted(map(Path, glob.glob(name, recursive=True))) if any(mark in name for mark in "*?[") else [
            Path(name)]
        files = [one for one in files if os.path.isfile(one)]
        paths += files
        if not files:
            raise FileNotFoundError(f"{shorten(str(source))}: no file is named like {shorten(name)}")
    return paths


def _listed(path: Path, where: str) -> list[Path]:
    """The files that a text file lists, one path a line, relative to its folder."""
    with open_regular(path) as file:
        content = file.read(MOST_LIST + 1)
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{where}: is no text; a .txt file lists pictures, one path a line") from None
    if len(content) > MOST_LIST or not any(lines):
        raise ValueError(f"{where}: is {'too long' if any(lines) else 'empty'}; a .txt file lists pictures, one path a "
                         "line")
    return [path.parent / os.path.expanduser(line) for line in lines if line]


def _several(paths: list[Path], where: str) -> tuple[str, list[Path]]:
    """The kind of several files, which must be there and of one kind."""
    if missing := [shorten(str(one)) for one in paths if not os.path.exists(one)]:
        number = "1 file that is" if len(missing) == 1 else f"{len(missing):,} files that are"
        raise FileNotFoundError(f"{where}: names {number} not there: {', '.join(missing[:3])}"
                                + (" ..." if len(missing) > 3 else ""))
    if folders := [shorten(str(one)) for one in paths if os.path.isdir(one)]:
        raise ValueError(f"{where}: names a folder, {folders[0]}; give one folder alone, whose sub-folders are "
                         "classes, or files")
    kinds = sorted({one.suffix.lower() for one in paths})
    if set(kinds) <= {*FORMATS, *UNREAD}:
        return "pictures", paths
    if len(kinds) != 1 or kinds[0] not in TABLES:
        raise ValueError(f"{where}: names files {' '.join(kinds)}; they must be pictures, or .parquet or .tar files of "
                         "one kind")
    return kinds[0], paths


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
