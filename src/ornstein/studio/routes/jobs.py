"""Routes to submit, follow and cancel jobs, and for their pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path as FilePath
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from ornstein.studio import job_kinds, responses
from ornstein.studio.errors import EVENTS, NPY, PNG, Refused, error_responses
from ornstein.studio.events import SSE, STREAM, Listeners
from ornstein.studio.jobs import ENDED, final_event, progress_event, seconds_left
from ornstein.studio.requests import Id, JobRequest
from ornstein.studio.state import CurrentStudio, Studio
from ornstein.studio.tables import jobs, pictures
from ornstein.studio.uploads import picture_path

router = APIRouter(prefix="/api/jobs", tags=["jobs"])
SampleIndex = Annotated[int, Path(ge=0, lt=10_000)]


@router.post("", status_code=202, response_model=responses.Job, responses={
    200: {"model": responses.Job, "description": "The earlier job with this Idempotency-Key."},
    **error_responses(404, 409, 429, 503)})
def submit(body: JobRequest, request: Request, response: Response, studio: CurrentStudio,
           key: Annotated[str | None, Header(alias="Idempotency-Key", min_length=1, max_length=128)] = None,
           client: Annotated[str | None, Header(alias="X-Client", min_length=1, max_length=64)] = None
           ) -> dict[str, Any]:
    """Submit a job. A second request with the same Idempotency-Key returns the same job."""
    client = client or (request.client.host if request.client else "")
    id, is_new = studio.jobs.submit(body.model_dump(exclude={"model"} if body.model is None else None), client, key)
    response.headers["Location"] = f"/api/jobs/{id}"
    if not is_new:
        response.status_code = 200
    return job_response(id, studio)


@router.get("", response_model=responses.Jobs)
def every(studio: CurrentStudio, status: Annotated[str | None, Query(max_length=16)] = None,
          limit: Annotated[int, Query(ge=1, le=500)] = 50) -> dict[str, Any]:
    """List the latest jobs, newest first."""
    where = [] if status is None else [jobs.c.status == status]
    rows, paths = studio.store.select(jobs, *where, order=[jobs.c.created.desc()], limit=limit), studio.library.paths()
    samples = _samples_by_job(studio, [row["id"] for row in rows])
    return {"jobs": [_response(row, studio, paths, samples.get(row["id"], [])) for row in rows]}


@router.get("/{id}", response_model=responses.Job, responses=error_responses(404))
def one(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Return a job with its progress and results."""
    return job_response(id, studio)


@router.delete("/{id}", response_model=responses.Job, responses=error_responses(404))
def cancel(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Cancel a job, at once if it is queued and at its next network call if it runs. An ended job does not change."""
    job_response(id, studio)
    studio.jobs.cancel(id)
    return job_response(id, studio)


@router.get("/{id}/events", response_class=StreamingResponse, responses=EVENTS | error_responses(404))
async def events(id: Id, studio: CurrentStudio, previews: bool = True) -> StreamingResponse:
    """Stream server-sent events: progress, preview if wanted, and finally done, failed or cancelled."""
    job = studio.jobs.active.get(id)
    if job is None:
        ended = await run_in_threadpool(job_response, id, studio)
        final = final_event(id, ended["status"], ended["error"])
        return StreamingResponse(Listeners().stream([final], ENDED), media_type=SSE, headers=STREAM)

    def end() -> tuple[str, Any] | None:
        return final_event(id, job.status, job_response(id, studio)["error"]) if job.status in ENDED else None

    return StreamingResponse(job.listeners.stream([("progress", progress_event(job))], ENDED, end, previews),
                             media_type=SSE, headers=STREAM)


@router.get("/{id}/samples/{number}.png", response_class=FileResponse, responses=PNG | error_responses(404))
def sample(id: Id, number: SampleIndex, studio: CurrentStudio, download: bool = False) -> FileResponse:
    """Return a finished picture at its own size, with its settings inside."""
    row = studio.store.get(pictures, (pictures.c.job == id) & (pictures.c.number == number))
    if row is None:
        job_response(id, studio)
        raise Refused(404, f"job {id} has no sample {number}", "number")
    return _file(studio, id, f"{number:05d}", f"{row['model']}-{row['seed']}-{number}" if download else None)


@router.get("/{id}/samples/{number}.npy", response_class=FileResponse, responses=NPY | error_responses(404))
def numbers(id: Id, number: SampleIndex, studio: CurrentStudio) -> FileResponse:
    """Return the values of a sample that is not a picture, in the data's own units and layout."""
    job_response(id, studio)
    return _file(studio, id, f"{number:05d}", None, ".npy")


@router.get("/{id}/{name}.png", response_class=FileResponse, responses=PNG | error_responses(404))
def extra(id: Id, name: Annotated[str, Path(pattern="^(mean|spread)$")], studio: CurrentStudio) -> FileResponse:
    """Return the mean of a job's draws, or their spread, in which white is the largest."""
    job_response(id, studio)
    return _file(studio, id, name, None)


def job_response(id: str, studio: Studio) -> dict[str, Any]:
    """The response for a job."""
    row = studio.store.get(jobs, jobs.c.id == id)
    if row is None:
        raise Refused(404, f"there is no job {id}", "id")
    return _response(row, studio, studio.library.paths(), _samples_by_job(studio, [id]).get(id, []))


def _samples_by_job(studio: Studio, ids: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    samples = dict[str, list[dict[str, Any]]]()
    for row in studio.store.select(pictures, pictures.c.job.in_(ids), order=[pictures.c.number]):
        samples.setdefault(row["job"], []).append(row)
    return samples


def _response(row: dict[str, Any], studio: Studio, paths: Mapping[str, FilePath],
              samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The response for a row; its code names the run by its path, or by the model's name if the run is gone."""
    id, result = row["id"], row["result"] or {}
    job = studio.jobs.active.get(id)
    status = job.status if job is not None and row["status"] in ("queued", "running") else row["status"]
    path = str(paths.get(row["model"], row["model"]))
    return {
        "id": id, "kind": row["kind"], "model": row["model"], "status": status, "request": row["request"],
        "progress": 1.0 if status in ENDED else job.progress if job else 0.0,
        "position": studio.jobs.position(job) if job is not None and status == "queued" else None,
        "seconds_left": seconds_left(job) if job is not None else None,
        "calls": {"done": job.calls if job else None, "total": job_kinds.network_calls(row["request"])},
        "created": row["created"], "started": row["started"] or (job.started if job else None),
        "finished": row["finished"], "error": row["error"],
        "samples": [{"number": sample["number"], "id": sample["id"],
                     "url": f"/api/jobs/{id}/samples/{sample['number']}.png", "label": sample["label"],
                     "width": sample["width"], "height": sample["height"]}
                    for sample in samples if status == "done"],
        "extra": {name: f"/api/jobs/{id}/{name}.png" for name in result.get("extra", ())},
        "result": {name: value for name, value in result.items() if name != "extra"},
        **job_kinds.equivalent_code(path, row["request"]),
    }


def _file(studio: Studio, id: str, name: str, download: str | None, suffix: str = ".png") -> FileResponse:
    path = picture_path(studio.store.folder, id, 0).with_name(f"{name}{suffix}")
    if not path.is_file():
        raise Refused(404, f"job {id} has no {name}{suffix}")
    headers = {"Cache-Control": "private, max-age=31536000, immutable"}  # finished files never change
    return FileResponse(path, media_type="image/png" if suffix == ".png" else "application/octet-stream",
                        headers=headers, filename=None if download is None else f"{download}.png")
