"""All pictures that were drawn: found again by their settings, marked, binned, and read from files."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from ornstein.studio import answers, gallery
from ornstein.studio.bodies import Id, Mark
from ornstein.studio.refusal import faults
from ornstein.studio.routes.files import RAW
from ornstein.studio.state import Used

router = APIRouter(prefix="/api/gallery", tags=["gallery"])
Word = Annotated[str | None, Query(max_length=128)]


@router.get("", response_model=answers.Page)
def search(studio: Used, q: Word = None, model: Word = None, kind: Word = None, label: Word = None,
           sampler: Word = None, seed: Word = None, nfe: Annotated[int | None, Query(ge=1, le=10**6)] = None,
           favourite: bool | None = None, bin: bool = False, before: Annotated[str | None, Query(max_length=40)] = None,
           limit: Annotated[int, Query(ge=1, le=200)] = 60) -> dict[str, Any]:
    """Pictures, newest first; `before` is the `next` of an earlier answer."""
    given = {"model": model, "kind": kind, "label": label, "sampler": sampler, "seed": seed, "nfe": nfe,
             "favourite": favourite}
    return gallery.search(studio.store, q, given, bin, before, limit)


@router.post("/read", response_model=answers.Read, openapi_extra=RAW)
async def read(request: Request, studio: Used) -> dict[str, Any]:
    """The settings inside a picture that Ornstein made, sent as the raw body, and the job that draws it again."""
    return gallery.read(studio.library, await gallery.body(request.stream(), studio.limits.upload))


@router.get("/{id}", response_model=answers.Picture, responses=faults(404))
def one(id: Id, studio: Used) -> dict[str, Any]:
    """One picture."""
    return gallery.get(studio.store, id)


@router.patch("/{id}", response_model=answers.Picture, responses=faults(404))
def change(id: Id, mark: Mark, studio: Used) -> dict[str, Any]:
    """Mark a picture as a favourite, or move it to the bin and back."""
    return gallery.mark(studio.store, id, mark.model_dump(exclude_none=True))


@router.delete("/{id}", status_code=204, responses=faults(404, 409))
def delete(id: Id, studio: Used) -> None:
    """Delete a picture that is in the bin, for good."""
    gallery.delete(studio.store, id)
