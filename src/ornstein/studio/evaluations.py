"""Evaluations: `ornstein evaluate` on a run that is served, into the run's own report."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

from ornstein.evaluation.written import FIGURES
from ornstein.studio.library import REPORT, Library
from ornstein.studio.processes import ACTIVE, Processes
from ornstein.studio.refusal import Refused
from ornstein.studio.tables import processes

__all__ = ["KIND", "Evaluations"]

KIND = "evaluate"


class Evaluations:
    """Begins evaluations, and tells how far they are."""

    def __init__(self, queue: Processes, library: Library) -> None:
        self.queue, self.library = queue, library
        queue.words[KIND], queue.shown[KIND] = self._words, self._shown

    def begin(self, body: dict[str, Any]) -> tuple[dict[str, Any], bool]:
        """Have the evaluation of a model wait for its turn, and whether it is new: one that waits or runs stays so."""
        name, path = self.library.find(body["model"])
        if not path.is_dir():
            raise Refused(422, f"the model {name!r} is a file without its run, which says nothing of its data; "
                               "evaluate it with `ornstein evaluate` and --trained-on", "model")
        with self.queue.lock:
            rows = self.queue.store.many(processes, processes.c.kind == KIND, processes.c.name == name,
                                         processes.c.status.in_(ACTIVE))
            if rows:
                return self.queue.answer(rows[0]), False
            self.queue.room()
            id = self.queue.add(KIND, {**body, "name": name, "path": str(path.absolute())})
        return self.queue.get(id, KIND), True

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        latest, status = self.queue.told(row["id"]).latest, row["status"]
        return {"model": row["name"], "progress": 1.0 if status == "done" else latest.get("share", 0.0),
                "part": latest.get("part"), "seconds_left": latest.get("left") if status == "running" else None,
                "request": {name: row["request"][name] for name in ("count", "nfe", "likelihood", "seed")},
                "command": shlex.join(["ornstein", *self._words(row)])}

    def _words(self, row: dict[str, Any]) -> list[str]:
        """The words of the command that evaluates."""
        asked = row["request"]
        report = f"{asked['path']}/{REPORT}"
        words = ["evaluate", asked["path"], "--out", report, "--seed", str(asked["seed"])]
        for name in ("count", "nfe"):
            words += [] if asked[name] is None else [f"--{name}", str(asked[name])]
        words += [] if asked["likelihood"] else ["--no-likelihood"]
        return words + (["--overwrite"] if (Path(report) / FIGURES).is_file() else [])
