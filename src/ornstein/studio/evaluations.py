"""Evaluations: `ornstein evaluate` on a served run, with the report in the run's folder."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ornstein.evaluation.report_files import FIGURES
from ornstein.studio.errors import Refused
from ornstein.studio.library import REPORT, Library
from ornstein.studio.processes import ACTIVE, Processes
from ornstein.studio.tables import processes

__all__ = ["KIND", "Evaluations"]

KIND = "evaluate"


class Evaluations:
    """Starts evaluations and describes their state."""

    def __init__(self, queue: Processes, library: Library) -> None:
        self.queue, self.library = queue, library
        queue.commands[KIND], queue.details[KIND] = self._command, self._details

    def start(self, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Queue the evaluation of a model; return it, or the model's active one, and whether it is new."""
        name, path = self.library.find(body["model"])
        if not path.is_dir():
            raise Refused(422, f"the model {name!r} is a file without a run, so its training data are unknown; "
                               "evaluate it with `ornstein evaluate` and --trained-on", "model")
        with self.queue.lock:
            rows = self.queue.store.select(processes, processes.c.kind == KIND, processes.c.name == name,
                                           processes.c.status.in_(ACTIVE))
            if rows:
                return self.queue.response(rows[0]), False
            self.queue.check_room()
            id = self.queue.enqueue(KIND, {**body, "name": name, "path": str(path.absolute())})
        return self.queue.get(id, KIND), True

    def _details(self, row: dict[str, Any]) -> dict[str, Any]:
        latest, status = self.queue.output(row["id"]).latest, row["status"]
        return {"model": row["name"], "progress": 1.0 if status == "done" else latest.get("share", 0.0),
                "part": latest.get("part"), "seconds_left": latest.get("left") if status == "running" else None,
                "request": {name: row["request"][name] for name in ("count", "nfe", "likelihood", "seed")},
                "command": shlex.join(["ornstein", *self._command(row)])}

    def _command(self, row: dict[str, Any]) -> list[str]:
        """The arguments of the command that evaluates."""
        request = row["request"]
        report = f"{request['path']}/{REPORT}"
        command = ["evaluate", request["path"], "--out", report, "--seed", str(request["seed"])]
        for name in ("count", "nfe"):
            command += [] if request[name] is None else [f"--{name}", str(request[name])]
        command += [] if request["likelihood"] else ["--no-likelihood"]
        return command + (["--overwrite"] if (Path(report) / FIGURES).is_file() else [])
