"""The one place that writes, renames and deletes: whole or not at all, never through a link, never what is foreign."""

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
except ModuleNotFoundError:  # on Windows, where a folder has no lock of its own
    fcntl = None

__all__ = [
    "MANIFEST",
    "MODEL",
    "SETTINGS",
    "STATES",
    "append",
    "check_replaceable",
    "check_writable",
    "filling",
    "is_ours",
    "list_folder",
    "locked",
    "make_folder",
    "move",
    "open_regular",
    "read_into",
    "read_json",
    "read_text",
    "refuse_link",
    "remove",
    "remove_folder",
    "remove_leftovers",
    "replacing",
    "sync",
    "write_text",
]

MODEL, SETTINGS, STATES, MANIFEST = "model.safetensors", "run.yaml", "checkpoints", "manifest.json"  # of a run
MARK = b"ornstein"  # in the first bytes of every picture and every safetensors file that Ornstein writes
HEAD = 4096
ENDING = ".ornstein-new"
TEMPORARY = re.compile(r"\..*\.[a-z0-9_]{8}\.ornstein-new", re.DOTALL)
STEM = 40  # characters of a file's name that the folder beside it repeats
DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS)  # what a write fails of, without a name
# Windows has none of these: it opens no pipes and makes links for administrators alone.
NO_WAITING, NO_LINKS = (getattr(os, name, 0) for name in ("O_NONBLOCK", "O_NOFOLLOW"))
ALONE = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_seeking = threading.Lock()
MOST = 64_000_000  # bytes of text that are read at once; no record, manifest or log is near that size


def open_regular(path: Path) -> BufferedReader:
    """Open a regular file to read its bytes; ValueError for a pipe or a device, which would be waited for without end.
    """
    refused = f"{os.fspath(path)!r} is not a regular file; name another"  # as repr shows it: on one printable line
    try:
        file = open(path, "rb", opener=lambda name, flags: os.open(name, flags | NO_WAITING))  # noqa: SIM115
    except IsADirectoryError:
        raise ValueError(refused) from None
    except OSError as error:
        if error.errno == errno.ENXIO:  # a socket
            raise ValueError(refused) from None
        raise
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise ValueError(refused)
    return file


def read_into(file: BufferedReader, content: memoryview, offset: int) -> int:
    """Read bytes of a file that threads and forks share into place; how many came, 0 at its end."""
    if hasattr(os, "preadv"):
        return os.preadv(file.fileno(), [content], offset)
    with _seeking:
        file.seek(offset)
        return file.readinto(content)


def read_text(path: Path, most: int = MOST) -> str:
    """The text of a small file; ValueError for more than `most` bytes, or bytes that are no UTF-8."""
    with open_regular(path) as file:
        content = file.read(most + 1)
    if len(content) > most:
        raise ValueError(f"{path} has more than {most:,} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not text in UTF-8 (byte {error.start})") from None


def read_json(path: Path, most: int = MOST) -> dict[str, Any]:
    """The JSON object in a small file of at most so many bytes; ValueError for anything else."""
    text = read_text(path, most)
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
    """Whether a file says in its first bytes that Ornstein wrote it; links, folders and devices never do."""
    if path.is_symlink():
        return False
    try:
        with open_regular(path) as file:
            return mark in file.read(HEAD)
    except (OSError, ValueError):
        return False


def list_folder(folder: Path) -> list[Path]:
    """What lies in a folder, sorted, without what a write in progress has beside it; empty where there is no folder."""
    try:
        return sorted(path for path in folder.iterdir() if not TEMPORARY.fullmatch(path.name))
    except (FileNotFoundError, NotADirectoryError):
        return []


def refuse_link(path: Path) -> None:
    """Raise FileExistsError for a link where something is to be written or deleted."""
    if path.is_symlink():
        raise FileExistsError(f"{path} is a link, and nothing is written or deleted through links; put a file or "
                              "folder in its place, or name another path")


def check_replaceable(path: Path, ours: bool = False) -> None:
    """Raise FileExistsError for what a file must not replace: a link, a folder, a device, with `ours` a foreign file.
    """
    refuse_link(path)
    if path.exists() and not path.is_file():
        raise FileExistsError(f"{path} is {_kind(path)}, not a file; name another path")
    if ours and path.exists() and not is_ours(path):
        raise FileExistsError(f"{path} was not written by Ornstein, and is left alone; move it elsewhere")


def check_writable(path: Path) -> None:
    """Raise OSError for a file or folder that cannot be written, before minutes are spent on what goes into it."""
    place = path if path.is_dir() else path.absolute().parent
    while not os.path.lexists(place):
        place = place.parent
    with _naming(path, place):
        os.rmdir(tempfile.mkdtemp(ENDING, f".{path.name[:STEM]}.", place))


def make_folder(path: Path) -> list[Path]:
    """Make a folder and those above it; gives those that were made, the innermost first."""
    made = []
    for place in (path, *path.parents):
        if place.is_dir():
            break
        made.append(place)
    path.mkdir(parents=True, exist_ok=True)
    return made


@contextlib.contextmanager
def replacing(path: Path, ours: bool = False) -> Generator[Path, None, None]:
    """Write a file beside its place, which it takes when all of it is on disk.

    What is yielded is a path of the same name in a folder that no one else uses. If the block raises, nothing of it
    stays, and what was there is untouched; if the process is killed, the next write to the path or the next `sweep`
    removes it. Raises as `refuse` does, or an OSError that names the path.
    """
    check_replaceable(path, ours)
    with _folder(path.parent), _beside(path, path.parent) as place:
        file = place / path.name
        file.touch()
        mode = file.stat().st_mode
        yield file
        file.chmod(mode)  # some libraries make files that only their owner can read
        sync(file)
        os.replace(file, path)
        sync(path.parent)


@contextlib.contextmanager
def filling(folder: Path) -> Generator[Path, None, None]:
    """Write files that belong together, into the empty folder that is yielded: all take their place, or none does.

    Files of the same names are replaced, and others stay. Raises as `replacing` does.
    """
    new = not folder.is_dir()
    # A folder that is there may be all that can be written, such as one that is mounted.
    with _folder(folder.parent), _beside(folder, folder.parent if new else folder) as place:
        files = place / folder.name
        files.mkdir()
        yield files
        names = sorted(path.name for path in files.iterdir())
        if new:
            os.rename(files, folder)
        else:
            for name in names:
                check_replaceable(folder / name)
            for name in names:
                os.replace(files / name, folder / name)


@contextlib.contextmanager
def _folder(path: Path) -> Generator[None, None, None]:
    """A folder to write into, made with those above it; those that were made go again where the block raises."""
    made = make_folder(path)
    try:
        yield
    except BaseException:
        for folder in made:
            with contextlib.suppress(OSError):
                folder.rmdir()
        raise


def write_text(path: Path, text: str) -> None:
    """Write a text file that appears whole or not at all; raises as `replacing` does."""
    with replacing(path) as file:
        file.write_text(text, "utf-8")


def append(path: Path, content: bytes) -> None:
    """Append bytes to a regular file, or none of them where the disk refuses."""
    check_replaceable(path)
    handle = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | NO_LINKS | NO_WAITING | ALONE, 0o666)
    with os.fdopen(handle, "r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        try:
            if (file.write(content) or 0) < len(content):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        except OSError:
            file.truncate(size)
            raise


def remove(path: Path) -> None:
    """Delete a file, if it is there; FileExistsError for a link, a folder or a device, which stays."""
    check_replaceable(path)
    path.unlink(missing_ok=True)


def remove_folder(folder: Path, names: re.Pattern[str]) -> None:
    """Delete the files of a folder that have our names, but no links or folders, and the folder if that empties it."""
    refuse_link(folder)
    for path in list(folder.iterdir()):
        if names.fullmatch(path.name) and path.is_file() and not path.is_symlink():
            path.unlink()
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()


def move(path: Path, to: Path) -> None:
    """Rename a folder to a name that is not taken, or a file."""
    refuse_link(path)
    os.rename(path, to)


def remove_leftovers(folder: Path, stem: str = "") -> None:
    """Remove from a folder what processes killed while they wrote left in it, of the file `stem` alone if named."""
    start = f".{stem[:STEM]}." if stem else "."
    for path in list(folder.iterdir()) if folder.is_dir() else ():
        if path.name.startswith(start) and TEMPORARY.fullmatch(path.name) and not path.is_symlink() and path.is_dir():
            with contextlib.suppress(OSError), _lock(path):
                shutil.rmtree(path)


def sync(path: Path) -> None:
    """Wait until a file, or the list of a folder's files, is on disk."""
    if fcntl is None and path.is_dir():  # which Windows does not open, and writes by itself
        return
    handle = os.open(path, (os.O_RDONLY if fcntl else os.O_RDWR) | ALONE)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def locked(path: Path) -> Generator[None, None, None]:
    """Hold a file while it is read, worked on and replaced; FileExistsError where another process holds it."""
    while True:
        try:
            with _lock(path) as handle:
                # Replaced between opening and locking, the lock is on a file that is gone.
                if handle is None or os.path.samestat(os.fstat(handle), os.stat(path)):
                    yield
                    return
        except BlockingIOError:
            raise FileExistsError(f"{path} is being changed by another process; wait for it") from None


@contextlib.contextmanager
def _lock(path: Path) -> Generator[int | None, None, None]:
    """Hold the lock on a file or folder, or without such locks that on a file beside it; raises BlockingIOError where
    another process has it."""
    if fcntl is None:
        try:
            with FileLock(f"{path}.lock", timeout=0):
                yield None
        except Timeout:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path)) from None
        return
    handle = os.open(path, os.O_RDONLY | NO_WAITING | ALONE)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _beside(path: Path, parent: Path) -> Generator[Path, None, None]:
    """A new folder in the parent for what is to take the place of the path; its lock tells it from what was left."""
    remove_leftovers(parent, path.name)
    with _naming(path, parent), contextlib.ExitStack() as stack:
        while True:
            place = Path(tempfile.mkdtemp(ENDING, f".{path.name[:STEM]}.", parent))
            with contextlib.suppress(FileNotFoundError, BlockingIOError):  # taken for a leftover before it was locked
                stack.enter_context(_lock(place))
                if place.is_dir():
                    break
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


@contextlib.contextmanager
def _naming(path: Path, place: Path) -> Generator[None, None, None]:
    """Errors of the disk name what the user knows, not what lies beside it."""
    beside = os.path.join(os.path.abspath(place), f".{path.name[:STEM]}.")
    try:
        yield
    except OSError as error:
        ours = error.errno in DISK if error.filename is None else os.path.abspath(os.fsdecode(
            error.filename)).startswith(beside)
        if error.errno is None or not ours:
            raise
        raise OSError(error.errno, os.strerror(error.errno), str(path)) from error


def _kind(path: Path) -> str:
    mode = os.stat(path).st_mode
    return ("a folder" if stat.S_ISDIR(mode) else "a FIFO" if stat.S_ISFIFO(mode) else
            "a socket" if stat.S_ISSOCK(mode) else "a device" if stat.S_ISBLK(mode) or stat.S_ISCHR(mode) else "a file")
