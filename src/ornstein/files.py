"""All writing, renaming and deleting: atomically, never through links, and never files that are not Ornstein's."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import stat
import tempfile
import threading
from collections.abc import Generator
from io import BufferedReader
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

try:
    import fcntl
except ModuleNotFoundError:  # on Windows, where folders cannot be locked
    fcntl = None

__all__ = ["MANIFEST", "MODEL", "SETTINGS", "STATES", "append", "check_replaceable", "check_writable", "filling",
           "is_ours", "list_folder", "locked", "make_folder", "move", "open_regular", "read_into", "read_json",
           "read_text", "refuse_link", "remove", "remove_folder", "remove_leftovers", "replacing", "sync", "write_text"]

MODEL, SETTINGS, STATES, MANIFEST = "model.safetensors", "run.yaml", "checkpoints", "manifest.json"  # of a run
MARK = b"ornstein"  # in the first bytes of every picture and every safetensors file that Ornstein writes
HEAD = 4096  # bytes in which the mark is looked for
TEMPORARY_SUFFIX = ".ornstein-new"
TEMPORARY = re.compile(r"\..*\.[a-z0-9_]{8}\.ornstein-new", re.DOTALL)
STEM = 40  # characters of a file's name that its temporary folder repeats
WRITE_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # of calls that name no file
# Windows has none of these: it opens no pipes, and only administrators can make links.
NONBLOCK, NOFOLLOW = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW"))
CLOEXEC = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_seek_lock = threading.Lock()
MAX_BYTES = 64_000_000  # of a text file; no record, manifest or log is near that size


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes; ValueError for a pipe or a device, which might block forever."""
    message = f"{os.fspath(path)!r} is not a regular file; name another"  # the repr is one printable line
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | NONBLOCK))  # noqa: SIM115
    except IsADirectoryError:
        raise ValueError(message) from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise ValueError(message) from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(message)
    return file


def read_into(file: BufferedReader, content: memoryview, offset: int) -> int:
    """Read bytes at an offset of a file that threads and forks share; returns how many, 0 at the end."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [content], offset)
    with _seek_lock:
        file.seek(offset)
        return file.readinto(content)


def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """Read a small text file; ValueError for more than `limit` bytes, or bytes that are not UTF-8."""
    with open_regular(path) as file:
        content = file.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"{path} has more than {limit:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 (byte {error.start})") from None


def read_json(path: Path, limit: int = MAX_BYTES) -> dict[str, Any]:
    """Read a JSON object from a file of at most `limit` bytes; ValueError for anything else."""
    text = read_text(path, limit)
    try:
        record = json.loads(text)
    except RecursionError:
        raise ValueError(f"{path} is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"{path} is not JSON ({error})") from None
    if not isinstance(record, dict):
        raise ValueError(f"{path} holds a {type(record).__name__}, not an object")
    return record


def is_ours(path: Path, mark: bytes = MARK) -> bool:
    """Whether the first bytes of a file say that Ornstein wrote it; False for links, folders and devices."""
    if path.is_symlink():
        return False
    try:
        with open_regular(path) as file:
            return mark in file.read(HEAD)
    except (OSError, ValueError):
        return False


def list_folder(folder: Path) -> list[Path]:
    """The sorted entries of a folder, without temporary ones of a write; empty if it does not exist."""
    try:
        return sorted(path for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def refuse_link(path: Path) -> None:
    """Raise FileExistsError if a path that is to be written or deleted is a link."""
    if path.is_symlink():
        raise FileExistsError(f"{path} is a link, and nothing is written or deleted through links; put a file or "
                              "folder in its place, or name another path")


def check_replaceable(path: Path, ours: bool = False) -> None:
    """Raise FileExistsError for a link, a folder or a device, and with `ours` for a file that Ornstein did not write.
    """
    refuse_link(path)
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is {_kind(path)}, not a file; name another path")
    if ours and path.exists() and not is_ours(path):
        raise FileExistsError(f"{path} was not written by Ornstein, and is left alone; move it elsewhere")


def check_writable(path: Path) -> None:
    """Raise OSError if a file or folder cannot be written, before time is spent on its content."""
    parent = path if path.is_dir() else path.absolute().parent
    while not os.path.lexists(parent):
        parent = parent.parent
    with _errors_name(path, parent):
        os.rmdir(tempfile.mkdtemp(TEMPORARY_SUFFIX, f".{path.name[:STEM]}.", parent))


def make_folder(path: Path) -> list[Path]:
    """Create a folder and its missing parents; returns the created ones, innermost first."""
    created = []
    for folder in (path, *path.parents):
        if folder.is_dir():
            break
        created.append(folder)
    path.mkdir(parents=True, exist_ok=True)
    return created


@contextlib.contextmanager
def replacing(path: Path, ours: bool = False) -> Generator[Path, None, None]:
    """Write a file atomically: yield a temporary path of the same name, which is synced and moved to `path` at the end.

    If the block raises, `path` stays as it was; if the process is killed, the next write to `path` or the next
    `remove_leftovers` removes the temporary folder. Raises as `check_replaceable`, or an OSError that names `path`.
    """
    check_replaceable(path, ours)
    with _created_folder(path.parent), _temporary_folder(path, path.parent) as temporary:
        file = temporary / path.name
        file.touch()
        mode = file.stat().st_mode
        yield file
        file.chmod(mode)  # some libraries create files that only their owner can read
        sync(file)
        os.replace(file, path)
        sync(path.parent)


@contextlib.contextmanager
def filling(folder: Path) -> Generator[Path, None, None]:
    """Write files that belong together: yield an empty temporary folder, whose files are moved to `folder` at the end.

    Files of the same names are replaced, and others stay. Raises as `replacing` does.
    """
    is_new = not folder.is_dir()
    # Only an existing folder itself may be writable, such as one that is mounted.
    parent = folder.parent if is_new else folder
    with _created_folder(folder.parent), _temporary_folder(folder, parent) as temporary:
        files = temporary / folder.name
        files.mkdir()
        yield files
        names = sorted(path.name for path in files.iterdir())
        if is_new:
            os.rename(files, folder)
        else:
            for name in names:
                check_replaceable(folder / name)
            for name in names:
                os.replace(files / name, folder / name)


@contextlib.contextmanager
def _created_folder(path: Path) -> Generator[None, None, None]:
    """Create a folder with its parents; if the block raises, the created ones are removed again."""
    created = make_folder(path)
    try:
        yield
    except BaseException:
        for folder in created:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically; raises as `replacing` does."""
    with replacing(path) as file:
        file.write_text(text, "utf-8")


def append(path: Path, content: bytes) -> None:
    """Append bytes to a regular file, all of them or none."""
    check_replaceable(path)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | NOFOLLOW | NONBLOCK | CLOEXEC, 0o666)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if (file.write(content) or 0) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(size)
            raise


def remove(path: Path) -> None:
    """Delete a file if it exists; FileExistsError for a link, a folder or a device."""
    check_replaceable(path)
    path.unlink(missing_ok=True)


def remove_folder(folder: Path, names: re.Pattern[str]) -> None:
    """Delete files of a folder by their names, but no links or folders, and then the folder if it is empty."""
    refuse_link(folder)
    for path in list(folder.iterdir()):
        if names.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()


def move(path: Path, to: Path) -> None:
    """Rename a file, or a folder to a name that is not taken."""
    refuse_link(path)
    os.rename(path, to)


def remove_leftovers(folder: Path, stem: str = "") -> None:
    """Remove the temporary folders of killed processes from a folder, or only those of the file `stem`."""
    prefix = f".{stem[:STEM]}." if stem else "."
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(prefix) and TEMPORARY.fullmatch(path.name) and not path.is_symlink() and path.is_dir():
            with contextlib.suppress(OSError), _lock(path):
                shutil.rmtree(path)


def sync(path: Path) -> None:
    """Flush a file, or the entries of a folder, to disk."""
    if fcntl is None and path.is_dir():  # Windows cannot open folders, and flushes them itself
        return
    handle = os.open(path, (os.O_RDONLY if fcntl else os.O_RDWR) | CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Lock a file while it is read, changed and replaced; FileExistsError if another process has locked it."""
    while True:
        try:
            with _lock(path) as handle:
                # If the file was replaced between opening and locking, the lock is on one that is gone.
                if handle is None or os.path.samestat(os.fstat(handle), os.stat(path)):
                    yield
                    return
        except BlockingIOError:
            raise FileExistsError(f"{path} is being changed by another process; wait for it") from None


@contextlib.contextmanager
def _lock(path: Path) -> Generator[int | None, None, None]:
    """Lock a file or folder, on Windows by a lock file beside it; BlockingIOError if another process has locked it."""
    if fcntl is None:
        try:
            with FileLock(f"{path}.lock", timeout=0):
                yield None
        except Timeout:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path)) from None
        return
    handle = os.open(path, os.O_RDONLY | NONBLOCK | CLOEXEC)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _temporary_folder(path: Path, parent: Path) -> Generator[Path, None, None]:
    """Create a temporary folder in `parent` for the new content of `path`; while locked, it is not a leftover."""
    remove_leftovers(parent, path.name)
    with _errors_name(path, parent), contextlib.ExitStack() as stack:
        while True:
            folder = Path(tempfile.mkdtemp(TEMPORARY_SUFFIX, f".{path.name[:STEM]}.", parent))
            with contextlib.suppress(FileNotFoundError, BlockingIOError):  # another process took it for a leftover
                stack.enter_context(_lock(folder))
                if folder.is_dir():
                    break
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _errors_name(path: Path, parent: Path) -> Generator[None, None, None]:
    """Make errors of the disk name the path that the user knows, not its temporary folder in `parent`."""
    temporary = os.path.join(os.path.abspath(parent), f".{path.name[:STEM]}.")
    try:
        yield
    except OSError as error:
        is_own = error.errno in WRITE_ERRORS if error.filename is None else os.path.abspath(os.fsdecode(
            error.filename)).startswith(temporary)
        if error.errno is None or not is_own:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _kind(path: Path) -> str:
    mode = os.stat(path).st_mode
    return ("a folder" if stat.S_ISDIR(mode) else "a FIFO" if stat.S_ISFIFO(mode) else
            "a socket" if stat.S_ISSOCK(mode) else "a device" if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else "a file")
