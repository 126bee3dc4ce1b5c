"""Routes to start, follow, stop and resume trainings."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path
from fastapi.responses import FileResponse, StreamingResponse
from starlette.concurrency import run_in_threadpool

from ornstein.studio import responses
from ornstein.studio.errors import EVENTS, PNG, Refused, error_responses
from ornstein.studio.events import SSE, STREAM, Listeners
from ornstein.studio.processes import ENDED
from ornstein.studio.requests import Id, Training
from ornstein.studio.state import CurrentStudio, Studio
from ornstein.studio.trainings import KIND

router = APIRouter(prefix="/api/trainings", tags=["trainings"])


@router.post("", status_code=202, response_model=responses.Training, responses=error_responses(404, 503))
def begin(body: Training, studio: CurrentStudio) -> dict[str, Any]:
    """Start a training. Trainings and evaluations run one at a time; the others wait."""
    return studio.trainings.start(body.model_dump(by_alias=True))


@router.get("", response_model=responses.Trainings)
def every(studio: CurrentStudio) -> dict[str, Any]:
    """List all trainings, newest first."""
    return {"trainings": studio.processes.all(KIND)}


@router.get("/{id}", response_model=responses.Training, responses=error_responses(404))
def one(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Return a training with its progress."""
    return studio.processes.get(id, KIND)


@router.delete("/{id}", response_model=responses.Training, responses=error_responses(404))
def stop(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Stop a training. It saves first and can be resumed."""
    return studio.processes.stop(id, KIND)


@router.post("/{id}/resume", status_code=202, response_model=responses.Training, responses=error_responses(404, 409))
def resume(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Resume a stopped or failed training."""
    return studio.processes.resume(id, KIND)


@router.get("/{id}/metrics", response_model=responses.Points, responses=error_responses(404))
def metrics(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Return the metrics over the course of a training."""
    studio.processes.get(id, KIND)
    return {"points": studio.processes.output(id).points()}


@router.get("/{id}/previews/{images}.png", response_class=FileResponse, responses=PNG | error_responses(404))
def preview(id: Id, images: Annotated[int, Path(ge=0, lt=10**12)], studio: CurrentStudio) -> FileResponse:
    """Return the samples drawn after so many training pictures."""
    studio.processes.get(id, KIND)
    path = studio.processes.output(id).preview(images)
    if not path.is_file():
        raise Refused(404, f"training {id} has no preview after {images} pictures", "images")
    return FileResponse(path, media_type="image/png")


@router.get("/{id}/events", response_class=StreamingResponse, responses=EVENTS | error_responses(404))
async def events(id: Id, studio: CurrentStudio) -> StreamingResponse:
    """Stream server-sent events: status, metrics, log and preview, and finally done, failed or stopped."""
    return await event_stream(studio, id, KIND)


async def event_stream(studio: Studio, id: str, kind: str) -> StreamingResponse:
    """The events of a training or an evaluation."""
    state = await run_in_threadpool(studio.processes.get, id, kind)
    listeners = studio.processes.listeners.setdefault(id, Listeners())

    def final_event() -> tuple[str, Any] | None:
        status = studio.processes.get(id, kind)["status"]
        return (status, {"id": id, "status": status}) if status in ENDED else None

    return StreamingResponse(listeners.stream([("status", state)], ENDED, final_event), media_type=SSE, headers=STREAM)
