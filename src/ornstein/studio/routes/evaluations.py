"""Routes to start, follow and stop evaluations; /api/evaluation has the report."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from ornstein.studio import responses
from ornstein.studio.errors import EVENTS, error_responses
from ornstein.studio.evaluations import KIND
from ornstein.studio.requests import Evaluation, Id
from ornstein.studio.routes.trainings import event_stream
from ornstein.studio.state import CurrentStudio

router = APIRouter(prefix="/api/evaluations", tags=["evaluations"])


@router.post("", status_code=202, response_model=responses.Evaluation, responses={
    200: {"model": responses.Evaluation, "description": "The evaluation of that model that waits or runs already."},
    **error_responses(404, 503)})
def begin(body: Evaluation, response: Response, studio: CurrentStudio) -> dict[str, Any]:
    """Evaluate a model. Trainings and evaluations run one at a time; a stopped evaluation is continued."""
    evaluation, is_new = studio.evaluations.start(body.model_dump())
    response.headers["Location"] = f"/api/evaluations/{evaluation['id']}"
    if not is_new:
        response.status_code = 200
    return evaluation


@router.get("", response_model=responses.Evaluations)
def every(studio: CurrentStudio) -> dict[str, Any]:
    """List all evaluations, newest first."""
    return {"evaluations": studio.processes.all(KIND)}


@router.get("/{id}", response_model=responses.Evaluation, responses=error_responses(404))
def one(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Return an evaluation with its progress."""
    return studio.processes.get(id, KIND)


@router.delete("/{id}", response_model=responses.Evaluation, responses=error_responses(404))
def stop(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Stop an evaluation. Its finished parts are kept for the next one with the same settings."""
    return studio.processes.stop(id, KIND)


@router.get("/{id}/events", response_class=StreamingResponse, responses=EVENTS | error_responses(404))
async def events(id: Id, studio: CurrentStudio) -> StreamingResponse:
    """Stream server-sent events: status, progress and log, and finally done, failed or stopped."""
    return await event_stream(studio, id, KIND)
