"""Trainings and evaluations as processes of their own, one at a time; they outlive the studio and are found again."""

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
from ornstein.studio.errors import Refused
from ornstein.studio.events import Listeners
from ornstein.studio.limits import Limits
from ornstein.studio.process_output import ProcessOutput
from ornstein.studio.store import Store, new_id
from ornstein.studio.tables import processes

__all__ = ["ACTIVE", "ENDED", "Processes"]

ENDED = frozenset({"done", "failed", "stopped"})
RUNNING = ("running", "stopping")
ACTIVE = ("waiting", *RUNNING)
POLL_INTERVAL = 0.5  # seconds
KILL_AFTER = 90.0  # seconds after which a process that does not stop is killed

log = logging.getLogger("ornstein.studio")


class Processes:
    """The queue of trainings and evaluations, with a thread that starts the next one and publishes its events."""

    def __init__(self, store: Store, limits: Limits) -> None:
        self.store, self.limits, self.running = store, limits, 0
        self.commands = dict[str, Callable[[dict[str, Any]], list[str]]]()  # a row's command line, by kind
        self.details = dict[str, Callable[[dict[str, Any]], dict[str, Any]]]()  # further fields of a response, by kind
        self.listeners = dict[str, Listeners]()
        self._outputs = dict[str, ProcessOutput]()
        self._children = dict[int, subprocess.Popen[bytes]]()
        self.lock, self._wake, self._closed = threading.RLock(), threading.Event(), False
        self._thread = threading.Thread(target=self._supervise, name="processes", daemon=True)

    def start(self) -> None:
        """Start the supervising thread, which finds the processes that still run."""
        self._thread.start()

    def close(self) -> None:
        """End the supervising thread; the processes continue."""
        self._closed = True
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(timeout=5)

    def check_room(self) -> None:
        """Refuse another process if too many are waiting or running."""
        active = self.store.count(processes, processes.c.status.in_(ACTIVE))
        if active >= self.limits.trainings:
            raise Refused(503, f"{active} trainings and evaluations are waiting or running, which is the maximum",
                          "trainings", self.limits.trainings, 60)

    def enqueue(self, kind: str, request: dict[str, Any], id: str = "") -> str:
        """Append a process to the queue and return its id."""
        id = id or new_id()
        files.write_text(self.store.folder / "logs" / f"{id}.json", json.dumps(request | {"kind": kind}))  # for rebuild
        self.store.insert(processes, {"id": id, "kind": kind, "name": request["name"], "request": request,
                                      "status": "waiting", "created": time.time()})
        self._wake.set()
        return id

    def all(self, kind: str) -> list[dict[str, Any]]:
        """The responses for all processes of a kind, newest first."""
        rows = self.store.select(processes, processes.c.kind == kind, order=[processes.c.created.desc()])
        return [self.response(row) for row in rows]

    def get(self, id: str, kind: str) -> dict[str, Any]:
        """The response for one process."""
        return self.response(self._row(id, kind))

    def _row(self, id: str, kind: str) -> dict[str, Any]:
        if (row := self.store.get(processes, (processes.c.id == id) & (processes.c.kind == kind))) is None:
            raise Refused(404, f"there is no {'training' if kind == 'train' else 'evaluation'} {id}", "id")
        return row

    def output(self, id: str) -> ProcessOutput:
        """The output of a process."""
        if id not in self._outputs:
            folder = self.store.folder
            self._outputs[id] = ProcessOutput(folder / "logs" / f"{id}.jsonl", folder / "runs" / id)
        return self._outputs[id]

    def response(self, row: dict[str, Any]) -> dict[str, Any]:
        """The response for a row."""
        if row["status"] not in RUNNING:  # of a running process the supervising thread reads and publishes the output
            self.output(row["id"]).read()
        before = self.store.count(processes, processes.c.status == "waiting", processes.c.created < row["created"])
        return {"id": row["id"], "status": row["status"],
                "position": before + (self.running > 0) if row["status"] == "waiting" else None,
                "created": row["created"], "started": row["started"], "finished": row["finished"],
                "error": row["error"], **self.details[row["kind"]](row)}

    def stop(self, id: str, kind: str) -> dict[str, Any]:
        """Stop a process; one that has ended stays as it is."""
        row = self._row(id, kind)
        if row["status"] == "waiting":
            self._set(row, "stopped")
        elif row["status"] == "running" and self._is_alive(row):
            self._set(row, "stopping", finished=time.time())
            # A training must save first; an evaluation has saved its finished parts.
            terminate = os.kill if kind == "train" else os.killpg
            with suppress(ProcessLookupError):
                terminate(row["pid"], signal.SIGTERM)
        return self.get(id, kind)

    def resume(self, id: str, kind: str) -> dict[str, Any]:
        """Queue a stopped or failed process again."""
        row = self._row(id, kind)
        if row["status"] not in ("stopped", "failed"):
            raise Refused(409, f"the training is {row['status']}" + (
                "; start another one from it" if row["status"] == "done" else ""), "id")
        self._set(row, "waiting", error=None, finished=None)
        self._wake.set()
        return self.get(id, kind)

    def _set(self, row: dict[str, Any], status: str, **values: Any) -> None:
        id = row["id"]
        ended = {"finished": time.time()} if status in ENDED else {}
        self.store.update(processes, processes.c.id == id, status=status, **ended, **values)
        if (listeners := self.listeners.get(id)) is not None:
            listeners.publish("status", self.get(id, row["kind"]))
            if status in ENDED:
                listeners.publish(status, {"id": id, "status": status})

    def _supervise(self) -> None:
        first = True
        while not self._closed:
            try:
                self._poll(first)
                first = False
            except Exception:  # such as a full disk, which may have space again at the next poll
                log.exception("supervising the trainings failed")
            self._wake.wait(POLL_INTERVAL)
            self._wake.clear()

    def _poll(self, first: bool) -> None:
        """Publish the output of the running process, record its end, and launch the next.

        At the first poll, a process that is gone without a message ended with the machine, and is queued again.
        """
        for row in self.store.select(processes, processes.c.status.in_(RUNNING)):
            output = self.output(row["id"])
            alive = self._is_alive(row)
            events = output.read()
            if (listeners := self.listeners.get(row["id"])) is not None:
                for kind, data in events:
                    listeners.publish(kind, data)
            if not alive:
                status, error = output.outcome(row["status"])
                if first and status == "failed" and output.error is None:
                    status, error = "waiting", None
                self._set(row, status, error=error, pid=None, born=None)
            elif row["status"] == "stopping" and time.time() - row["finished"] > KILL_AFTER:
                with suppress(ProcessLookupError):
                    os.killpg(row["pid"], signal.SIGKILL)
        self.running = self.store.count(processes, processes.c.status.in_(RUNNING))
        if not self.running:
            waiting = self.store.select(processes, processes.c.status == "waiting", order=[processes.c.created],
                                        limit=1)
            for row in waiting:
                self._launch(row)

    def _launch(self, row: dict[str, Any]) -> None:
        """Start or resume a process that outlives this one."""
        id = row["id"]
        log_path = self.store.folder / "logs" / f"{id}.jsonl"
        files.append(log_path, b"")
        command = [sys.executable, "-m", "ornstein", *self.commands[row["kind"]](row), "--json"]
        with log_path.open("ab") as output:
            child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT,  # noqa: S603
                                     start_new_session=True)
        self._children[child.pid] = child
        self.running = 1
        self._set(row, "running", pid=child.pid, born=psutil.Process(child.pid).create_time(),
                  started=row["started"] or time.time(), finished=None)

    def _is_alive(self, row: dict[str, Any]) -> bool:
        """Whether a process still runs, and its pid was not reused."""
        if (child := self._children.get(row["pid"])) is not None and child.poll() is not None:
            del self._children[row["pid"]]
            return False
        try:
            process = psutil.Process(row["pid"])
            return abs(process.create_time() - row["born"]) < 1 and process.status() != psutil.STATUS_ZOMBIE
        except (psutil.NoSuchProcess, TypeError):
            return False
