"""Files that clients upload: streamed to disk, checked, and named by an id."""

from __future__ import annotations

import hashlib
import time
import zipfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path, PurePosixPath
from typing import Any, TypeVar

import numpy as np
from PIL import Image
from starlette.concurrency import run_in_threadpool

from ornstein import files
from ornstein.arguments import printable, shorten
from ornstein.data.pictures import FORMATS, error_reason, read_header
from ornstein.studio.errors import Refused, one_line
from ornstein.studio.limits import LIMITS, Limits
from ornstein.studio.store import Store
from ornstein.studio.tables import pictures, uploads

__all__ = ["Uploads", "archive_pictures", "inspect_file", "picture_path", "portable_path", "read_upload"]

MAGIC = (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (
    b"II*\x00", ".tif"), (b"MM\x00*", ".tif"), (b"PK\x03\x04", ".zip"), (b"\x93NUMPY", ".npy")
T = TypeVar("T")

HEAD = 16  # bytes that identify the type of a file


def picture_path(folder: Path, job: str, number: int) -> Path:
    """The path of a job's picture in the studio's folder."""
    return folder / "pictures" / job[:2] / job / f"{number:05d}.png"


def read_upload(field: str, path: Path, read: Callable[[Path], T], name: str = "") -> T:
    """Read a client's file; errors name it by its field, or by `name`, and do not reveal its path."""
    try:
        return read(path)
    except (ValueError, OSError) as error:
        raise Refused(422, one_line(error).replace(str(path), name or field), field) from None


def _file_type(head: bytes) -> str:
    """The suffix that the first bytes of a file call for."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    for magic, suffix in MAGIC:
        if head.startswith(magic):
            return suffix
    raise Refused(422, "the file is not a picture (PNG, JPEG, WebP, GIF, BMP, TIFF), a zip or a .npy file", "body")


class Uploads:
    """The uploaded files, in the studio's folder and database."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store, self.limits = store, limits

    async def save(self, id: str, name: str, body: AsyncIterator[bytes]) -> dict[str, Any]:
        """Save a request's body under an id; sending the same content again changes nothing."""
        if self.store.count(uploads) >= self.limits.files:
            raise Refused(413, f"there are {self.limits.files:,} files already, which is the maximum; delete some",
                          "files", self.limits.files)
        digest, size, head, chunks = hashlib.sha256(), 0, b"", aiter(body)
        while len(head) < HEAD and (chunk := await anext(chunks, b"")):
            head += chunk
        path = self.store.folder / "uploads" / f"{id}{(suffix := _file_type(head))}"
        existing = self.store.get(uploads, uploads.c.id == id)
        with files.replacing(path) as new:
            with new.open("wb") as file:
                chunk = head
                while chunk:
                    size += len(chunk)
                    if size > self.limits.upload:
                        raise Refused(413, f"the file has more than {self.limits.upload:,} bytes", "body",
                                      self.limits.upload)
                    digest.update(chunk)
                    file.write(chunk)
                    chunk = await anext(chunks, b"")
            row = {"id": id, "name": shorten(printable(name), 200), "bytes": size, "sha256": digest.hexdigest(),
                   "created": time.time(), "ending": suffix,
                   **await run_in_threadpool(inspect_file, new, suffix, self.limits)}
            if existing is not None and existing["sha256"] != row["sha256"]:
                raise Refused(409, f"there is already a different file with the id {id}", "id")
        if existing is None:
            self.store.insert(uploads, row)
        return existing or row

    def path_of(self, row: dict[str, Any]) -> Path:
        """The path of an upload."""
        return self.store.folder / "uploads" / f"{row['id']}{row['ending']}"

    def find(self, id: str) -> dict[str, Any]:
        """The row of an upload."""
        if (row := self.store.get(uploads, uploads.c.id == id)) is None:
            raise Refused(404, f"there is no file {id}", "id")
        return row

    def locate(self, id: str, field: str) -> Path:
        """The path of an upload or of a picture in the gallery, for an array that of its values."""
        if (row := self.store.get(uploads, uploads.c.id == id)) is not None:
            if row["kind"] == "zip":
                raise Refused(422, f"{field} is a zip; it must be a picture", field)
            return self.path_of(row)
        if (row := self.store.get(pictures, pictures.c.id == id)) is not None:
            path = picture_path(self.store.folder, row["job"], row["number"])
            values = path.with_suffix(".npy")
            return values if values.is_file() else path
        raise Refused(422, f"{field} is {id}, and there is no such upload or picture; send it to POST "
                      "/api/files", field)

    def remove(self, id: str) -> None:
        """Delete an upload."""
        row = self.find(id)
        self.store.delete(uploads, uploads.c.id == id)
        files.remove(self.path_of(row))


def inspect_file(path: Path, suffix: str, limits: Limits = LIMITS) -> dict[str, Any]:
    """The kind of a file, with the size of a picture or the number of pictures in a zip.

    Raises:
        Refused: the file is broken, too large or of no use.
    """
    facts: dict[str, Any] = {"kind": "picture", "width": None, "height": None, "pictures": None}
    if suffix == ".zip":
        return {**facts, "kind": "zip", "pictures": _count_pictures(path, limits)}
    if suffix == ".npy":
        _check_array(path)
        return {**facts, "kind": "numbers"}
    try:
        width, height = read_header(path)[:2]
        if width * height > limits.pixels:
            raise Refused(413, f"the picture has {width} x {height} pixels; at most {limits.pixels:,} are allowed",
                          "body", limits.pixels)
        with Image.open(path) as image:
            image.verify()
    except Refused:
        raise
    except Exception as error:  # Pillow raises many types for a broken file
        raise Refused(422, f"the picture cannot be read: {error_reason(error)}", "body") from None
    return {**facts, "width": width, "height": height}


def _check_array(path: Path) -> None:
    try:
        values = np.load(path, allow_pickle=False, mmap_mode="r")
        if values.dtype.kind not in "biuf" or not values.ndim:
            raise ValueError(f"it holds {values.dtype}")
    except Exception as error:  # of a broken file
        raise Refused(422, f"the .npy file cannot be used: {one_line(error)}", "body") from None


def _count_pictures(path: Path, limits: Limits) -> int:
    """The number of pictures in a zip, which must not be too large or contain paths outside itself."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            count = len(archive_pictures(archive))
    except Exception as error:  # of a broken file
        raise Refused(422, f"the zip cannot be read: {one_line(error)}", "body") from None
    if len(entries) > limits.files:
        raise Refused(413, f"the zip holds {len(entries):,} files; at most {limits.files:,} are allowed", "body",
                      limits.files)
    if (size := sum(entry.file_size for entry in entries)) > limits.unpacked:
        raise Refused(413, f"the zip holds {size:,} bytes; at most {limits.unpacked:,} are allowed", "body",
                      limits.unpacked)
    if any(entry.filename.startswith(("/", "\\")) or ".." in portable_path(entry.filename).parts for entry in entries):
        raise Refused(422, "the zip holds paths outside itself", "body")
    if not count:
        raise Refused(422, "the zip holds no pictures", "body")
    return count


def portable_path(name: str) -> PurePosixPath:
    """The path of a file in a zip or a dropped folder, whichever system wrote it."""
    return PurePosixPath(name.replace("\\", "/"))


def archive_pictures(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The pictures in a zip, without hidden files."""
    paths = [(entry, portable_path(entry.filename)) for entry in archive.infolist() if not entry.is_dir()]
    return [entry for entry, path in paths if path.suffix.lower() in FORMATS
            and not any(part.startswith((".", "__MACOSX")) for part in path.parts)]
