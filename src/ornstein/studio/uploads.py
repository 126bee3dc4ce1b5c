"""Files that clients send: streamed to disk, looked at, and known by an id from then on."""

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
from ornstein.data.pictures import FORMATS, header, reason
from ornstein.studio.limits import LIMITS, Limits
from ornstein.studio.refusal import Refused, sentence
from ornstein.studio.store import Store
from ornstein.studio.tables import pictures, uploads

__all__ = ["Uploads", "inside", "look", "picture_path", "pictures_of", "read_as"]

MAGIC = (b"\x89PNG", ".png"), (b"\xff\xd8\xff", ".jpg"), (b"GIF8", ".gif"), (b"BM", ".bmp"), (
    b"II*\x00", ".tif"), (b"MM\x00*", ".tif"), (b"PK\x03\x04", ".zip"), (b"\x93NUMPY", ".npy")
T = TypeVar("T")

HEAD = 16  # bytes by which kinds are told apart


def picture_path(folder: Path, job: str, number: int) -> Path:
    """Where a job's picture lies; both come from the studio itself."""
    return folder / "pictures" / job[:2] / job / f"{number:05d}.png"


def read_as(field: str, path: Path, read: Callable[[Path], T], called: str = "") -> T:
    """What is read of a file, which messages call by its field, or as said: where it lies is nobody's business."""
    try:
        return read(path)
    except (ValueError, OSError) as error:
        raise Refused(422, sentence(error).replace(str(path), called or field), field) from None


def _ending(head: bytes) -> str:
    """What a file is by its first bytes."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return ".webp"
    for magic, ending in MAGIC:
        if head.startswith(magic):
            return ending
    raise Refused(422, "the file is no picture (PNG, JPEG, WebP, GIF, BMP, TIFF), zip or .npy file", "body")


class Uploads:
    """The files that were sent, below the studio's folder."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store, self.limits = store, limits

    async def take(self, id: str, name: str, body: AsyncIterator[bytes]) -> dict[str, Any]:
        """Keep a body under an id; sent again with the same content nothing changes."""
        if self.store.count(uploads) >= self.limits.files:
            raise Refused(413, f"{self.limits.files:,} files are kept already; delete some", "files", self.limits.files)
        digest, size, head, parts = hashlib.sha256(), 0, b"", aiter(body)
        while len(head) < HEAD and (part := await anext(parts, b"")):
            head += part
        path = self.store.folder / "uploads" / f"{id}{(ending := _ending(head))}"
        there = self.store.one(uploads, uploads.c.id == id)
        with files.replacing(path) as beside:
            with beside.open("wb") as file:
                part = head
                while part:
                    size += len(part)
                    if size > self.limits.upload:
                        raise Refused(413, f"the file has more than {self.limits.upload:,} bytes", "body",
                                      self.limits.upload)
                    digest.update(part)
                    file.write(part)
                    part = await anext(parts, b"")
            row = {"id": id, "name": shorten(printable(name), 200), "bytes": size, "sha256": digest.hexdigest(),
                   "created": time.time(), "ending": ending,
                   **await run_in_threadpool(look, beside, ending, self.limits)}
            if there is not None and there["sha256"] != row["sha256"]:
                raise Refused(409, f"a file with the id {id} is there already, and is another one", "id")
        if there is None:
            self.store.add(uploads, row)
        return there or row

    def path_of(self, row: dict[str, Any]) -> Path:
        """Where an upload lies."""
        return self.store.folder / "uploads" / f"{row['id']}{row['ending']}"

    def find(self, id: str) -> dict[str, Any]:
        """The row of an upload."""
        if (row := self.store.one(uploads, uploads.c.id == id)) is None:
            raise Refused(404, f"there is no file {id}", "id")
        return row

    def locate(self, id: str, field: str) -> Path:
        """The file of an upload, or of a picture in the gallery: of an array its numbers."""
        if (row := self.store.one(uploads, uploads.c.id == id)) is not None:
            if row["kind"] == "zip":
                raise Refused(422, f"{field} is a zip; it must be a picture", field)
            return self.path_of(row)
        if (row := self.store.one(pictures, pictures.c.id == id)) is not None:
            drawn = picture_path(self.store.folder, row["job"], row["number"])
            numbers = drawn.with_suffix(".npy")
            return numbers if numbers.is_file() else drawn
        raise Refused(422, f"{field} is {id}, and there is no such upload or picture; send it to POST "
                           "/api/files", field)

    def remove(self, id: str) -> None:
        """Delete an upload."""
        row = self.find(id)
        self.store.remove(uploads, uploads.c.id == id)
        files.remove(self.path_of(row))


def look(path: Path, ending: str, limits: Limits = LIMITS) -> dict[str, Any]:
    """What a file is: its kind, and what a picture or a zip has; raises Refused for what is of no use."""
    facts: dict[str, Any] = {"kind": "picture", "width": None, "height": None, "pictures": None}
    if ending == ".zip":
        return {**facts, "kind": "zip", "pictures": _zip(path, limits)}
    if ending == ".npy":
        _numbers(path)
        return {**facts, "kind": "numbers"}
    try:
        width, height = header(path)[:2]
        if width * height > limits.pixels:
            raise Refused(413, f"the picture has {width} x {height} pixels; {limits.pixels:,} are the most", "body",
                          limits.pixels)
        with Image.open(path) as image:
            image.verify()
    except Refused:
        raise
    except Exception as error:  # a broken file raises nearly any error of Pillow's
        raise Refused(422, f"the picture cannot be read: {reason(error)}", "body") from None
    return {**facts, "width": width, "height": height}


def _numbers(path: Path) -> None:
    try:
        values = np.load(path, allow_pickle=False, mmap_mode="r")
        if values.dtype.kind not in "biuf" or not values.ndim:
            raise ValueError(f"it holds {values.dtype}")
    except Exception as error:  # of a broken file
        raise Refused(422, f"the .npy file cannot be used: {sentence(error)}", "body") from None


def _zip(path: Path, limits: Limits) -> int:
    """How many pictures a zip holds, after refusing one that is too large or names places outside itself."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            found = pictures_of(archive)
    except Exception as error:  # of a broken file
        raise Refused(422, f"the zip cannot be read: {sentence(error)}", "body") from None
    if len(entries) > limits.files:
        raise Refused(413, f"the zip holds {len(entries):,} files; {limits.files:,} are the most", "body", limits.files)
    if (size := sum(one.file_size for one in entries)) > limits.unpacked:
        raise Refused(413, f"the zip holds {size:,} bytes; {limits.unpacked:,} are the most", "body", limits.unpacked)
    if any(one.filename.startswith(("/", "\\")) or ".." in inside(one.filename).parts for one in entries):
        raise Refused(422, "the zip names places outside itself", "body")
    if not found:
        raise Refused(422, "the zip holds no pictures", "body")
    return len(found)


def inside(name: str) -> PurePosixPath:
    """The name of a file in a zip or in a folder that was dropped, as a path of any system's."""
    return PurePosixPath(name.replace("\\", "/"))


def pictures_of(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """The pictures in a zip, without what systems hide there."""
    return [one for one in archive.infolist() if not one.is_dir() and inside(one.filename).suffix.lower() in FORMATS
            and not any(part.startswith((".", "__MACOSX")) for part in inside(one.filename).parts)]
