"""The queue of jobs: clients take turns, the oldest job of each first, and several jobs run at once."""

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
from ornstein.figures.formats import save_options
from ornstein.studio import job_kinds
from ornstein.studio.batching import Batcher, Stopped, Walk
from ornstein.studio.errors import Fault, Refused, is_disk_full, one_line
from ornstein.studio.events import Listeners
from ornstein.studio.library import Library, Model
from ornstein.studio.limits import Limits
from ornstein.studio.store import Store, new_id
from ornstein.studio.tables import jobs
from ornstein.studio.uploads import Uploads, picture_path

__all__ = ["ENDED", "RESULT", "Job", "Jobs", "final_event", "picture_row", "progress_event", "seconds_left"]

RESULT = "result.json"  # a job's results other than pictures, in the folder of its pictures
ENDED = frozenset({"done", "failed", "cancelled"})
WORKERS = 48  # jobs that run at once
CAPACITY = 1024  # samples that run at once, in units of UNIT_VALUES values
UNIT_VALUES = 4096
PREVIEW_SAMPLES, PREVIEW_INTERVAL = 16, 0.15  # samples per preview, and seconds between two previews of a job
PREVIEW_SHARE = 0.1  # of the time that previews may take, apart from the first of each job
PROGRESS_INTERVAL = 0.5  # seconds between two progress events when nobody wants previews
RETRY_AFTER = 5  # seconds after which a refused client may try again
DISK_RETRY = 2.0  # seconds between two attempts to write to a full disk

log = logging.getLogger("ornstein.studio")


@dataclass(eq=False)
class Job:
    """A queued or running job."""

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
    last_update: float = 0.0  # time of the last progress event
    listeners: Listeners = field(default_factory=Listeners)

    @property
    def samples(self) -> int:
        """The number of samples drawn together."""
        return self.body["count"] if self.body["kind"] in ("generate", *job_kinds.EDITS) else 1

    @property
    def progress(self) -> float:
        """The finished share."""
        return min(self.calls / max(self.total, 1), 0.99)


class Jobs:
    """The queue and its workers.

    Args:
        store: the database and folder of the studio.
        library: the models.
        uploads: the uploaded files.
        batcher: runs the network calls.
        limits: the limits of the studio.
        version: of Ornstein, for the settings in each picture.
        on_end: called with each job that has ended, its status and the seconds since it was accepted.
    """

    def __init__(self, store: Store, library: Library, uploads: Uploads, batcher: Batcher, limits: Limits,
                 version: str = "", on_end: Callable[[Job, str, float], None] = lambda *_: None) -> None:
        self.store, self.library, self.uploads, self.batcher, self.limits = store, library, uploads, batcher, limits
        self.version, self.on_end, self.accepted = version, on_end, 0
        self.active = dict[str, Job]()  # queued and running jobs by id
        self._waiting: OrderedDict[str, deque[Job]] = OrderedDict()  # by client, in the order of their turns
        self._running = set[Job]()
        self._sample_values = dict[str, int]()  # values per sample of each model that was loaded
        self._condition = threading.Condition()
        self._closed, self._next_preview = False, 0.0
        self._threads = [threading.Thread(target=self._work, name=f"walk-{number}", daemon=True)
                         for number in range(WORKERS)]

    def start(self) -> None:
        """Queue the unfinished jobs of an earlier process and start the workers."""
        for row in self.store.select(jobs, jobs.c.status.in_(("queued", "running")), order=[jobs.c.created]):
            self._enqueue(Job(row["id"], row["client"], row["request"], row["model"], row["created"]))
        for thread in self._threads:
            thread.start()
        threading.Thread(target=self._stop_overdue, name="watch", daemon=True).start()

    def submit(self, body: dict[str, Any], client: str, key: str | None) -> tuple[str, bool]:
        """Accept a job and return its id and whether it is new; the same key gives the same job."""
        if key is not None and (row := self.store.get(jobs, jobs.c.key == key)) is not None:
            if row["request"] != body | {"model": row["model"]}:
                raise Refused(422, "this Idempotency-Key was used for another request", "Idempotency-Key")
            return str(row["id"]), False
        self._check_room(client)
        model = self._model(body.get("model"))
        try:
            job_kinds.validate(model, body, self.uploads)
        except (ValueError, TypeError) as error:
            raise Refused(422, one_line(error), _field_of(error, body)) from None
        body = {**body, "model": model.name}
        job = Job(new_id(), client, body, model.name, time.time())
        row = {"id": job.id, "client": client, "key": key, "kind": body["kind"], "model": model.name, "request": body,
               "status": "queued", "created": job.created}
        with self._condition:
            self._check_room(client)
            self.active[job.id] = job  # from here on it counts towards the limits
        if not self.store.insert(jobs, row):
            self.active.pop(job.id)
            return self.submit(body, client, key)
        self.accepted += 1
        self._enqueue(job)
        return job.id, True

    def _check_room(self, client: str) -> None:
        clients = [job.client for job in list(self.active.values())]
        if (count := clients.count(client)) >= self.limits.client_jobs:
            raise Refused(429, f"this client has {count} queued or running jobs, which is the maximum", "client",
                          self.limits.client_jobs, RETRY_AFTER)
        if len(clients) >= self.limits.queue:
            raise Refused(503, f"{len(clients)} jobs are queued or running, which is the maximum", "queue",
                          self.limits.queue, RETRY_AFTER)

    def _enqueue(self, job: Job) -> None:
        job.total = job_kinds.network_calls(job.body)
        with self._condition:
            self.active[job.id] = job
            self._waiting.setdefault(job.client, deque()).append(job)
            self._condition.notify()

    def cancel(self, id: str) -> None:
        """Cancel a job: at once if it is queued, at its next network call if it runs."""
        with self._condition:
            job = self.active.get(id)
            if job is None:
                return
            if job in (queue := self._waiting.get(job.client, deque())):
                queue.remove(job)
        if job.status == "queued":
            self._end(job, "cancelled", None)
        else:
            self.batcher.stop(job.walk, "cancelled")

    def position(self, job: Job) -> int | None:
        """The number of jobs that may run before a queued one, as clients take turns; None if it is not queued."""
        with self._condition:
            queues = [list(queue) for queue in self._waiting.values()]
            own = next((queue.index(job) for queue in queues if job in queue), None)
            return None if own is None else own + sum(min(len(queue), own + 1) for queue in queues if job not in queue)

    def close(self) -> None:
        """End the workers; unfinished jobs are left to the next process."""
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
            except Exception:  # of the database, such as a full disk: the next process runs the job again
                log.exception("job %s could not be saved", job.id)
                self.active.pop(job.id, None)
                job.status = "failed"
                job.listeners.publish(*final_event(job.id, "failed", None))
            finally:
                with self._condition:
                    self._running.discard(job)
                    self._condition.notify()

    def _next(self) -> Job | None:
        """Wait for the next job: of the client whose turn it is, as soon as there is capacity for its samples."""
        with self._condition:
            while not self._closed:
                client = next((client for client, queue in self._waiting.items() if queue), None)
                if client is not None:
                    job = self._waiting[client][0]
                    if not self._running or sum(map(self._size, self._running)) + self._size(job) <= CAPACITY:
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
        """Load a model, which makes the size of its jobs known."""
        model = self.library.get(name)
        values = math.prod(model.spec.shape)
        with self._condition:
            if self._sample_values.get(model.name) != values:
                self._sample_values[model.name] = values
                self._condition.notify_all()
        return model

    def _size(self, job: Job) -> int:
        """The capacity that a job needs: all of it while its model was never loaded."""
        values = self._sample_values.get(job.model)
        return CAPACITY if values is None else -(-values // UNIT_VALUES) * job.samples

    def _run(self, job: Job) -> None:
        try:
            self._write(job, lambda: self.store.update(jobs, jobs.c.id == job.id, status="running",
                                                       started=job.started))
            job.listeners.publish("progress", progress_event(job))
            model = self._model(job.model)
            job.walk.on_answer = functools.partial(self._on_call, job, model.spec)
            with self.batcher.walking(job.walk):
                outcome = job_kinds.run(model, job.body, self.uploads)
            self._write(job, lambda: self._save(job, model, outcome))
        except Stopped as stop:
            if str(stop) == "cancelled":
                self._end(job, "cancelled", None)
            elif str(stop) != "closing":
                self._end(job, "failed", Fault(error=str(stop), limit=self.limits.job_seconds))
        except Refused as error:
            self._end(job, "failed", Fault(error=one_line(error), field=error.field, limit=error.limit))
        except Exception as error:  # of a model or a file, which fails this job only
            log.warning("job %s failed", job.id, exc_info=not isinstance(error, ValueError | RuntimeError | OSError))
            self._end(job, "failed", Fault(error=one_line(error)))

    def _write(self, job: Job, write: Callable[[], Any]) -> None:
        """Write, and try again while the disk is full and the job is not stopped."""
        while job.walk.stop_reason is None:
            try:
                write()
                return
            except (OSError, OperationalError) as error:
                if not is_disk_full(error):
                    raise
            log.warning("job %s waits for space on the disk", job.id)
            time.sleep(DISK_RETRY)
        raise Stopped(job.walk.stop_reason)

    def _save(self, job: Job, model: Model, outcome: job_kinds.Outcome) -> None:
        """Write the pictures, then their rows, so that every picture in the database is on disk."""
        metadata = job_kinds.picture_metadata(model, job.body, job.id, self.version)
        rows, folder = list[dict[str, Any]](), picture_path(self.store.folder, job.id, 0).parent
        with files.filling(folder) as new:
            for number, (image, label) in enumerate(zip(outcome.images, outcome.labels, strict=True)):
                settings = {**metadata, "number": number, **({} if label is None else {"class": label})}
                image.save(new / f"{number:05d}.png", **save_options(".png", settings))
                if outcome.values is not None:
                    np.save(new / f"{number:05d}.npy", outcome.values[number])
                rows.append(picture_row(job.id, number, settings, image.size, time.time()))
            for name, image in outcome.extra.items():
                image.save(new / f"{name}.png", **save_options(".png", {**metadata, "shows": name}))
            if outcome.result:  # for `rebuild`
                (new / RESULT).write_text(json.dumps(outcome.result), encoding="utf-8")
            for path in new.iterdir():
                files.sync(path)
        files.sync(folder)
        files.sync(folder.parent)
        result = {**outcome.result, "extra": sorted(outcome.extra)}
        if outcome.values is not None:
            result["values"] = outcome.values.tolist()
        self.store.finish_job(job.id, rows, result)
        self._end(job, "done", None)

    def _end(self, job: Job, status: str, fault: Fault | None) -> None:
        error = None if fault is None else fault.model_dump()
        if status != "done":
            self.store.update(jobs, jobs.c.id == job.id, status=status, finished=time.time(), error=error)
        with self._condition:
            self.active.pop(job.id, None)
        job.status = status
        self.on_end(job, status, time.time() - job.created)
        job.listeners.publish(*final_event(job.id, status, error))

    def _on_call(self, job: Job, spec: DataSpec, batched: Batched, z: Tensor, t: Tensor, v: Tensor) -> None:
        """Count a network call, and send progress and previews to listeners."""
        job.calls += 1
        now = time.monotonic()
        watching = bool(job.listeners.watching)
        if not job.listeners.active or now - job.last_update < (PREVIEW_INTERVAL if watching else PROGRESS_INTERVAL):
            return
        is_first, job.last_update = not job.last_update, now
        job.listeners.publish("progress", progress_event(job))
        if not watching or (now < self._next_preview and not is_first):
            return
        first = slice(PREVIEW_SAMPLES)
        level = batched.denoiser.schedule.level(t[first] if t.ndim and len(t) > 1 else t)
        x = Estimate.from_v(v[first], z[first], level).x.clamp(-1, 1)
        job.listeners.publish("preview", {"call": job.calls, "of": job.total, "time": float(t.flatten()[0]),
                                          "images": [*map(job_kinds.data_url, job_kinds.as_images(spec, x))]})
        spent = time.monotonic() - now
        self._next_preview = max(self._next_preview, now) + spent / PREVIEW_SHARE

    def _stop_overdue(self) -> None:
        """Stop jobs that take too long."""
        while not self._closed:
            time.sleep(1)
            for job in list(self._running):
                if job.started is not None and time.time() - job.started > self.limits.job_seconds:
                    self.batcher.stop(job.walk, f"the job has run for {self.limits.job_seconds:g} seconds, which "
                                                "is the maximum; ask for fewer samples or network calls")


def progress_event(job: Job) -> dict[str, Any]:
    """The data of a progress event."""
    return {"id": job.id, "status": job.status, "progress": job.progress, "calls": job.calls, "of": job.total,
            "seconds_left": seconds_left(job)}


def final_event(id: str, status: str, error: dict[str, Any] | None) -> tuple[str, dict[str, Any]]:
    """The kind and data of the event that ends a job's stream; of a job that could not be saved, that it failed."""
    if status not in ENDED or (status == "failed" and error is None):
        status, error = "failed", Fault(error="the studio could not write to its disk; it runs this job again at its "
                                              "next start").model_dump()
    return status, {"id": id, "status": status, "progress": 1.0, "error": error}


def seconds_left(job: Job) -> float | None:
    """The estimated remaining time of a running job; None before its first network call."""
    if job.started is None or not job.calls:
        return None
    return (time.time() - job.started) * (1 - job.progress) / job.progress


def picture_id(job: str, number: int) -> str:
    """The id of a job's picture, a function of the job's id and the picture's number."""
    return hashlib.sha256(f"{job}/{number}".encode()).hexdigest()[:16]


def picture_row(job: str, number: int, settings: Mapping[str, Any], size: tuple[int, int],
                created: float) -> dict[str, Any]:
    """A picture's row in the database, from the settings in its file."""
    request = settings["studio"]["request"]
    return {"id": picture_id(job, number), "job": job, "number": number, "kind": request["kind"],
            "model": settings["studio"]["model"], "label": settings.get("class"), "sampler": settings.get("sampler"),
            "seed": str(request.get("seed", 0)), "nfe": settings.get("nfe"), "guidance": settings.get("guidance"),
            "settings": dict(settings), "width": size[0], "height": size[1], "created": created, "favourite": False,
            "deleted": False}


def _field_of(error: Exception, body: Mapping[str, Any]) -> str | None:
    """The field that a message of the library is about: its first word, if that is a field."""
    word = str(error).partition(" ")[0]
    return "label" if word == "class" else word if word in body else None
