"""Jobs: asked for, followed, cancelled, and their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from ornstein.studio import answers, work
from ornstein.studio.bodies import Asked, Id
from ornstein.studio.events import SSE, STREAM, Listeners
from ornstein.studio.jobs import ENDED, left
from ornstein.studio.refusal import EVENTS, NPY, PNG, Refused, faults
from ornstein.studio.state import Studio, Used
from ornstein.studio.tables import jobs, pictures
from ornstein.studio.uploads import picture_path

router = APIRouter(prefix="/api/jobs", tags=["jobs"])
Number = Annotated[int, Path(ge=0, lt=10_000)]


@router.post("", status_code=202, response_model=answers.Job, responses={
    200: {"model": answers.Job, "description": "The job that this Idempotency-Key was used for."},
    **faults(404, 409, 429, 503)})
def submit(body: Asked, request: Request, response: Response, studio: Used,
           key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=128)] = None,
           client: Annotated[str | None, Header(alias="X-Client", min_length=1, max_length=64)] = None
           ) -> dict[str, Any]:
    """Ask for a job. Sent again with the same Idempotency-Key, it is the same job."""
    who = client or (request.client.host if request.client else "")
    id, new = studio.jobs.submit(body.model_dump(exclude={"model"} if body.model is None else None), who, key)
    response.headers["Location"] = f"/api/jobs/{id}"
    if not new:
        response.status_code = 200
    return of(id, studio)


@router.get("", response_model=answers.Jobs)
def every(studio: Used, status: Annotated[str | None, Query(max_length=16)] = None,
          limit: Annotated[int, Query(ge=1, le=500)] = 50) -> dict[str, Any]:
    """The latest jobs, newest first."""
    where = [] if status is None else [jobs.c.status == status]
    rows, paths = studio.store.many(jobs, *where, order=[jobs.c.created.desc()], most=limit), studio.library.paths()
    drawn = _drawn(studio, [row["id"] for row in rows])
    return {"jobs": [_shown(row, studio, paths, drawn.get(row["id"], [])) for row in rows]}


@router.get("/{id}", response_model=answers.Job, responses=faults(404))
def one(id: Id, studio: Used) -> dict[str, Any]:
    """How far a job is, and what came of it."""
    return of(id, studio)


@router.delete("/{id}", response_model=answers.Job, responses=faults(404))
def cancel(id: Id, studio: Used) -> dict[str, Any]:
    """Cancel a job: one that waits at once, one that runs at its next network call; one that has ended stays so."""
    of(id, studio)
    studio.jobs.cancel(id)
    return of(id, studio)


@router.get("/{id}/events", response_class=StreamingResponse, responses=EVENTS | faults(404))
async def events(id: Id, studio: Used, previews: bool = True) -> StreamingResponse:
    """Server-sent events: progress, preview unless there are to be none, and last done, failed or cancelled."""
    job = studio.jobs.active.get(id)
    if job is None:
        row = await run_in_threadpool(of, id, studio)
        return StreamingResponse(Listeners().stream([(row["status"], last(row))], ENDED), media_type=SSE,
                                 headers=STREAM)
    first = [("progress", {"id": id, "status": job.status, "progress": job.progress, "calls": job.calls,
                           "of": job.total, "seconds_left": left(job)})]

    def ended() -> tuple[str, Any] | None:
        return (job.status, last(of(id, studio))) if job.status in ENDED else None

    return StreamingResponse(job.listeners.stream(first, ENDED, ended, previews), media_type=SSE, headers=STREAM)


@router.get("/{id}/samples/{number}.png", response_class=FileResponse, responses=PNG | faults(404))
def sample(id: Id, number: Number, studio: Used, download: bool = False) -> FileResponse:
    """A finished picture, in its own pixels, with its settings inside."""
    row = studio.store.one(pictures, (pictures.c.job == id) & (pictures.c.number == number))
    if row is None:
        of(id, studio)
        raise Refused(404, f"job {id} has no sample {number}", "number")
    return _file(studio, id, f"{number:05d}", f"{row['model']}-{row['seed']}-{number}" if download else None)


@router.get("/{id}/samples/{number}.npy", response_class=FileResponse, responses=NPY | faults(404))
def numbers(id: Id, number: Number, studio: Used) -> FileResponse:
    """The numbers of a sample of data that are no pictures, in their own units and layout."""
    of(id, studio)
    return _file(studio, id, f"{number:05d}", None, ".npy")


@router.get("/{id}/{name}.png", response_class=FileResponse, responses=PNG | faults(404))
def extra(id: Id, name: Annotated[str, Path(pattern="^(mean|spread)$")], studio: Used) -> FileResponse:
    """Mean of a job's draws, or how far they are spread: white is the most."""
    of(id, studio)
    return _file(studio, id, name, None)


def last(job: dict[str, Any]) -> dict[str, Any]:
    """What the last event of a job says."""
    return {"id": job["id"], "status": job["status"], "progress": 1.0, "error": job["error"]}


def of(id: str, studio: Studio) -> dict[str, Any]:
    """A job, as it is answered."""
    row = studio.store.one(jobs, jobs.c.id == id)
    if row is None:
        raise Refused(404, f"there is no job {id}", "id")
    return _shown(row, studio, studio.library.paths(), _drawn(studio, [id]).get(id, []))


def _drawn(studio: Studio, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """The pictures of jobs, by job."""
    found = dict[str, list[dict[str, Any]]]()
    for row in studio.store.many(pictures, pictures.c.job.in_(ids), order=[pictures.c.number]):
        found.setdefault(row["job"], []).append(row)
    return found


def _shown(row: dict[str, Any], studio: Studio, paths: Mapping[str, FilePath],
           drawn: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row as it is answered, with its pictures, its run as a path where that is still there."""
    id, result = row["id"], row["result"] or {}
    job = studio.jobs.active.get(id)
    status = job.status if job is not None and row["status"] in ("queued", "running") else row["status"]
    path = str(paths.get(row["model"], row["model"]))
    return {
        "id": id, "kind": row["kind"], "model": row["model"], "status": status, "request": row["request"],
        "progress": 1.0 if status in ENDED else job.progress if job else 0.0,
        "position": studio.jobs.place(job) if job is not None and status == "queued" else None,
        "seconds_left": left(job) if job is not None else None,
        "calls": {"done": job.calls if job else None, "total": work.calls(row["request"])},
        "created": row["created"], "started": row["started"] or (job.started if job else None),
        "finished": row["finished"], "error": row["error"],
        "samples": [{"number": one["number"], "id": one["id"], "url": f"/api/jobs/{id}/samples/{one['number']}.png",
                     "label": one["label"], "width": one["width"], "height": one["height"]}
                    for one in drawn if status == "done"],
        "extra": {name: f"/api/jobs/{id}/{name}.png" for name in result.get("extra", ())},
        "result": {name: value for name, value in result.items() if name != "extra"},
        **work.code(path, row["request"]),
    }


def _file(studio: Studio, id: str, name: str, download: str | None, ending: str = ".png") -> FileResponse:
    path = picture_path(studio.store.folder, id, 0).with_name(f"{name}{ending}")
    if not path.is_file():
        raise Refused(404, f"job {id} has no {name}{ending}")
    kept = {"Cache-Control": "private, max-age=31536000, immutable"}  # what is drawn never changes
    return FileResponse(path, media_type="image/png" if ending == ".png" else "application/octet-stream", headers=kept,
                        filename=None if download is None else f"{download}.png")
