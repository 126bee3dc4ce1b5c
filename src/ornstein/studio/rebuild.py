"""The database made anew from the files: pictures say what they are, and trainings and uploads lie where they lay."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ornstein import files
from ornstein.figures.formats import written_in
from ornstein.studio.gallery import MARKS
from ornstein.studio.jobs import RESULT, row_of
from ornstein.studio.store import DATABASE, Store
from ornstein.studio.tables import jobs, pictures, processes, uploads
from ornstein.studio.told import Told
from ornstein.studio.uploads import look

__all__ = ["rebuild"]

JOB, PICTURE, UPLOAD = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9]{5}\.png"), re.compile(r"([0-9a-f]{16})(\.\w+)")


def rebuild(folder: Path) -> dict[str, int]:
    """Make the database of a studio's folder anew, beside the old one; how many rows of each kind it has.

    Raises:
        FileNotFoundError: the folder is not there.
    """
    if not (folder / "pictures").is_dir():
        raise FileNotFoundError(f"{folder} is not the folder of a studio (it has no pictures); name it with --folder")
    old = time.strftime("%Y%m%d-%H%M%S")
    for ending in ("", "-wal", "-shm"):
        if (place := folder / f"{DATABASE}{ending}").exists():
            files.move(place, folder / f"{DATABASE}.{old}{ending}")
    store = Store(folder)
    try:
        for job in sorted((folder / "pictures").glob("*/*")):
            if JOB.fullmatch(job.name):
                _job(store, job)
        for row in _uploads(folder):
            store.add(uploads, row)
        for row in _processes(folder):
            store.add(processes, row)
        return {table.name: store.count(table) for table in (jobs, pictures, uploads, processes)}
    finally:
        store.close()


def _job(store: Store, folder: Path) -> None:
    rows = list[dict[str, Any]]()
    for path in sorted(path for path in folder.iterdir() if PICTURE.fullmatch(path.name)):
        try:
            with Image.open(path) as image:
                settings, size = json.loads(written_in(image) or ""), image.size
            rows.append(row_of(folder.name, int(path.stem), settings, size, path.stat().st_mtime) | _marks(path))
        except (OSError, ValueError, KeyError, TypeError, SyntaxError):  # not one of ours, or damaged
            continue
    if rows:
        first = rows[0]
        result = _record(folder / RESULT)
        result["extra"] = sorted(path.stem for path in folder.iterdir() if path.name in ("mean.png", "spread.png"))
        if numbers := sorted(folder.glob("*.npy")):
            result["values"] = [np.load(path, allow_pickle=False).tolist() for path in numbers]
        store.add(jobs, {"id": folder.name, "client": "", "kind": first["kind"], "model": first["model"],
                         "request": first["settings"]["studio"]["request"], "status": "done",
                         "created": first["created"], "started": first["created"], "finished": first["created"],
                         "result": result})
        for row in rows:
            store.add(pictures, row)


def _marks(picture: Path) -> dict[str, bool]:
    """What a picture is marked with."""
    found = _record(picture.with_suffix(".json"))
    return {name: found.get(name) is True for name in MARKS}


def _record(path: Path) -> dict[str, Any]:
    """A record beside pictures; an empty one where it is missing or damaged, for the pictures are what counts."""
    try:
        return files.read_json(path)
    except (OSError, ValueError):
        return {}


def _uploads(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "uploads").iterdir()):
        if match := UPLOAD.fullmatch(path.name):
            with files.open_regular(path) as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            yield {"id": match[1], "ending": match[2], "name": path.name, "bytes": path.stat().st_size,
                   "sha256": digest, "created": path.stat().st_mtime, **look(path, match[2])}


def _processes(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "logs").glob("*.json")):
        if JOB.fullmatch(path.stem):
            request = files.read_json(path)
            told = Told(path.with_suffix(".jsonl"), folder / "runs" / path.stem)
            told.read()
            status, error = told.outcome("running") if told.log.is_file() else ("stopped", None)
            yield {"id": path.stem, "kind": request.pop("kind", "train"), "name": request["name"], "request": request,
                   "status": status, "error": error,
                   "created": path.stat().st_mtime}
