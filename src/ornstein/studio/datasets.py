"""Data sets made from uploads: numbered pictures, in a folder for each class."""

from __future__ import annotations

import functools
import re
import unicodedata
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ornstein import files
from ornstein.studio.errors import Refused
from ornstein.studio.limits import Limits
from ornstein.studio.uploads import Uploads, archive_pictures, portable_path

__all__ = ["build_dataset"]

CLASS_NAME = re.compile(r"\w(?:[\w .-]{0,62}\w)?")  # a class with another name gets a number
CHUNK = 1 << 20


def build_dataset(uploads: Uploads, ids: Sequence[str], folder: Path, limits: Limits) -> int:
    """Write the pictures of uploads into a folder and return their number.

    The class of a picture is the name of its folder, in the zip or in the name it was uploaded under, if there are
    several. The files themselves are numbered and never take a client's name.
    """
    with ExitStack() as stack:
        found = [picture for id in ids for picture in _pictures(uploads, uploads.find(id), stack)]
        if len(found) > limits.files:
            raise Refused(413, f"files hold {len(found):,} pictures; at most {limits.files:,} are allowed", "files",
                          limits.files)
        names = sorted({name for name, *_ in found})
        classes = {name: _class_folder(name, number) for number, name in enumerate(names)}
        with files.filling(folder) as new:
            bytes_left = limits.unpacked
            for name in classes.values() if len(classes) > 1 else ():
                files.make_folder(new / name)
            for number, (name, suffix, open_picture) in enumerate(found):
                path = (new / classes[name] if len(classes) > 1 else new) / f"{number:06d}{suffix}"
                with stack.enter_context(open_picture()) as source, path.open("wb") as file:
                    while chunk := source.read(CHUNK):
                        if (bytes_left := bytes_left - len(chunk)) < 0:
                            raise Refused(413, f"the pictures have more than {limits.unpacked:,} bytes", "files",
                                          limits.unpacked)
                        file.write(chunk)
    return len(found)


def _pictures(uploads: Uploads, row: dict[str, Any], stack: ExitStack) -> Iterator[tuple[str, str, Any]]:
    """(class, suffix, function that opens it) of each picture of an upload."""
    path = uploads.path_of(row)
    if row["kind"] == "picture":
        name = portable_path(row["name"]).parent.name
        yield name, row["ending"], functools.partial(files.open_regular, path)
    elif row["kind"] == "zip":
        archive = stack.enter_context(zipfile.ZipFile(path))
        for entry in archive_pictures(archive):
            name = portable_path(entry.filename)
            yield name.parent.name, name.suffix.lower(), functools.partial(archive.open, entry)
    else:
        raise Refused(422, f"file {row['id']} is an array; give pictures, or train on it with `ornstein train`",
                      "files")


def _class_folder(name: str, number: int) -> str:
    name = unicodedata.normalize("NFC", name)
    return name if CLASS_NAME.fullmatch(name) else f"class {number}"
