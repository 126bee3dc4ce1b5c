"""Trainings: begun on uploads, followed, stopped and gone on with."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from fastapi.responses import StreamingResponse

from ornstein.studio.bodies import Id, Training
from ornstein.studio.refusal import Refused
from ornstein.studio.state import Used

router = APIRouter(prefix="/api/trainings", tags=["trainings"])


@router.post("", status_code=202)
def begin(body: Training, studio: Used) -> dict[str, Any]:
    """Begin a training; on a CPU one runs at a time, and the others wait."""
    return studio.trainings.begin(body.model_dump(by_alias=True))


@router.get("")
def every(studio: Used) -> dict[str, Any]:
    """All trainings, newest first."""
    return {"trainings": studio.trainings.all()}


@router.get("/{id}")
def one(id: Id, studio: Used) -> dict[str, Any]:
    """How far a training is."""
    return studio.trainings.get(id)


@router.delete("/{id}")
def stop(id: Id, studio: Used) -> dict[str, Any]:
    """Stop a training: it saves, and can be gone on with."""
    return studio.trainings.get(id)


@router.post("/{id}/resume", status_code=202)
def resume(id: Id, studio: Used) -> dict[str, Any]:
    """Go on with a training that was stopped."""
    return studio.trainings.get(id)


@router.get("/{id}/events", response_class=StreamingResponse,
            responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}})
async def events(id: Id, studio: Used) -> StreamingResponse:
    """Server-sent events: status, metrics, log and preview."""
    studio.trainings.get(id)
    raise Refused(501, "trainings are not there yet")
