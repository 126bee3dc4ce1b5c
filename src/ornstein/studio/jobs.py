"""Jobs: queued, drawn by several walks at once, kept; fair between clients, oldest first within one."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import math
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from sqlalchemy.exc import OperationalError
from torch import Tensor

from ornstein import files
from ornstein.data import DataSpec
from ornstein.diffusion.denoiser import Batched
from ornstein.diffusion.estimate import Estimate
from ornstein.figures.formats import options
from ornstein.studio import work
from ornstein.studio.batching import Batcher, Stopped, Walk
from ornstein.studio.events import Listeners
from ornstein.studio.library import Library, Model
from ornstein.studio.limits import Limits
from ornstein.studio.refusal import Refused, no_room, sentence
from ornstein.studio.store import Store, new_id
from ornstein.studio.tables import jobs
from ornstein.studio.uploads import Uploads, picture_path

__all__ = ["ENDED", "RESULT", "Job", "Jobs", "picture_id", "row_of"]

RESULT = "result.json"  # beside the pictures of a job: what else it found
ENDED = frozenset({"done", "failed", "cancelled"})
WALKS, TOGETHER = 48, 1024  # jobs that are drawn at once, and samples of them, counted as so many of SMALL values
SMALL = 4096
# Samples of a preview, seconds between two of a job, and the share of the time that all of them, but the first of each
# job, may take; and seconds between two words of progress to somebody who wants no previews.
SHOWN, APART, SHARE, TOLD = 16, 0.15, 0.1, 0.5
AGAIN = 5  # seconds after which a client that is refused may try again
ROOM = 2.0  # seconds between two tries to write to a disk that is full

log = logging.getLogger("ornstein.studio")


@dataclass(eq=False)
class Job:
    """A job that waits or runs."""

    id: str
    client: str
    body: dict[str, Any]
    model: str
    created: float
    status: str = "queued"
    started: float | None = None
    walk: Walk = field(default_factory=Walk)
    calls: int = 0
    total: int = 1
    shown: float = 0.0
    listeners: Listeners = field(default_factory=Listeners)

    @property
    def samples(self) -> int:
        """Samples that walk together."""
        return self.body["count"] if self.body["kind"] in ("generate", *work.EDITS) else 1

    @property
    def progress(self) -> float:
        """The share that is done."""
        return min(self.calls / max(self.total, 1), 0.99)


class Jobs:
    """The queue, and those who work at it."""

    def __init__(self, store: Store, library: Library, uploads: Uploads, batcher: Batcher, limits: Limits,
                 version: str = "", ended: Callable[[Job, str, float], None] = lambda *_: None) -> None:
        self.store, self.library, self.uploads, self.batcher, self.limits = store, library, uploads, batcher, limits
        self.version, self.ended, self.accepted = version, ended, 0
        self.active = dict[str, Job]()  # all that wait or run, by id
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # by client, whose turn it is first
        self._running = set[Job]()
        self._values = dict[str, int]()  # of a sample, by the models that were loaded
        self._condition = threading.Condition()
        self._closed, self._due = False, 0.0
        self._threads = [threading.Thread(target=self._work, name=f"walk-{number}", daemon=True)
                         for number in range(WALKS)]

    def start(self) -> None:
        """Take up what an earlier process has left, and begin."""
        for row in self.store.many(jobs, jobs.c.status.in_(("queued", "running")), order=[jobs.c.created]):
            self._queue(Job(row["id"], row["client"], row["request"], row["model"], row["created"]))
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._watch, name="watch", daemon=True).start()

    def submit(self, body: dict[str, Any], client: str, key: str | None) -> tuple[str, bool]:
        """Accept a job: its id, and whether it is new; the same key gives the same job."""
        if key is not None and (row := self.store.one(jobs, jobs.c.key == key)) is not None:
            if row["request"] != body | {"model": row["model"]}:
                raise Refused(422, "this Idempotency-Key was used for another request", "Idempotency-Key")
            return str(row["id"]), False
        self._room(client)
        model = self._model(body.get("model"))
        try:
            work.check(model, body, self.uploads)
        except (ValueError, TypeError) as error:
            raise Refused(422, sentence(error), _field(error, body)) from None
        body = {**body, "model": model.name}
        job = Job(new_id(), client, body, model.name, time.time())
        row = {"id": job.id, "client": client, "key": key, "kind": body["kind"], "model": model.name, "request": body,
               "status": "queued", "created": job.created}
        with self._condition:
            self._room(client)
            self.active[job.id] = job  # counted from here on
        if not self.store.add(jobs, row):
            self.active.pop(job.id)
            return self.submit(body, client, key)
        self.accepted += 1
        self._queue(job)
        return job.id, True

    def _room(self, client: str) -> None:
        waiting = [job.client for job in list(self.active.values())]
        if (mine := waiting.count(client)) >= self.limits.client_jobs:
            raise Refused(429, f"this client has {mine} jobs that wait or run, which is the most", "client",
                          self.limits.client_jobs, AGAIN)
        if len(waiting) >= self.limits.queue:
            raise Refused(503, f"{len(waiting)} jobs wait, which is the most", "queue", self.limits.queue, AGAIN)

    def _queue(self, job: Job) -> None:
        job.total = work.calls(job.body)
        with self._condition:
            self.active[job.id] = job
            self._waiting.setdefault(job.client, deque()).append(job)
            self._condition.notify()

    def cancel(self, id: str) -> None:
        """Have a job end at its next call, or before it begins."""
        with self._condition:
            job = self.active.get(id)
            if job is None:
                return
            if job in (line := self._waiting.get(job.client, deque())):
                line.remove(job)
        if job.status == "queued":
            self._end(job, "cancelled", None)
        else:
            self.batcher.stop(job.walk, "cancelled")

    def place(self, job: Job) -> int | None:
        """How many jobs are before one that waits, were all clients' turns over."""
        with self._condition:
            lines = [list(line) for line in self._waiting.values()]
            mine = next((line.index(job) for line in lines if job in line), None)
            return None if mine is None else mine + sum(min(len(line), mine + 1) for line in lines if job not in line)

    def close(self) -> None:
        """Let the threads end; what is not finished is taken up by the next process."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()
        for job in list(self._running):
            self.batcher.stop(job.walk, "closing")
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout=5)

    def _work(self) -> None:
        torch.set_num_threads(1)
        while (job := self._next()) is not None:
            try:
                self._run(job)
            except Exception:  # the database itself, as of a full disk: the next process takes the job up again
                log.exception("job %s could not be kept", job.id)
                self.active.pop(job.id, None)
                job.status = "failed"
                why = "the studio could not write to its disk; it draws this again when it is next started"
                job.listeners.tell("failed", {"id": job.id, "status": "failed", "progress": 1.0, "error": {
                    "error": why, "field": None, "limit": None}})
            finally:
                with self._condition:
                    self._running.discard(job)
                    self._condition.notify()

    def _next(self) -> Job | None:
        """The next job: of the client whose turn it is, as soon as there is room for its samples."""
        with self._condition:
            while not self._closed:
                client = next((client for client, line in self._waiting.items() if line), None)
                if client is not None:
                    job = self._waiting[client][0]
                    if not self._running or sum(map(self._size, self._running)) + self._size(job) <= TOGETHER:
                        self._waiting[client].popleft()
                        if self._waiting[client]:
                            self._waiting.move_to_end(client)
                        else:
                            del self._waiting[client]
                        self._running.add(job)
                        job.status, job.started = "running", time.time()
                        return job
                self._condition.wait()
        return None

    def _model(self, name: str | None) -> Model:
        """A model, loaded; from then on it is known how large its jobs are."""
        model = self.library.get(name)
        values = math.prod(model.spec.shape)
        with self._condition:
            if self._values.get(model.name) != values:
                self._values[model.name] = values
                self._condition.notify_all()
        return model

    def _size(self, job: Job) -> int:
        """Samples of a job, a large one counted as several; one of a model that was not loaded yet runs alone."""
        values = self._values.get(job.model)
        return TOGETHER if values is None else -(-values // SMALL) * job.samples

    def _run(self, job: Job) -> None:
        try:
            self._when_there_is_room(job, lambda: self.store.change(jobs, jobs.c.id == job.id, status="running",
                                                                    started=job.started))
            job.listeners.tell("progress", self._progress(job))
            model = self._model(job.model)
            job.walk.told = functools.partial(self._told, job, model.spec)
            with self.batcher.walking(job.walk):
                outcome = work.perform(model, job.body, self.uploads)
            self._when_there_is_room(job, lambda: self._keep(job, model, outcome))
        except Stopped as stop:
            if str(stop) == "cancelled":
                self._end(job, "cancelled", None)
            elif str(stop) != "closing":
                self._end(job, "failed", {"error": str(stop), "field": None, "limit": self.limits.job_seconds})
        except Refused as error:
            self._end(job, "failed", {"error": sentence(error), "field": error.field, "limit": error.limit})
        except Exception as error:  # whatever a model or a file raises ends its own job alone
            log.warning("job %s failed", job.id, exc_info=not isinstance(error, ValueError | RuntimeError | OSError))
            self._end(job, "failed", {"error": sentence(error), "field": None, "limit": None})

    def _when_there_is_room(self, job: Job, write: Callable[[], Any]) -> None:
        """Write, again and again while the disk is full and nobody stops the job."""
        while job.walk.why is None:
            try:
                write()
                return
            except (OSError, OperationalError) as error:
                if not no_room(error):
                    raise
            log.warning("job %s waits for room on the disk", job.id)
            time.sleep(ROOM)
        raise Stopped(job.walk.why)

    def _keep(self, job: Job, model: Model, outcome: work.Outcome) -> None:
        """Write the pictures, then the rows; a picture is on disk before anybody is told of it."""
        facts, rows = work.facts_of(model, job.body, job.id, self.version), list[dict[str, Any]]()
        folder = picture_path(self.store.folder, job.id, 0).parent
        with files.filling(folder) as place:
            for number, (image, label) in enumerate(zip(outcome.images, outcome.labels, strict=True)):
                settings = {**facts, "number": number, **({} if label is None else {"class": label})}
                image.save(place / f"{number:05d}.png", **options(".png", settings))
                if outcome.values is not None:
                    np.save(place / f"{number:05d}.npy", outcome.values[number])
                rows.append(row_of(job.id, number, settings, image.size, time.time()))
            for name, image in outcome.extra.items():
                image.save(place / f"{name}.png", **options(".png", {**facts, "shows": name}))
            if outcome.result:  # for `rebuild`
                (place / RESULT).write_text(json.dumps(outcome.result), encoding="utf-8")
            for path in place.iterdir():
                files.sync(path)
        files.sync(folder)
        files.sync(folder.parent)
        result = {**outcome.result, "extra": sorted(outcome.extra)}
        if outcome.values is not None:
            result["values"] = outcome.values.tolist()
        self.store.finish(job.id, rows, result)
        self._end(job, "done", None)

    def _end(self, job: Job, status: str, error: dict[str, Any] | None) -> None:
        if status != "done":
            self.store.change(jobs, jobs.c.id == job.id, status=status, finished=time.time(), error=error)
        with self._condition:
            self.active.pop(job.id, None)
        job.status = status
        self.ended(job, status, time.time() - job.created)
        job.listeners.tell(status, {"id": job.id, "status": status, "progress": 1.0, "error": error})

    def _told(self, job: Job, spec: DataSpec, batched: Batched, z: Tensor, t: Tensor, v: Tensor) -> None:
        """Count a call, and show those who listen what is forming."""
        job.calls += 1
        now = time.monotonic()
        watching = bool(job.listeners.watching)
        if not job.listeners.there or now - job.shown < (APART if watching else TOLD):
            return
        first, job.shown = not job.shown, now
        job.listeners.tell("progress", self._progress(job))
        if not watching or (now < self._due and not first):
            return
        schedule = batched.denoiser.schedule
        x = Estimate.from_v(v[:SHOWN], z[:SHOWN], schedule.level(t[:SHOWN] if t.ndim and len(t) > 1 else t)).x
        job.listeners.tell("preview", {"call": job.calls, "of": job.total, "time": float(t.flatten()[0]),
                                       "images": [work.data_url(one) for one in work.as_images(spec, x.clamp(-1, 1))]})
        spent = time.monotonic() - now
        self._due = max(self._due, now) + spent / SHARE

    def _progress(self, job: Job) -> dict[str, Any]:
        return {"id": job.id, "status": job.status, "progress": job.progress, "calls": job.calls, "of": job.total,
                "seconds_left": left(job)}

    def _watch(self) -> None:
        """Stop jobs that take too long."""
        while not self._closed:
            time.sleep(1)
            for job in list(self._running):
                if job.started is not None and time.time() - job.started > self.limits.job_seconds:
                    self.batcher.stop(job.walk, f"the job has run for {self.limits.job_seconds:g} seconds, which "
                                                "is the most; ask for fewer samples or calls")


def left(job: Job) -> float | None:
    """Seconds that a running job still takes, as far as that can be told."""
    if job.started is None or not job.calls:
        return None
    return (time.time() - job.started) * (1 - job.progress) / job.progress


def picture_id(job: str, number: int) -> str:
    """The id of a job's picture, the same whenever it is drawn again."""
    return hashlib.sha256(f"{job}/{number}".encode()).hexdigest()[:16]


def row_of(job: str, number: int, settings: Mapping[str, Any], size: tuple[int, int], created: float) -> dict[str, Any]:
    """A picture's row in the database, from what the picture says of itself."""
    asked = settings["studio"]["request"]
    return {"id": picture_id(job, number), "job": job, "number": number, "kind": asked["kind"],
            "model": settings["studio"]["model"], "label": settings.get("class"), "sampler": settings.get("sampler"),
            "seed": str(asked.get("seed", 0)), "nfe": settings.get("nfe"), "guidance": settings.get("guidance"),
            "settings": dict(settings), "width": size[0], "height": size[1], "created": created, "favourite": False,
            "deleted": False}


def _field(error: Exception, body: Mapping[str, Any]) -> str | None:
    """The field that a message of the library's is about: its first word, where it is one."""
    word = str(error).partition(" ")[0]
    return "label" if word == "class" else word if word in body else None
