"""Routes of the forward encoder: schedule, kernel and posterior, each with its equation and its line of Python."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from ornstein.studio import forward, responses
from ornstein.studio.errors import error_responses
from ornstein.studio.state import CurrentStudio

router = APIRouter(prefix="/api/forward", tags=["forward"])
Time = Annotated[float, Query(ge=0, le=1)]
Name = Annotated[str | None, Query(max_length=200)]
Picture = Annotated[str, Query(pattern="^[0-9a-f]{16}$")]
Index = Annotated[int, Query(ge=0, le=10_000)]
Seed = Annotated[int, Query(ge=0, le=2**32)]


@router.get("/schedule", response_model=responses.Schedule, responses=error_responses(404, 409))
def schedule(studio: CurrentStudio, model: Name = None,
             points: Annotated[int, Query(ge=2, le=1001)] = 201) -> dict[str, Any]:
    """Return signal, noise and log SNR over time."""
    return forward.schedule(studio.library.get(model), points)


@router.get("/noised", response_model=responses.Noised, responses=error_responses(404, 409))
def noised(picture: Picture, t: Time, studio: CurrentStudio, model: Name = None, seed: Seed = 0) -> dict[str, Any]:
    """Return a picture at time t, one draw of q(z_t | x), with its histogram."""
    return forward.noised(studio.library.get(model), studio.uploads.locate(picture, "picture"), t, seed)


@router.get("/kernel", response_model=responses.Kernel, responses=error_responses(404, 409))
def kernel(picture: Picture, t: Time, studio: CurrentStudio, model: Name = None, row: Index = 0, column: Index = 0,
           channel: Index = 0) -> dict[str, Any]:
    """Return the mean, variance and density of q(z_t | x) for a pixel."""
    return forward.kernel(studio.library.get(model), studio.uploads.locate(picture, "picture"), t,
                          (channel, row, column))


@router.get("/posterior", response_model=responses.Posterior, responses=error_responses(404, 409))
def posterior(picture: Picture, s: Time, t: Time, studio: CurrentStudio, model: Name = None, row: Index = 0,
              column: Index = 0, channel: Index = 0, seed: Seed = 0) -> dict[str, Any]:
    """Return the mean, variance and density of q(z_s | z_t, x) for a pixel, s < t."""
    return forward.posterior(studio.library.get(model), studio.uploads.locate(picture, "picture"), s, t,
                             (channel, row, column), seed)
