"""Trainings of the studio's own: `ornstein train` on uploads or on a built-in set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ornstein.checkpoint import MODEL
from ornstein.studio.library import Library
from ornstein.studio.processes import Processes
from ornstein.studio.refusal import Refused
from ornstein.studio.sets import gather
from ornstein.studio.store import new_id
from ornstein.studio.tables import processes
from ornstein.studio.uploads import Uploads
from ornstein.training.run import SETTINGS

__all__ = ["KIND", "Trainings"]

KIND = "train"


class Trainings:
    """Begins trainings, and tells how far they are."""

    library: Library

    def __init__(self, queue: Processes, uploads: Uploads) -> None:
        self.queue, self.store, self.uploads = queue, queue.store, uploads
        queue.words[KIND] = lambda row: [*self._words(row), *(
            ["--resume"] if (self.run_of(row["id"]) / SETTINGS).is_file() else [])]
        queue.shown[KIND] = self._shown

    def run_of(self, id: str) -> Path:
        """The folder of a training's run."""
        return self.store.folder / "runs" / id

    def models(self) -> Mapping[str, Path]:
        """Folders of the trainings' runs, by name."""
        rows = self.store.many(processes, processes.c.kind == KIND, order=[processes.c.created])
        return {row["name"]: self.run_of(row["id"]) for row in rows}

    def begin(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make the data set, and have the training wait for its turn."""
        given = [name for name in ("files", "data") if body[name]]
        if len(given) > 1 or not (given or body["from"]):
            raise Refused(422, "give files or data, one of them" if given else "files are missing; send pictures to "
                          "POST /api/files first", "files")
        source = None if body["from"] is None else str(self.library.find(body["from"])[1])
        with self.queue.lock:
            self.queue.room()
            if body["name"] in self.library.paths() or body["name"] in self.models():
                raise Refused(422, f"there is a model {body['name']!r} already; choose another name", "name")
            id = new_id()
            found = 0 if not body["files"] else gather(self.uploads, body["files"], self.store.folder / "sets" / id,
                                                       self.queue.limits)
            self.queue.add(KIND, {**body, "pictures": found, "from_path": source}, id)
        return self.queue.get(id, KIND)

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        id, told = row["id"], self.queue.told(row["id"])
        return {"name": row["name"], **told.progress(row["status"]), "notes": told.notes, "chosen": told.chosen,
                "previews": [{"images": images, "url": f"/api/trainings/{id}/previews/{images}.png"}
                             for images in told.previews()],
                "model": row["name"] if (self.run_of(id) / MODEL).is_file() else None,
                "request": {name: value for name, value in row["request"].items() if name != "from_path"},
                "command": shlex.join(["ornstein", *self._words(row)])}

    def _words(self, row: dict[str, Any]) -> list[str]:
        """The words of the command that trains."""
        asked, words = row["request"], ["train"]
        if asked["files"] or asked["data"]:
            words.append(asked["data"] or str(self.store.folder.absolute() / "sets" / row["id"]))
        words += ["--out", str(self.run_of(row["id"]).absolute()), "--minutes", f"{asked['minutes']:g}",
                  "--seed", str(asked["seed"])]
        if asked["size"] is not None:
            words += ["--size", str(asked["size"])]
        if asked["classes"] is not None:
            words.append("--classes" if asked["classes"] else "--no-classes")
        return words + (["--from", asked["from_path"]] if asked["from_path"] else [])
