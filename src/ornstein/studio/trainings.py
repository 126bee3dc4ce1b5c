"""Trainings: `ornstein train` on uploads or on a built-in data set."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ornstein.checkpoint import MODEL
from ornstein.studio.datasets import build_dataset
from ornstein.studio.errors import Refused
from ornstein.studio.library import Library
from ornstein.studio.processes import Processes
from ornstein.studio.store import new_id
from ornstein.studio.tables import processes
from ornstein.studio.uploads import Uploads
from ornstein.training.run import SETTINGS

__all__ = ["KIND", "Trainings"]

KIND = "train"


class Trainings:
    """Starts trainings and describes their state."""

    library: Library

    def __init__(self, queue: Processes, uploads: Uploads) -> None:
        self.queue, self.store, self.uploads = queue, queue.store, uploads
        queue.commands[KIND] = lambda row: [*self._command(row), *(
            ["--resume"] if (self.run_of(row["id"]) / SETTINGS).is_file() else [])]
        queue.details[KIND] = self._details

    def run_of(self, id: str) -> Path:
        """The folder of a training's run."""
        return self.store.folder / "runs" / id

    def models(self) -> Mapping[str, Path]:
        """The folders of the trainings' runs, by name."""
        rows = self.store.select(processes, processes.c.kind == KIND, order=[processes.c.created])
        return {row["name"]: self.run_of(row["id"]) for row in rows}

    def start(self, body: dict[str, Any]) -> dict[str, Any]:
        """Build the data set and queue the training."""
        if body["files"] and body["data"]:
            raise Refused(422, "files and data are both given; give one of them", "files")
        if not (body["files"] or body["data"] or body["from"]):
            raise Refused(422, "files are missing; send pictures to POST /api/files first", "files")
        source = None if body["from"] is None else str(self.library.find(body["from"])[1])
        with self.queue.lock:
            self.queue.check_room()
            if body["name"] in self.library.paths() or body["name"] in self.models():
                raise Refused(422, f"there is already a model {body['name']!r}; choose another name", "name")
            id = new_id()
            count = 0 if not body["files"] else build_dataset(
                self.uploads, body["files"], self.store.folder / "sets" / id, self.queue.limits)
            self.queue.enqueue(KIND, {**body, "pictures": count, "from_path": source}, id)
        return self.queue.get(id, KIND)

    def _details(self, row: dict[str, Any]) -> dict[str, Any]:
        id, output = row["id"], self.queue.output(row["id"])
        return {"name": row["name"], **output.progress(row["status"]), "notes": output.notes, "chosen": output.choices,
                "previews": [*map(output.preview_event, output.previews())],
                "model": row["name"] if (self.run_of(id) / MODEL).is_file() else None,
                "request": {name: value for name, value in row["request"].items() if name != "from_path"},
                "command": shlex.join(["ornstein", *self._command(row)])}

    def _command(self, row: dict[str, Any]) -> list[str]:
        """The arguments of the command that trains."""
        request, command = row["request"], ["train"]
        if request["files"] or request["data"]:
            command.append(request["data"] or str(self.store.folder.absolute() / "sets" / row["id"]))
        command += ["--out", str(self.run_of(row["id"]).absolute()), "--minutes", f"{request['minutes']:g}",
                    "--seed", str(request["seed"])]
        if request["size"] is not None:
            command += ["--size", str(request["size"])]
        if request["classes"] is not None:
            command.append("--classes" if request["classes"] else "--no-classes")
        return command + (["--from", request["from_path"]] if request["from_path"] else [])
