"""Routes for health, metrics and limits."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Response

from ornstein.studio import responses
from ornstein.studio.errors import content_response
from ornstein.studio.limits import LIMITS, Limits
from ornstein.studio.state import CurrentStudio

router = APIRouter(tags=["service"])


@router.get("/healthz", response_model=responses.Health)
async def health(studio: CurrentStudio) -> dict[str, Any]:
    """Return that the service is up, and its number of queued and running jobs."""
    return {"status": "ok", "version": studio.version, "jobs": len(studio.jobs.active)}


@router.get("/metrics", response_class=Response, responses=content_response("text/plain", "ornstein_active_jobs 0.0"))
async def metrics(studio: CurrentStudio) -> Response:
    """Return the metrics for Prometheus."""
    return Response(studio.metrics.text(studio), media_type="text/plain; version=0.0.4")


@router.get("/api/limits", response_model=Limits,
            responses={200: {"content": {"application/json": {"example": asdict(LIMITS)}}}})
async def limits(studio: CurrentStudio) -> dict[str, Any]:
    """Return the limits on requests."""
    return asdict(studio.limits)
