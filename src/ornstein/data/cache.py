"""What was decoded or read to the end once, kept in the user's cache folder for the next start."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock

from ornstein import files
from ornstein.arguments import printable
from ornstein.data.stored import StoredRows

__all__ = ["SMALL", "file_facts", "folder", "free", "key_of", "open_values", "recall", "remember", "write_values"]

VERSION = 2  # of what the readers make: raise it when a picture gives other pixels
SMALL = 64_000_000  # bytes that are decoded faster than they are worth keeping


def folder() -> Path:
    """Return the cache folder: ORNSTEIN_CACHE, else `ornstein` in XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("ORNSTEIN_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ornstein"


def key_of(*facts: Any) -> str:
    """Return a name for what is made from `facts` (JSON values), other for other facts and readers."""
    return hashlib.sha256(json.dumps([VERSION, *facts], ensure_ascii=True).encode()).hexdigest()


def file_facts(path: Path) -> list[Any]:
    """Return what changes when a file does: absolute path, size and time of change in ns."""
    state = path.stat()
    return [os.fsdecode(os.path.abspath(path)), state.st_size, state.st_mtime_ns]


def free() -> int:
    """Return how many bytes the cache folder can take: what its disk has left, or 0 where it cannot be written."""
    place = folder().absolute()
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    try:
        return shutil.disk_usage(place).free if os.path.isdir(place) and os.access(place, os.W_OK | os.X_OK) else 0
    except OSError:
        return 0


def recall(key: str) -> dict[str, Any] | None:
    """Return the record kept under a key; None where there is none, or none as it was written: it can be made again."""
    try:
        with files.open_regular(folder() / f"{key}.json") as file:
            seen, _, text = file.read().partition(b"\n")
        return json.loads(text) if seen.decode() == hashlib.sha256(text).hexdigest() else None
    except (OSError, ValueError):
        return None


def remember(key: str, record: dict[str, Any]) -> str | None:
    """Keep a record of JSON values under a key; return what to tell the user where the cache folder cannot be
    written."""
    try:
        _write_record(key, record)
    except OSError as error:
        reason = printable(error.strerror or str(error))
        return (f"nothing is kept for the next start: {printable(str(folder()))} cannot be written ({reason}); "
                "ORNSTEIN_CACHE names another folder")
    return None


def _write_record(key: str, record: dict[str, Any]) -> None:
    text = json.dumps(record).encode()
    with files.replacing(folder() / f"{key}.json") as file:
        file.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def open_values(key: str) -> tuple[StoredRows, dict[str, Any]] | None:
    """Return the array kept under a key, left on the disk, and its record; None where either is missing or damaged."""
    record, path = recall(key), folder() / f"{key}.npy"
    if record is None:
        return None
    try:
        if path.stat().st_size != record["bytes"]:
            return None
        return StoredRows(path), record
    except (OSError, ValueError, KeyError):
        return None


def write_values(key: str, shape: tuple[int, ...], blocks: Callable[[], Iterator[np.ndarray]],
                 record: Callable[[], dict[str, Any]], dtype: str = "|u1") -> tuple[StoredRows, dict[str, Any]]:
    """Keep an array whose rows come in blocks, and the record that is there once they have; return them as
    `open_values` does. One process makes it; others that want the same wait. Where the disk refuses, nothing is
    left."""
    path = folder() / f"{key}.npy"
    need = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with _explained(path, need):
        files.make_folder(path.parent)
        with FileLock(path.with_suffix(".lock")):
            if made := open_values(key):
                return made
            files.remove_leftovers(path.parent, path.name)
            if free() < need:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with files.replacing(path) as beside, beside.open("wb") as file:
                # Written, not mapped: a full disk must be an error, and in a map it is a signal that kills.
                np.lib.format.write_array_header_1_0(
                    file, {"descr": dtype, "fortran_order": False, "shape": shape})
                for block in blocks():
                    file.write(np.ascontiguousarray(block).data)
                facts = record()
            _write_record(key, {**facts, "bytes": path.stat().st_size})
    made = open_values(key)
    if made is None:
        raise OSError(f"{path}: was written and cannot be read back; check the disk, or set ORNSTEIN_CACHE to another")
    files.remove(path.with_suffix(".lock"))
    return made


@contextlib.contextmanager
def _explained(path: Path, need: int) -> Iterator[None]:
    """Say of a disk that refuses what is needed and what is free."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR,
                               errno.EEXIST, errno.ENAMETOOLONG):
            raise
        raise OSError(f"{path.parent}: {error.strerror}: the decoded data need {need / 1e6:,.1f} MB and "
                      f"{free() / 1e6:,.1f} MB are free; set ORNSTEIN_CACHE to a writable folder with room") from error
