"""Routes of the gallery: search, mark and delete pictures, and read the settings inside a picture."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from ornstein.studio import gallery, responses
from ornstein.studio.errors import error_responses
from ornstein.studio.requests import Id, Mark
from ornstein.studio.routes.files import RAW_BODY
from ornstein.studio.state import CurrentStudio

router = APIRouter(prefix="/api/gallery", tags=["gallery"])
Word = Annotated[str | None, Query(max_length=128)]


@router.get("", response_model=responses.Page)
def search(studio: CurrentStudio, q: Word = None, model: Word = None, kind: Word = None, label: Word = None,
           sampler: Word = None, seed: Word = None, nfe: Annotated[int | None, Query(ge=1, le=10**6)] = None,
           favourite: bool | None = None, bin: bool = False, before: Annotated[str | None, Query(max_length=40)] = None,
           limit: Annotated[int, Query(ge=1, le=200)] = 60) -> dict[str, Any]:
    """Search the pictures, newest first; `before` is the `next` of an earlier response."""
    filters = {"model": model, "kind": kind, "label": label, "sampler": sampler, "seed": seed, "nfe": nfe,
               "favourite": favourite}
    return gallery.search(studio.store, q, filters, bin, before, limit)


@router.post("/read", response_model=responses.Read, openapi_extra=RAW_BODY)
async def read(request: Request, studio: CurrentStudio) -> dict[str, Any]:
    """Return the settings inside a picture of Ornstein, sent as the raw body, and the job that draws it again."""
    return gallery.read_settings(studio.library, await gallery.read_body(request.stream(), studio.limits.upload))


@router.get("/{id}", response_model=responses.Picture, responses=error_responses(404))
def one(id: Id, studio: CurrentStudio) -> dict[str, Any]:
    """Return one picture."""
    return gallery.get(studio.store, id)


@router.patch("/{id}", response_model=responses.Picture, responses=error_responses(404))
def change(id: Id, mark: Mark, studio: CurrentStudio) -> dict[str, Any]:
    """Mark a picture as a favourite, or move it into or out of the bin."""
    return gallery.mark(studio.store, id, mark.model_dump(exclude_none=True))


@router.delete("/{id}", status_code=204, responses=error_responses(404, 409))
def delete(id: Id, studio: CurrentStudio) -> None:
    """Delete a picture in the bin permanently."""
    gallery.delete(studio.store, id)
