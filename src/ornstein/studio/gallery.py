"""The pictures that were drawn."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from PIL import Image
from sqlalchemy import or_

from ornstein import files
from ornstein.figures.formats import written_in
from ornstein.studio import work
from ornstein.studio.library import Library
from ornstein.studio.refusal import Refused
from ornstein.studio.store import Store
from ornstein.studio.tables import pictures
from ornstein.studio.uploads import picture_path

__all__ = ["MARKS", "body", "delete", "get", "mark", "read", "search"]

MARKS = ("favourite", "deleted")
MARKING = threading.Lock()  # two marks of one picture are one after the other, on disk as in the database


def search(store: Store, text: str | None, given: Mapping[str, Any], binned: bool, before: str | None,
           limit: int) -> dict[str, Any]:
    """Pictures with such settings, newest first."""
    where: list[Any] = [pictures.c.deleted.is_(binned)]
    if given.get("kind") is None:
        where.append(pictures.c.kind != "nearest")  # nobody drew those
    where += [pictures.c[name] == value for name, value in given.items() if value is not None]
    for word in (text or "").split():
        fields = (pictures.c.model, pictures.c.label, pictures.c.kind, pictures.c.sampler, pictures.c.seed)
        where.append(or_(*(one.icontains(word, autoescape=True) for one in fields)))
    total = store.count(pictures, *where)
    if before is not None:
        try:
            created, id = before.split("-")
            age = float(created)
        except ValueError:
            raise Refused(422, "before must be the next of an earlier answer", "before") from None
        where.append(or_(pictures.c.created < age, (pictures.c.created == age) & (pictures.c.id < id)))
    rows = store.many(pictures, *where, order=[pictures.c.created.desc(), pictures.c.id.desc()], most=limit + 1)
    more = f"{rows[limit - 1]['created']!r}-{rows[limit - 1]['id']}" if len(rows) > limit else None
    return {"pictures": [_shown(row) for row in rows[:limit]], "total": total, "next": more}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "url": f"/api/jobs/{row['job']}/samples/{row['number']}.png",
            "request": row["settings"]["studio"]["request"]}


def get(store: Store, id: str) -> dict[str, Any]:
    """One picture."""
    if (row := store.one(pictures, pictures.c.id == id)) is None:
        raise Refused(404, f"there is no picture {id}", "id")
    return _shown(row)


def mark(store: Store, id: str, values: dict[str, Any]) -> dict[str, Any]:
    """Change what a picture is marked with."""
    with MARKING:
        row = get(store, id) | values
        if values:
            marks, place = {name: row[name] for name in MARKS}, _place(store, row, ".json")
            files.write_text(place, json.dumps(marks)) if any(marks.values()) else files.remove(place)
            store.change(pictures, pictures.c.id == id, **values)
    return get(store, id)


def delete(store: Store, id: str) -> None:
    """Delete a picture in the bin, with its file."""
    row = get(store, id)
    if not row["deleted"]:
        raise Refused(409, "only pictures in the bin are deleted; move it there first", "id")
    store.remove(pictures, pictures.c.id == id)
    for ending in (".png", ".npy", ".json"):
        files.remove(_place(store, row, ending))


def _place(store: Store, row: Mapping[str, Any], ending: str) -> Path:
    """A picture's file: itself, its numbers, or what it is marked with, which is kept there for `rebuild`."""
    return picture_path(store.folder, row["job"], row["number"]).with_suffix(ending)


async def body(parts: AsyncIterator[bytes], most: int) -> bytes:
    """A body of bounded length."""
    content = bytearray()
    async for part in parts:
        content += part
        if len(content) > most:
            raise Refused(413, f"the file has more than {most:,} bytes", "body", most)
    return bytes(content)


def read(library: Library, content: bytes) -> dict[str, Any]:
    """What a picture says of itself, and the job that draws it again with a model that is here."""
    settings = _settings(content)
    models = dict[str, str]()
    for name in library.paths():
        with suppress(Refused):  # of a model that cannot be loaded
            models.setdefault(library.card(name)["digest"], name)
    model = models.get(str(settings.get("model")))
    kept = settings.get("studio", {}).get("request") if isinstance(settings.get("studio"), dict) else None
    request = dict(kept) if isinstance(kept, dict) else {"kind": "generate", "count": 1 + _number(settings), **{
        name: settings[name] for name in work.FACTS if settings.get(name) is not None}}
    code = {"python": None, "command": None}
    if model is not None:
        request["model"] = model
        if request.get("kind") == "generate":
            code = work.code(str(library.find(model)[1]), {"sampler": "auto", "count": 1, **request})
    return {"settings": settings, "model": model, "request": request, "number": _number(settings), **code}


def _number(settings: Mapping[str, Any]) -> int:
    number = settings.get("number", 0)
    return number if isinstance(number, int) and 0 <= number < 10_000 else 0


def _settings(content: bytes) -> dict[str, Any]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            text = written_in(image)
        settings = json.loads(text) if text else None
    except Exception:  # a broken file raises nearly any error of Pillow's
        settings = None
    if not isinstance(settings, dict):
        raise Refused(422, "this is no picture that Ornstein made: it has no settings inside", "body")
    return settings
