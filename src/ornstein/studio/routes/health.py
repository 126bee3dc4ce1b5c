"""Whether the studio is well, and what it allows."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response

from ornstein.studio import answers
from ornstein.studio.limits import LIMITS, Limits
from ornstein.studio.refusal import content
from ornstein.studio.state import Used

router = APIRouter(tags=["service"])


@router.get("/healthz", response_model=answers.Health)
async def health(studio: Used) -> dict[str, Any]:
    """Whether the service is up, and how many jobs wait or run."""
    return {"status": "ok", "version": studio.version, "jobs": len(studio.jobs.active)}


@router.get("/metrics", response_class=Response, responses=content("text/plain", "ornstein_active_jobs 0.0"))
async def metrics(studio: Used) -> Response:
    """Counters for Prometheus."""
    return Response(studio.metrics.text(studio), media_type="text/plain; version=0.0.4")


@router.get("/api/limits", response_model=Limits,
            responses={200: {"content": {"application/json": {"example": asdict(LIMITS)}}}})
async def limits(studio: Used) -> dict[str, Any]:
    """What is refused above these numbers."""
    return asdict(studio.limits)
