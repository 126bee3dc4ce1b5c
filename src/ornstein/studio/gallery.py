"""The gallery: the pictures of all jobs, their marks, and the settings inside a picture."""

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
from ornstein.figures.formats import embedded_text
from ornstein.studio import job_kinds
from ornstein.studio.errors import Refused
from ornstein.studio.library import Library
from ornstein.studio.store import Store
from ornstein.studio.tables import pictures
from ornstein.studio.uploads import picture_path

__all__ = ["MARKS", "delete", "get", "mark", "read_body", "read_settings", "search"]

MARKS = ("favourite", "deleted")
MARKING = threading.Lock()  # marks of one picture change one at a time, on disk and in the database


def search(store: Store, text: str | None, filters: Mapping[str, Any], binned: bool, before: str | None,
           limit: int) -> dict[str, Any]:
    """One page of the pictures that match a text and filters, newest first."""
    where: list[Any] = [pictures.c.deleted.is_(binned)]
    if filters.get("kind") is None:
        where.append(pictures.c.kind != "nearest")  # these are training pictures
    where += [pictures.c[name] == value for name, value in filters.items() if value is not None]
    for word in (text or "").split():
        columns = (pictures.c.model, pictures.c.label, pictures.c.kind, pictures.c.sampler, pictures.c.seed)
        where.append(or_(*(column.icontains(word, autoescape=True) for column in columns)))
    total = store.count(pictures, *where)
    if before is not None:
        try:
            moment, id = before.split("-")
            created = float(moment)
        except ValueError:
            raise Refused(422, "before must be the value of next in an earlier response", "before") from None
        where.append(or_(pictures.c.created < created, (pictures.c.created == created) & (pictures.c.id < id)))
    rows = store.select(pictures, *where, order=[pictures.c.created.desc(), pictures.c.id.desc()], limit=limit + 1)
    cursor = f"{rows[limit - 1]['created']!r}-{rows[limit - 1]['id']}" if len(rows) > limit else None
    return {"pictures": [_response(row) for row in rows[:limit]], "total": total, "next": cursor}


def _response(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "url": f"/api/jobs/{row['job']}/samples/{row['number']}.png",
            "request": row["settings"]["studio"]["request"]}


def get(store: Store, id: str) -> dict[str, Any]:
    """One picture."""
    if (row := store.get(pictures, pictures.c.id == id)) is None:
        raise Refused(404, f"there is no picture {id}", "id")
    return _response(row)


def mark(store: Store, id: str, changes: dict[str, Any]) -> dict[str, Any]:
    """Change the marks of a picture."""
    with MARKING:
        row = get(store, id) | changes
        if changes:
            marks, path = {name: row[name] for name in MARKS}, _path(store, row, ".json")
            files.write_text(path, json.dumps(marks)) if any(marks.values()) else files.remove(path)
            store.update(pictures, pictures.c.id == id, **changes)
    return get(store, id)


def delete(store: Store, id: str) -> None:
    """Delete a picture in the bin, with its files."""
    row = get(store, id)
    if not row["deleted"]:
        raise Refused(409, "only pictures in the bin can be deleted; move it there first", "id")
    store.delete(pictures, pictures.c.id == id)
    for suffix in (".png", ".npy", ".json"):
        files.remove(_path(store, row, suffix))


def _path(store: Store, row: Mapping[str, Any], suffix: str) -> Path:
    """The path of a picture (.png), of its values (.npy), or of its marks (.json), which `rebuild` reads."""
    return picture_path(store.folder, row["job"], row["number"]).with_suffix(suffix)


async def read_body(chunks: AsyncIterator[bytes], limit: int) -> bytes:
    """Read a request's body of bounded length."""
    content = bytearray()
    async for chunk in chunks:
        content += chunk
        if len(content) > limit:
            raise Refused(413, f"the file has more than {limit:,} bytes", "body", limit)
    return bytes(content)


def read_settings(library: Library, content: bytes) -> dict[str, Any]:
    """The settings inside a picture, and the job that draws it again if its model is served here."""
    settings = _parse_settings(content)
    models = dict[str, str]()
    for name in library.paths():
        with suppress(Refused):  # of a model that cannot be loaded
            models.setdefault(library.card(name)["digest"], name)
    model = models.get(str(settings.get("model")))
    job = settings.get("studio", {}).get("request") if isinstance(settings.get("studio"), dict) else None
    request = dict(job) if isinstance(job, dict) else {"kind": "generate", "count": 1 + _number(settings), **{
        name: settings[name] for name in job_kinds.SETTINGS if settings.get(name) is not None}}
    code = {"python": None, "command": None}
    if model is not None:
        request["model"] = model
        if request.get("kind") == "generate":
            code = job_kinds.equivalent_code(str(library.find(model)[1]), {"sampler": "auto", "count": 1, **request})
    return {"settings": settings, "model": model, "request": request, "number": _number(settings), **code}


def _number(settings: Mapping[str, Any]) -> int:
    number = settings.get("number", 0)
    return number if isinstance(number, int) and 0 <= number < 10_000 else 0


def _parse_settings(content: bytes) -> dict[str, Any]:
    try:
        with Image.open(io.BytesIO(content)) as image:
            text = embedded_text(image)
        settings = json.loads(text) if text else None
    except Exception:  # Pillow raises many types for a broken file
        settings = None
    if not isinstance(settings, dict):
        raise Refused(422, "Ornstein did not make this picture: it has no settings inside", "body")
    return settings
