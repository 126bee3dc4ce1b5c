"""Resolution of paths, globs and brace patterns to data files."""

from __future__ import annotations

import glob
import itertools
import math
import os
import re
from collections.abc import Sequence
from pathlib import Path

from ornstein.arguments import shorten
from ornstein.data.pictures import FORMATS, UNSUPPORTED, page_numbers
from ornstein.files import open_regular

__all__ = ["SINGLE_FILE", "expand_braces", "find_files", "is_pattern", "summarize"]

COMPRESSED = (".gz", ".tgz", ".bz2", ".xz", ".zst", ".zip")
MULTI_FILE = (".parquet", ".tar")
SINGLE_FILE = (".npy", ".npz", ".csv", ".tsv")
UNSUPPORTED_ADVICE = {  # advice for data files that cannot be read
    **dict.fromkeys((".json", ".jsonl", ".xlsx", ".ods"), "is not read; save its table as .csv"),
    **dict.fromkeys((".pt", ".pth", ".pkl", ".pickle"), "could run code, so it is never loaded; save its numbers as "
                    ".npy, with numpy.save"),
    **dict.fromkeys((".h5", ".hdf5", ".mat", ".nc", ".zarr", ".nii"), "is not read; save its numbers as .npy, with "
                    "numpy.save"),
    **dict.fromkeys((*FORMATS, *UNSUPPORTED), "is one picture; give several, or the folder that holds them")}
MAX_FILES = 100_000  # in one data set
MAX_LIST_BYTES = 2**26  # size of a text file that lists pictures
MAX_DIGITS = 18  # of a number in a range


def is_pattern(source: str) -> bool:
    """Whether a text may name several files, with *, ? or [...], or with {000..009} or {a,b}."""
    return any(mark in source for mark in "*?[") or any(isinstance(part, list) for part in _split_braces(source))


def expand_braces(source: str) -> list[str]:
    """Return the names that a text with {000..009} or {a,b} stands for, in order; numbers keep their leading zeros."""
    alternatives = [part if isinstance(part, list) else [part] for part in _split_braces(source)]
    if math.prod(map(len, alternatives)) > MAX_FILES:
        raise _too_many(source)
    return ["".join(name) for name in itertools.product(*alternatives)]


def _split_braces(source: str) -> list[str | list[str]]:
    """Split a text at its braces; each pair becomes the list of its alternatives."""
    parts: list[str | list[str]] = []
    for piece in re.split(r"(\{[^{}]*\})", source):
        if span := re.fullmatch(r"\{(\d+)\.\.(\d+)\}", piece):
            if max(map(len, span.groups())) > MAX_DIGITS:
                raise _too_many(source)
            first, last = map(int, span.groups())
            if last < first:
                raise ValueError(f"data {shorten(source)!r} counts from {first} down to {last}; "
                                 "write the lower first")
            if last - first >= MAX_FILES:
                raise _too_many(source)
            parts.append([f"{number:0{len(span[1])}d}" for number in range(first, last + 1)])
        else:
            parts.append(piece[1:-1].split(",") if piece.startswith("{") and "," in piece else piece)
    return parts


def _too_many(source: str) -> ValueError:
    return ValueError(f"data {shorten(source)!r} names more than {MAX_FILES:,} files, the maximum for one "
                      "set; pack them into larger ones")


def find_files(source: str | Path | Sequence[str | Path]) -> tuple[str, list[Path]]:
    """Return the kind and the paths of the files that one or several paths, folders or patterns name.

    The kind is ".parquet", ".tar", ".npy", ".npz", ".csv", ".tsv", "pictures" or "folder".
    """
    if not isinstance(source, str | Path):
        return _check_files([file for name in source for file in _expand(name)], summarize(source))
    path = Path(os.path.expanduser(source))
    where = shorten(str(source))
    if not os.path.exists(path) and is_pattern(str(source)):
        return _check_files(_expand(source), where)
    kind = path.suffix.lower()
    if os.path.isdir(path):
        return _folder_kind(path, where)
    if kind == ".txt" and os.path.isfile(path):
        return _check_files(_read_list(path, where), where)
    if len(page_numbers(path)) > 1:
        return "pictures", [path]
    if kind in UNSUPPORTED_ADVICE and os.path.exists(path):
        raise ValueError(f"{where}: {UNSUPPORTED_ADVICE[kind]}")
    if kind in COMPRESSED and os.path.exists(path):
        raise ValueError(f"{where}: is compressed; unpack it first, into a folder or a plain .tar")
    return (kind if kind in (*MULTI_FILE, *SINGLE_FILE) else "folder"), [path]


def summarize(sources: Sequence[str | Path]) -> str:
    """Return a short name for several files, for messages."""
    first = shorten(str(sources[0]))
    return first if len(sources) == 1 else f"{first} and {len(sources) - 1} more"


def _expand(source: str | Path) -> list[Path]:
    """Return the files that a path or pattern names, in order."""
    path, paths = Path(os.path.expanduser(source)), []
    if os.path.exists(path) or not is_pattern(str(source)):
        return [path]
    for name in expand_braces(str(path)):
        files = sorted(map(Path, glob.glob(name, recursive=True))) if any(mark in name for mark in "*?[") else [
            Path(name)]
        files = [file for file in files if os.path.isfile(file)]
        paths += files
        if not files:
            raise FileNotFoundError(f"{shorten(str(source))}: no file matches {shorten(name)}")
    return paths


def _read_list(path: Path, where: str) -> list[Path]:
    """Return the files listed in a text file, one path per line, relative to its folder."""
    with open_regular(path) as file:
        content = file.read(MAX_LIST_BYTES + 1)
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").splitlines()]
    except UnicodeDecodeError:
        raise ValueError(f"{where}: is not text; a .txt file lists pictures, one path per line") from None
    if len(content) > MAX_LIST_BYTES or not any(lines):
        raise ValueError(f"{where}: is {'too long' if any(lines) else 'empty'}; a .txt file lists pictures, one path "
                         "per line")
    return [path.parent / os.path.expanduser(line) for line in lines if line]


def _check_files(paths: list[Path], where: str) -> tuple[str, list[Path]]:
    """Return the kind of several files; raise unless they exist and are all of one kind."""
    if missing := [shorten(str(path)) for path in paths if not os.path.exists(path)]:
        count = "1 file that does" if len(missing) == 1 else f"{len(missing):,} files that do"
        raise FileNotFoundError(f"{where}: names {count} not exist: {', '.join(missing[:3])}"
                                + (" ..." if len(missing) > 3 else ""))
    if folders := [shorten(str(path)) for path in paths if os.path.isdir(path)]:
        raise ValueError(f"{where}: names a folder, {folders[0]}; give a single folder, whose sub-folders are "
                         "classes, or files")
    kinds = sorted({path.suffix.lower() for path in paths})
    if set(kinds) <= {*FORMATS, *UNSUPPORTED}:
        return "pictures", paths
    if len(kinds) != 1 or kinds[0] not in MULTI_FILE:
        raise ValueError(f"{where}: names files {' '.join(kinds)}; they must be pictures, or .parquet or .tar files of "
                         "one kind")
    return kinds[0], paths


def _folder_kind(path: Path, where: str) -> tuple[str, list[Path]]:
    entries = sorted(entry for entry in path.iterdir() if not entry.name.startswith("."))
    tables = [entry for entry in entries if entry.suffix.lower() in MULTI_FILE and entry.is_file()]
    kinds = {entry.suffix.lower() for entry in tables}
    if not kinds:
        return "folder", [path]
    pictures = sum(entry.suffix.lower() in FORMATS for entry in entries)
    if len(kinds) > 1 or pictures:
        raise ValueError(f"{where}: holds {len(tables)} files {' '.join(sorted(kinds))} and {pictures} pictures; "
                         "name those to read")
    return kinds.pop(), tables
