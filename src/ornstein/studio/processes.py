"""What takes minutes, in processes of their own, one at a time: they outlive the studio, and are found again."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import psutil

from ornstein import files
from ornstein.studio.events import Listeners
from ornstein.studio.limits import Limits
from ornstein.studio.refusal import Refused
from ornstein.studio.store import Store, new_id
from ornstein.studio.tables import processes
from ornstein.studio.told import Told

__all__ = ["ACTIVE", "ENDED", "Processes"]

ENDED = frozenset({"done", "failed", "stopped"})
RUNS = ("running", "stopping")
ACTIVE = ("waiting", *RUNS)
OFTEN, STUBBORN = 0.5, 90.0  # seconds between two looks, and after which one that does not stop is killed

log = logging.getLogger("ornstein.studio")


class Processes:
    """Trainings and evaluations. A thread looks after them: it starts the next, and tells what the one that runs says.
    """

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store, self.limits, self.running = store, limits, 0
        self.words = dict[str, Callable[[dict[str, Any]], list[str]]]()  # of the command, by the kind of process
        self.shown = dict[str, Callable[[dict[str, Any]], dict[str, Any]]]()  # what a row is answered as, by kind
        self.listeners = dict[str, Listeners]()
        self._told = dict[str, Told]()
        self._children = dict[int, subprocess.Popen[bytes]]()
        self.lock, self._wake, self._closed = threading.RLock(), threading.Event(), False
        self._thread = threading.Thread(target=self._look_after, name="processes", daemon=True)

    def start(self) -> None:
        """Find those that run, and look after them."""
        self._thread.start()

    def close(self) -> None:
        """Let go of them; they go on by themselves."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def room(self) -> None:
        """Refuse another one where too many wait or run."""
        active = self.store.count(processes, processes.c.status.in_(ACTIVE))
        if active >= self.limits.trainings:
            raise Refused(503, f"{active} trainings and evaluations wait or run, which is the most", "trainings",
                          self.limits.trainings, 60)

    def add(self, kind: str, request: dict[str, Any], id: str = "") -> str:
        """Have one wait for its turn; its id."""
        id = id or new_id()
        files.write_text(self.store.folder / "logs" / f"{id}.json", json.dumps(request | {"kind": kind}))  # for rebuild
        self.store.add(processes, {"id": id, "kind": kind, "name": request["name"], "request": request,
                                   "status": "waiting", "created": time.time()})
        self._wake.set()
        return id

    def all(self, kind: str) -> list[dict[str, Any]]:
        """All of a kind, newest first."""
        rows = self.store.many(processes, processes.c.kind == kind, order=[processes.c.created.desc()])
        return [self.answer(row) for row in rows]

    def get(self, id: str, kind: str) -> dict[str, Any]:
        """One, as it is answered."""
        return self.answer(self.row(id, kind))

    def row(self, id: str, kind: str) -> dict[str, Any]:
        """One, as it is kept."""
        if (row := self.store.one(processes, (processes.c.id == id) & (processes.c.kind == kind))) is None:
            raise Refused(404, f"there is no {'training' if kind == 'train' else 'evaluation'} {id}", "id")
        return row

    def told(self, id: str) -> Told:
        """What one has said of itself."""
        if id not in self._told:
            self._told[id] = Told(self.store.folder / "logs" / f"{id}.jsonl", self.store.folder / "runs" / id)
        return self._told[id]

    def answer(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row as it is answered."""
        if row["status"] not in RUNS:  # whose news are for those who listen
            self.told(row["id"]).read()
        before = self.store.count(processes, processes.c.status == "waiting", processes.c.created < row["created"])
        return {"id": row["id"], "status": row["status"],
                "position": before + (self.running > 0) if row["status"] == "waiting" else None,
                "created": row["created"], "started": row["started"], "finished": row["finished"],
                "error": row["error"], **self.shown[row["kind"]](row)}

    def stop(self, id: str, kind: str) -> dict[str, Any]:
        """Have one end; asked again, one that is waiting or has ended stays so."""
        row = self.row(id, kind)
        if row["status"] == "waiting":
            self._set(row, "stopped")
        elif row["status"] == "running" and self._alive(row):
            self._set(row, "stopping", finished=time.time())
            end = os.kill if kind == "train" else os.killpg  # a training saves; of an evaluation the parts are saved
            with suppress(ProcessLookupError):
                end(row["pid"], signal.SIGTERM)
        return self.get(id, kind)

    def resume(self, id: str, kind: str) -> dict[str, Any]:
        """Have one that was stopped or has failed wait for its turn again."""
        row = self.row(id, kind)
        if row["status"] not in ("stopped", "failed"):
            raise Refused(409, f"the training is {row['status']}" + (
                "; begin another one from it" if row["status"] == "done" else ""), "id")
        self._set(row, "waiting", error=None, finished=None)
        self._wake.set()
        return self.get(id, kind)

    def _set(self, row: dict[str, Any], status: str, **values: Any) -> None:
        id = row["id"]
        ends = {"finished": time.time()} if status in ENDED else {}
        self.store.change(processes, processes.c.id == id, status=status, **ends, **values)
        if (there := self.listeners.get(id)) is not None:
            there.tell("status", self.get(id, row["kind"]))
            if status in ENDED:
                there.tell(status, {"id": id, "status": status})

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
        """Tell what those that run say, end those whose processes are gone, and start the next; at the first look one
        that says nothing of its end ended with the machine, and goes on."""
        rows = self.store.many(processes, processes.c.status.in_(RUNS))
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
                self._set(row, status, error=error, pid=None, born=None)
            elif row["status"] == "stopping" and time.time() - row["finished"] > STUBBORN:
                with suppress(ProcessLookupError):
                    os.killpg(row["pid"], signal.SIGKILL)
        self.running = self.store.count(processes, processes.c.status.in_(RUNS))
        if not self.running:
            waiting = self.store.many(processes, processes.c.status == "waiting", order=[processes.c.created], most=1)
            for row in waiting:
                self._launch(row)

    def _launch(self, row: dict[str, Any]) -> None:
        """Start one, or go on with it, in a process that outlives this one."""
        id = row["id"]
        place = self.store.folder / "logs" / f"{id}.jsonl"
        files.append(place, b"")
        with place.open("ab") as output:
            child = subprocess.Popen([sys.executable, "-m", "ornstein", *self.words[row["kind"]](row), "--json"],  # noqa: S603
                                     stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,
                                     start_new_session=True)
        self._children[child.pid] = child
        self.running = 1
        self._set(row, "running", pid=child.pid, born=psutil.Process(child.pid).create_time(),
                  started=row["started"] or time.time(), finished=None)

    def _alive(self, row: dict[str, Any]) -> bool:
        """Whether a process is there, and not another one of its number."""
        if (child := self._children.get(row["pid"])) is not None and child.poll() is not None:
            del self._children[row["pid"]]
            return False
        try:
            process = psutil.Process(row["pid"])
            return abs(process.create_time() - row["born"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, TypeError):
            return False
