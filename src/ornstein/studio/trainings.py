"""Trainings: processes of their own, one at a time, found again after a restart."""

from __future__ import annotations

import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil

from ornstein import files
from ornstein.checkpoint import MODEL
from ornstein.studio.events import Listeners
from ornstein.studio.library import Library
from ornstein.studio.limits import Limits
from ornstein.studio.refusal import Refused
from ornstein.studio.sets import gather
from ornstein.studio.store import Store, new_id
from ornstein.studio.tables import trainings
from ornstein.studio.told import Told
from ornstein.studio.uploads import Uploads
from ornstein.training.run import SETTINGS

__all__ = ["ENDED", "Trainings"]

ENDED = frozenset({"done", "failed", "stopped"})
RUNS = ("running", "stopping")
OFTEN, STUBBORN = 0.5, 90.0  # seconds between two looks, and after which one that does not stop is killed

log = logging.getLogger("ornstein.studio")


class Trainings:
    """The trainings of a studio. A thread looks after them: it starts the next, and tells what the one that runs says.
    """

    library: Library

    def __init__(self, store: Store, uploads: Uploads, limits: Limits) -> None:
        self.store, self.uploads, self.limits, self.running = store, uploads, limits, 0
        self.listeners = dict[str, Listeners]()
        self._told = dict[str, Told]()
        self._children = dict[int, subprocess.Popen[bytes]]()
        self._lock, self._wake, self._closed = threading.Lock(), threading.Event(), False
        self._thread = threading.Thread(target=self._look_after, name="trainings", daemon=True)

    def start(self) -> None:
        """Find those that run, and look after them."""
        self._thread.start()

    def close(self) -> None:
        """Let go of them; they go on by themselves."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def run_of(self, id: str) -> Path:
        """The folder of a training's run."""
        return self.store.folder / "runs" / id

    def models(self) -> Mapping[str, Path]:
        """Folders of the trainings' runs, by name."""
        rows = self.store.many(trainings, order=[trainings.c.created])
        return {row["name"]: self.run_of(row["id"]) for row in rows}

    def begin(self, body: dict[str, Any]) -> dict[str, Any]:
        """Make the data set, and have the training wait for its turn."""
        given = [name for name in ("files", "data") if body[name]]
        if len(given) > 1 or not (given or body["from"]):
            raise Refused(422, "give files or data, one of them" if given else "files are missing; send pictures to "
                          "POST /api/files first", "files")
        source = None if body["from"] is None else str(self.library.find(body["from"])[1])
        with self._lock:
            active = self.store.count(trainings, trainings.c.status.in_(("waiting", *RUNS)))
            if active >= self.limits.trainings:
                raise Refused(503, f"{active} trainings wait or run, which is the most", "trainings",
                              self.limits.trainings, 60)
            if body["name"] in self.library.paths() or body["name"] in self.models():
                raise Refused(422, f"there is a model {body['name']!r} already; choose another name", "name")
            id = new_id()
            found = 0 if not body["files"] else gather(self.uploads, body["files"], self.store.folder / "sets" / id,
                                                       self.limits)
            request = {**body, "pictures": found, "from_path": source}
            files.write_text(self.store.folder / "logs" / f"{id}.json", json.dumps(request))  # for `rebuild`
            self.store.add(trainings, {"id": id, "name": body["name"], "request": request, "status": "waiting",
                                       "created": time.time()})
        self._wake.set()
        return self.get(id)

    def all(self) -> list[dict[str, Any]]:
        """All of them, newest first."""
        return [self._shown(row) for row in self.store.many(trainings, order=[trainings.c.created.desc()])]

    def get(self, id: str) -> dict[str, Any]:
        """One."""
        return self._shown(self._row(id))

    def told(self, id: str) -> Told:
        """What a training has said of itself."""
        if id not in self._told:
            self._told[id] = Told(self.store.folder / "logs" / f"{id}.jsonl", self.run_of(id))
        return self._told[id]

    def stop(self, id: str) -> dict[str, Any]:
        """Have a training save and end; asked again, one that is waiting or has ended stays so."""
        row = self._row(id)
        if row["status"] == "waiting":
            self._set(id, "stopped")
        elif row["status"] == "running" and self._alive(row):
            self._set(id, "stopping", finished=time.time())
            with suppress(ProcessLookupError):
                os.kill(row["pid"], signal.SIGTERM)
        return self.get(id)

    def resume(self, id: str) -> dict[str, Any]:
        """Have a training that was stopped or has failed wait for its turn again."""
        row = self._row(id)
        if row["status"] not in ("stopped", "failed"):
            raise Refused(409, f"the training is {row['status']}" + (
                "; begin another one from it" if row["status"] == "done" else ""), "id")
        self._set(id, "waiting", error=None, finished=None)
        self._wake.set()
        return self.get(id)

    def _row(self, id: str) -> dict[str, Any]:
        if (row := self.store.one(trainings, trainings.c.id == id)) is None:
            raise Refused(404, f"there is no training {id}", "id")
        return row

    def _set(self, id: str, status: str, **values: Any) -> None:
        ends = {"finished": time.time()} if status in ENDED else {}
        self.store.change(trainings, trainings.c.id == id, status=status, **ends, **values)
        if (there := self.listeners.get(id)) is not None:
            there.tell("status", self.get(id))
            if status in ENDED:
                there.tell(status, {"id": id, "status": status})

    def _shown(self, row: dict[str, Any]) -> dict[str, Any]:
        id, told = row["id"], self.told(row["id"])
        if row["status"] not in RUNS:  # whose news are for those who listen
            told.read()
        waits = row["status"] == "waiting"
        before = self.store.count(trainings, trainings.c.status == "waiting", trainings.c.created < row["created"])
        return {"id": id, "name": row["name"], "status": row["status"],
                "position": before + (self.running > 0) if waits else None,
                **told.progress(row["status"]), "notes": told.notes, "chosen": told.chosen,
                "previews": [{"images": images, "url": f"/api/trainings/{id}/previews/{images}.png"}
                             for images in told.previews()],
                "model": row["name"] if (self.run_of(id) / MODEL).is_file() else None,
                "request": {name: value for name, value in row["request"].items() if name != "from_path"},
                "created": row["created"], "started": row["started"], "finished": row["finished"],
                "error": row["error"], "command": shlex.join(["ornstein", *self._words(row)])}

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

    def _look_after(self) -> None:
        first = True
        while not self._closed:
            try:
                self._look(first)
                first = False
            except Exception:  # a full disk may be empty again at the next look
                log.exception("looking after the trainings failed")
            self._wake.wait(OFTEN)
            self._wake.clear()

    def _look(self, first: bool) -> None:
        """Tell what those that run say, end those whose processes are gone, and start the next; at the first look a
        training that says nothing of its end ended with the machine, and goes on."""
        rows = self.store.many(trainings, trainings.c.status.in_(RUNS))
        for row in rows:
            told = self.told(row["id"])
            alive = self._alive(row)
            news = told.read()
            if (there := self.listeners.get(row["id"])) is not None:
                for kind, data in news:
                    there.tell(kind, data)
            if not alive:
                status, error = told.outcome(row["status"])
                if first and status == "failed" and told.error is None:
                    status, error = "waiting", None
                self._set(row["id"], status, error=error, pid=None, born=None)
            elif row["status"] == "stopping" and time.time() - row["finished"] > STUBBORN:
                with suppress(ProcessLookupError):
                    os.killpg(row["pid"], signal.SIGKILL)
        self.running = self.store.count(trainings, trainings.c.status.in_(RUNS))
        if not self.running:
            waiting = self.store.many(trainings, trainings.c.status == "waiting", order=[trainings.c.created], most=1)
            for row in waiting:
                self._launch(row)

    def _launch(self, row: dict[str, Any]) -> None:
        """Start a training, or go on with it, in a process that outlives this one."""
        id = row["id"]
        words = [*self._words(row), "--json", *(["--resume"] if (self.run_of(id) / SETTINGS).is_file() else [])]
        place = self.store.folder / "logs" / f"{id}.jsonl"
        files.append(place, b"")
        with place.open("ab") as output:
            child = subprocess.Popen([sys.executable, "-m", "ornstein", *words], stdin=subprocess.DEVNULL,  # noqa: S603
                                     stdout=output, stderr=subprocess.STDOUT, start_new_session=True)
        self._children[child.pid] = child
        self.running = 1
        self._set(id, "running", pid=child.pid, born=psutil.Process(child.pid).create_time(),
                  started=row["started"] or time.time(), finished=None)

    def _alive(self, row: dict[str, Any]) -> bool:
        """Whether a training's process is there, and not another one of its number."""
        if (child := self._children.get(row["pid"])) is not None and child.poll() is not None:
            del self._children[row["pid"]]
            return False
        try:
            process = psutil.Process(row["pid"])
            return abs(process.create_time() - row["born"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, TypeError):
            return False
