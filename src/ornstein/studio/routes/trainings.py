"""Trainings: begun on uploads, followed, stopped and gone on with."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from ornstein.studio import answers
from ornstein.studio.bodies import Id, Training
from ornstein.studio.events import SSE, STREAM, Listeners
from ornstein.studio.processes import ENDED
from ornstein.studio.refusal import EVENTS, PNG, Refused, faults
from ornstein.studio.state import Studio, Used
from ornstein.studio.trainings import KIND

router = APIRouter(prefix="/api/trainings", tags=["trainings"])


@router.post("", status_code=202, response_model=answers.Training, responses=faults(404, 503))
def begin(body: Training, studio: Used) -> dict[str, Any]:
    """Begin a training; on a CPU one runs at a time, and the others wait."""
    return studio.trainings.begin(body.model_dump(by_alias=True))


@router.get("", response_model=answers.Trainings)
def every(studio: Used) -> dict[str, Any]:
    """All trainings, newest first."""
    return {"trainings": studio.processes.all(KIND)}


@router.get("/{id}", response_model=answers.Training, responses=faults(404))
def one(id: Id, studio: Used) -> dict[str, Any]:
    """How far a training is."""
    return studio.processes.get(id, KIND)


@router.delete("/{id}", response_model=answers.Training, responses=faults(404))
def stop(id: Id, studio: Used) -> dict[str, Any]:
    """Stop a training: it saves, and can be gone on with."""
    return studio.processes.stop(id, KIND)


@router.post("/{id}/resume", status_code=202, response_model=answers.Training, responses=faults(404, 409))
def resume(id: Id, studio: Used) -> dict[str, Any]:
    """Go on with a training that was stopped, or that has failed."""
    return studio.processes.resume(id, KIND)


@router.get("/{id}/metrics", response_model=answers.Points, responses=faults(404))
def metrics(id: Id, studio: Used) -> dict[str, Any]:
    """Losses over the course of a training."""
    studio.processes.get(id, KIND)
    return {"points": studio.processes.told(id).points()}


@router.get("/{id}/previews/{images}.png", response_class=FileResponse, responses=PNG | faults(404))
def preview(id: Id, images: Annotated[int, Path(ge=0, lt=10**12)], studio: Used) -> FileResponse:
    """Samples that were drawn on the way."""
    studio.processes.get(id, KIND)
    path = studio.processes.told(id).preview(images)
    if not path.is_file():
        raise Refused(404, f"training {id} has no preview after {images} pictures", "images")
    return FileResponse(path, media_type="image/png")


@router.get("/{id}/events", response_class=StreamingResponse, responses=EVENTS | faults(404))
async def events(id: Id, studio: Used) -> StreamingResponse:
    """Server-sent events: status, metrics, log and preview, and last done, failed or stopped."""
    return await followed(studio, id, KIND)


async def followed(studio: Studio, id: str, kind: str) -> StreamingResponse:
    """The events of a training or an evaluation."""
    row = await run_in_threadpool(studio.processes.get, id, kind)
    there = studio.processes.listeners.setdefault(id, Listeners())

    def ended() -> tuple[str, Any] | None:
        status = studio.processes.get(id, kind)["status"]
        return (status, {"id": id, "status": status}) if status in ENDED else None

    return StreamingResponse(there.stream([("status", row)], ENDED, ended), media_type=SSE, headers=STREAM)
