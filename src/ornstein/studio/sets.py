"""Data sets made of uploads: pictures under numbers, in a folder for each class."""

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
from ornstein.studio.limits import Limits
from ornstein.studio.refusal import Refused
from ornstein.studio.uploads import Uploads, inside, pictures_of

__all__ = ["gather"]

CLASS = re.compile(r"\w(?:[\w .-]{0,62}\w)?")  # of a class; others get a number
PART = 1 << 20


def gather(uploads: Uploads, ids: Sequence[str], folder: Path, limits: Limits) -> int:
    """Make a folder of pictures from uploads; how many there are.

    A picture's class is the folder that it lay in, in a zip or by the name that it was sent under, if there are
    several. No file gets a name of the sender's: pictures are numbered.
    """
    with ExitStack() as stack:
        found = [one for id in ids for one in _pictures(uploads, uploads.find(id), stack)]
        if len(found) > limits.files:
            raise Refused(413, f"files hold {len(found):,} pictures; {limits.files:,} are the most", "files",
                          limits.files)
        classes = {name: _class(name, number) for number, name in enumerate(sorted({name for name, *_ in found}))}
        with files.filling(folder) as place:
            room = limits.unpacked
            for name in classes.values() if len(classes) > 1 else ():
                files.make_folder(place / name)
            for number, (name, ending, content) in enumerate(found):
                path = (place / classes[name] if len(classes) > 1 else place) / f"{number:06d}{ending}"
                with stack.enter_context(content()) as source, path.open("wb") as file:
                    while part := source.read(PART):
                        if (room := room - len(part)) < 0:
                            raise Refused(413, f"the pictures have more than {limits.unpacked:,} bytes", "files",
                                          limits.unpacked)
                        file.write(part)
    return len(found)


def _pictures(uploads: Uploads, row: dict[str, Any], stack: ExitStack) -> Iterator[tuple[str, str, Any]]:
    """(class, ending, what opens it) of each picture of an upload."""
    path = uploads.path_of(row)
    if row["kind"] == "picture":
        yield inside(row["name"]).parent.name, row["ending"], functools.partial(files.open_regular, path)
    elif row["kind"] == "zip":
        archive = stack.enter_context(zipfile.ZipFile(path))
        for entry in pictures_of(archive):
            name = inside(entry.filename)
            yield name.parent.name, name.suffix.lower(), functools.partial(archive.open, entry)
    else:
        raise Refused(422, f"file {row['id']} holds numbers; train on pictures, or with `ornstein train`", "files")


def _class(name: str, number: int) -> str:
    name = unicodedata.normalize("NFC", name)
    return name if CLASS.fullmatch(name) else f"class {number}"
