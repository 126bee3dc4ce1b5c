"""The forward encoder on a picture: curves, kernel, posterior, each with its equation and its line of Python."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query

from ornstein.studio import answers, forward
from ornstein.studio.refusal import faults
from ornstein.studio.state import Used

router = APIRouter(prefix="/api/forward", tags=["forward"])
Time = Annotated[float, Query(ge=0, le=1)]
Name = Annotated[str | None, Query(max_length=200)]
Picture = Annotated[str, Query(pattern="^[0-9a-f]{16}$")]
Place = Annotated[int, Query(ge=0, le=10_000)]
Seed = Annotated[int, Query(ge=0, le=2**32)]


@router.get("/schedule", response_model=answers.Schedule, responses=faults(404, 409))
def schedule(studio: Used, model: Name = None, points: Annotated[int, Query(ge=2, le=1001)] = 201) -> dict[str, Any]:
    """Signal, noise and log SNR over time."""
    return forward.schedule(studio.library.get(model), points)


@router.get("/noised", response_model=answers.Noised, responses=faults(404, 409))
def noised(picture: Picture, t: Time, studio: Used, model: Name = None, seed: Seed = 0) -> dict[str, Any]:
    """A picture at time t, one draw of q(z_t | x), with its histogram."""
    return forward.noised(studio.library.get(model), studio.uploads.locate(picture, "picture"), t, seed)


@router.get("/kernel", response_model=answers.Kernel, responses=faults(404, 409))
def kernel(picture: Picture, t: Time, studio: Used, model: Name = None, row: Place = 0, column: Place = 0,
           channel: Place = 0) -> dict[str, Any]:
    """Mean and variance of q(z_t | x) for a pixel, as a curve."""
    return forward.kernel(studio.library.get(model), studio.uploads.locate(picture, "picture"), t,
                          (channel, row, column))


@router.get("/posterior", response_model=answers.Posterior, responses=faults(404, 409))
def posterior(picture: Picture, s: Time, t: Time, studio: Used, model: Name = None, row: Place = 0, column: Place = 0,
              channel: Place = 0, seed: Seed = 0) -> dict[str, Any]:
    """Mean and variance of q(z_s | z_t, x) for a pixel, s < t, as a curve."""
    return forward.posterior(studio.library.get(model), studio.uploads.locate(picture, "picture"), s, t,
                             (channel, row, column), seed)
