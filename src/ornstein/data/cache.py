"""Decoded pictures and results of full reads, kept in the user's cache folder."""

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

__all__ = ["MIN_CACHED_BYTES", "file_state", "folder", "free_bytes", "load_record", "make_key", "open_values",
           "save_record", "write_values"]

VERSION = 2  # of the readers: increment it if a picture decodes to other pixels
MIN_CACHED_BYTES = 64_000_000  # smaller arrays are decoded again instead of cached


def folder() -> Path:
    """Return the cache folder: ORNSTEIN_CACHE, else `ornstein` in XDG_CACHE_HOME or ~/.cache."""
    if chosen := os.environ.get("ORNSTEIN_CACHE"):
        return Path(chosen).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "ornstein"


def make_key(*inputs: Any) -> str:
    """Return a cache key for JSON values that determine a result, different for each version of the readers."""
    return hashlib.sha256(json.dumps([VERSION, *inputs], ensure_ascii=True).encode()).hexdigest()


def file_state(path: Path) -> list[Any]:
    """Return absolute path, size and modification time in ns, which change with the file."""
    state = path.stat()
    return [os.fsdecode(os.path.abspath(path)), state.st_size, state.st_mtime_ns]


def free_bytes() -> int:
    """Return the free space for the cache folder in bytes, 0 if it is not writable."""
    path = folder().absolute()
    while not os.path.lexists(path) and path != path.parent:
        path = path.parent
    try:
        return shutil.disk_usage(path).free if os.path.isdir(path) and os.access(path, os.W_OK | os.X_OK) else 0
    except OSError:
        return 0


def load_record(key: str) -> dict[str, Any] | None:
    """Return the record saved under a key, None if it is missing or damaged."""
    try:
        with files.open_regular(folder() / f"{key}.json") as file:
            digest, _, text = file.read().partition(b"\n")
        return json.loads(text) if digest.decode() == hashlib.sha256(text).hexdigest() else None
    except (OSError, ValueError):
        return None


def save_record(key: str, record: dict[str, Any]) -> str | None:
    """Save a record of JSON values under a key; return a note for the user if the cache folder is not writable."""
    try:
        _write_record(key, record)
    except OSError as error:
        reason = printable(error.strerror or str(error))
        return (f"nothing is kept for the next start: {printable(str(folder()))} cannot be written ({reason}); "
                "set ORNSTEIN_CACHE to another folder")
    return None


def _write_record(key: str, record: dict[str, Any]) -> None:
    text = json.dumps(record).encode()
    with files.replacing(folder() / f"{key}.json") as file:
        file.write_bytes(hashlib.sha256(text).hexdigest().encode() + b"\n" + text)


def open_values(key: str) -> tuple[StoredRows, dict[str, Any]] | None:
    """Return the array saved under a key, left on disk, and its record; None if either is missing or damaged."""
    record, path = load_record(key), folder() / f"{key}.npy"
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
    """Save an array that arrives in blocks of rows, then its record; return both as `open_values` does.

    One process writes; others that need the same array wait for it. If writing fails, nothing is left behind.
    """
    path = folder() / f"{key}.npy"
    needed = int(np.prod(shape)) * np.dtype(dtype).itemsize
    with _explain_disk_errors(path, needed):
        files.make_folder(path.parent)
        with FileLock(path.with_suffix(".lock")):
            if cached := open_values(key):
                return cached
            files.remove_leftovers(path.parent, path.name)
            if free_bytes() < needed:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with files.replacing(path) as temporary, temporary.open("wb") as file:
                # Not mapped: a full disk raises an error on a write, but kills the process on a map.
                np.lib.format.write_array_header_1_0(
                    file, {"descr": dtype, "fortran_order": False, "shape": shape})
                for block in blocks():
                    file.write(np.ascontiguousarray(block).data)
                extra = record()
            _write_record(key, {**extra, "bytes": path.stat().st_size})
    cached = open_values(key)
    if cached is None:
        raise OSError(f"{path}: was written but cannot be read back; check the disk, or set ORNSTEIN_CACHE to another")
    files.remove(path.with_suffix(".lock"))
    return cached


@contextlib.contextmanager
def _explain_disk_errors(path: Path, needed: int) -> Iterator[None]:
    """Add the needed and the free space to errors of the disk."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS, errno.EPERM, errno.ENOTDIR,
                               errno.EEXIST, errno.ENAMETOOLONG):
            raise
        raise OSError(f"{path.parent}: {error.strerror}: the decoded data need {needed / 1e6:,.1f} MB and "
                      f"{free_bytes() / 1e6:,.1f} MB are free; set ORNSTEIN_CACHE to a writable folder with "
                      "enough space") from error
