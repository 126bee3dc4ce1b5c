"""Rebuilds the database from the files: the settings in pictures, their records, the uploads and the logs."""

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
from ornstein.figures.formats import embedded_text
from ornstein.studio.gallery import MARKS
from ornstein.studio.jobs import RESULT, picture_row
from ornstein.studio.process_output import ProcessOutput
from ornstein.studio.store import DATABASE, Store
from ornstein.studio.tables import jobs, pictures, processes, uploads
from ornstein.studio.uploads import inspect_file

__all__ = ["rebuild"]

JOB, PICTURE, UPLOAD = re.compile(r"[0-9a-f]{16}"), re.compile(r"[0-9]{5}\.png"), re.compile(r"([0-9a-f]{16})(\.\w+)")


def rebuild(folder: Path) -> dict[str, int]:
    """Build a new database for a studio's folder, keep the old one under another name, and return the rows per table.

    Raises:
        FileNotFoundError: the folder is not that of a studio.
    """
    if not (folder / "pictures").is_dir():
        raise FileNotFoundError(f"{folder} is not the folder of a studio (it has no pictures); name it with --folder")
    date = time.strftime("%Y%m%d-%H%M%S")
    for suffix in ("", "-wal", "-shm"):
        if (path := folder / f"{DATABASE}{suffix}").exists():
            files.move(path, folder / f"{DATABASE}.{date}{suffix}")
    store = Store(folder)
    try:
        for path in sorted((folder / "pictures").glob("*/*")):
            if JOB.fullmatch(path.name):
                _insert_job(store, path)
        for row in _uploads(folder):
            store.insert(uploads, row)
        for row in _processes(folder):
            store.insert(processes, row)
        return {table.name: store.count(table) for table in (jobs, pictures, uploads, processes)}
    finally:
        store.close()


def _insert_job(store: Store, folder: Path) -> None:
    rows = list[dict[str, Any]]()
    for path in sorted(path for path in folder.iterdir() if PICTURE.fullmatch(path.name)):
        try:
            with Image.open(path) as image:
                settings, size = json.loads(embedded_text(image) or ""), image.size
            rows.append(picture_row(folder.name, int(path.stem), settings, size, path.stat().st_mtime) | _marks(path))
        except (OSError, ValueError, KeyError, TypeError, SyntaxError):  # damaged, or not the studio's
            continue
    if rows:
        first = rows[0]
        result = _read_record(folder / RESULT)
        result["extra"] = sorted(path.stem for path in folder.iterdir() if path.name in ("mean.png", "spread.png"))
        if arrays := sorted(folder.glob("*.npy")):
            result["values"] = [np.load(path, allow_pickle=False).tolist() for path in arrays]
        store.insert(jobs, {"id": folder.name, "client": "", "kind": first["kind"], "model": first["model"],
                            "request": first["settings"]["studio"]["request"], "status": "done",
                            "created": first["created"], "started": first["created"], "finished": first["created"],
                            "result": result})
        for row in rows:
            store.insert(pictures, row)


def _marks(picture: Path) -> dict[str, bool]:
    record = _read_record(picture.with_suffix(".json"))
    return {name: record.get(name) is True for name in MARKS}


def _read_record(path: Path) -> dict[str, Any]:
    """A JSON record beside pictures; empty if it is missing or damaged, because the pictures matter more."""
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
                   "sha256": digest, "created": path.stat().st_mtime, **inspect_file(path, match[2])}


def _processes(folder: Path) -> Iterator[dict[str, Any]]:
    for path in sorted((folder / "logs").glob("*.json")):
        if JOB.fullmatch(path.stem):
            request = files.read_json(path)
            output = ProcessOutput(path.with_suffix(".jsonl"), folder / "runs" / path.stem)
            output.read()
            status, error = output.outcome("running") if output.log.is_file() else ("stopped", None)
            yield {"id": path.stem, "kind": request.pop("kind", "train"), "name": request["name"], "request": request,
                   "status": status, "error": error, "created": path.stat().st_mtime}
