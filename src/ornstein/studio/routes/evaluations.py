"""Evaluations: begun, followed and stopped; the report is at /api/evaluation."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import StreamingResponse

from ornstein.studio import answers
from ornstein.studio.bodies import Evaluation, Id
from ornstein.studio.evaluations import KIND
from ornstein.studio.refusal import EVENTS, faults
from ornstein.studio.routes.trainings import followed
from ornstein.studio.state import Used

router = APIRouter(prefix="/api/evaluations", tags=["evaluations"])


@router.post("", status_code=202, response_model=answers.Evaluation, responses={
    200: {"model": answers.Evaluation, "description": "One of that model waits or runs already."}, **faults(404, 503)})
def begin(body: Evaluation, response: Response, studio: Used) -> dict[str, Any]:
    """Evaluate a model; on a CPU it waits for trainings and other evaluations, and goes on with one that was stopped.
    """
    found, new = studio.evaluations.begin(body.model_dump())
    response.headers["Location"] = f"/api/evaluations/{found['id']}"
    if not new:
        response.status_code = 200
    return found


@router.get("", response_model=answers.Evaluations)
def every(studio: Used) -> dict[str, Any]:
    """All evaluations, newest first."""
    return {"evaluations": studio.processes.all(KIND)}


@router.get("/{id}", response_model=answers.Evaluation, responses=faults(404))
def one(id: Id, studio: Used) -> dict[str, Any]:
    """How far an evaluation is."""
    return studio.processes.get(id, KIND)


@router.delete("/{id}", response_model=answers.Evaluation, responses=faults(404))
def stop(id: Id, studio: Used) -> dict[str, Any]:
    """Stop an evaluation: the parts that are done are kept, and another one of the same kind begins with them."""
    return studio.processes.stop(id, KIND)


@router.get("/{id}/events", response_class=StreamingResponse, responses=EVENTS | faults(404))
async def events(id: Id, studio: Used) -> StreamingResponse:
    """Server-sent events: status, progress and log, and last done, failed or stopped."""
    return await followed(studio, id, KIND)
